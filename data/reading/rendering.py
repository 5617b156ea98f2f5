"""RGB of a raster: some of its bands, mapped by a range, and where it is no picture.

Values from LOW to HIGH become 0 to 255 in bins of one width, and others 0 or 255:
``floor(256 (v - LOW) / (HIGH - LOW + 1))`` for whole numbers. LOW 0 and HIGH 65,535 thus give the high byte.
The range is one for a whole collection of photos, never a photo's own. Letters: H W pixels.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.amounts import listed
from slotseg.data.reading.notes import DARK, DEEP, TRANSPARENT
from slotseg.data.reading.pillow import as_stored, turned_size
from slotseg.data.reading.rasters import GRADED, Raster, Values
from slotseg.errors import DataError
from slotseg.segment_config import ReadingConfig

MISSING_COLOR = (124, 116, 104)
"""RGB of pixels that are no picture, the mean colour of ImageNet: what a network makes least of."""
MISSING = "pixels that are no picture are left out"

_ROWS = 1024


class Rendering:
    """RGB of a raster, in bands of rows.

    Args:
        raster: The values.
        reading: Bands and range. Without bands: the first three, or the first of fewer. Without a range: that of the
            type.

    Attributes:
        notes: Notes on what was left out or changed, so far.

    Raises:
        DataError: If the raster has no such band, or its type has no range and none is given.
    """

    def __init__(self, raster: Raster, reading: ReadingConfig) -> None:
        facts = raster.facts
        self.raster, self.facts = raster, facts
        self.bands = chosen_bands(raster, reading)
        pairs = reading.ranges(len(self.bands))
        if not pairs or (facts.dtype == np.uint8 and facts.full):  # 8 bits are what they are
            if facts.full is None:
                raise DataError(
                    f"{raster.name} holds {_kind(facts.dtype)} values, whose range is unknown; expected the range "
                    "that its folder was trained with: give --range LOW,HIGH"
                )
            pairs = (facts.full,) * len(self.bands)
        self.pairs = pairs
        self._brightest = 0
        self._missing = self._transparent = False

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width as they are stored."""
        return self.facts.size_hw

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what was left out or changed, so far."""
        facts, notes = self.facts, list(self.facts.notes)
        if len(self.bands) < facts.num_bands:
            notes.append(_bands_note(self.bands, facts.num_bands, facts.band_names))
        deep = facts.dtype != np.uint8
        if deep and facts.full and self.pairs[0] == facts.full:
            notes.append(DEEP if facts.bits == 16 else f"the upper 8 of {facts.bits} bits")
            if 0 < self._brightest < DARK:
                notes.append(f"nearly black, its brightest value is {self._brightest} of 255: --range helps")
        if self._transparent:
            notes.append(TRANSPARENT)
        if self._missing:
            notes.append(MISSING)
        return tuple(notes)

    def rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """RGB of the rows ``top`` to ``bottom``, exclusive, as they are stored: ``(bottom - top, W, 3)``.

        Where some are no picture, there is a fourth channel: 255 for picture, 0 for none.

        Raises:
            DataError: If they cannot be decoded.
        """
        raster, facts = self.raster, self.facts
        values = raster.values(top, bottom, self.bands)
        missing = _missing(values, facts.nodata)
        hidden = raster.hidden(top, bottom)
        alpha = raster.alpha(top, bottom) if facts.alpha else None
        for some in (hidden, alpha == 0 if alpha is not None else None):
            if some is not None:
                missing = some if missing is None else missing | some
        pixels = eight_bits(values, self.pairs)
        if facts.inverted:
            pixels = 255 - pixels
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        if facts.alpha == GRADED and alpha is not None and alpha.min() < 255:
            self._transparent = True
            share = alpha[:, :, None].astype(np.uint16)
            pixels = ((pixels * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
        if missing is None or not missing.any():
            self._brightest = max(self._brightest, int(pixels.max()))
            return pixels
        self._missing = True
        shown = pixels[~missing]
        self._brightest = max(self._brightest, int(shown.max()) if len(shown) else 0)
        pixels[missing] = MISSING_COLOR
        return np.dstack([pixels, np.where(missing, 0, 255).astype(np.uint8)])

    def upright(self) -> NDArray[np.uint8]:
        """All of it, upright: ``(H, W, 3)``, or ``(H, W, 4)`` where some of it is no picture."""
        height = self.size_hw[0]
        whole = [self.rows(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]
        channels = max(part.shape[2] for part in whole)
        pixels = np.empty((*turned_size(self.size_hw, self.facts.turn), channels), np.uint8)
        stored, top = as_stored(pixels, self.facts.turn), 0
        while whole:
            part = whole.pop(0)
            stored[top : top + len(part), :, : part.shape[2]] = part
            stored[top : top + len(part), :, part.shape[2] :] = 255
            top += len(part)
        return pixels


def chosen_bands(raster: Raster, reading: ReadingConfig) -> tuple[int, ...]:
    """Bands to take of a raster, from 0.

    Raises:
        DataError: If it has no such band.
    """
    number = raster.facts.num_bands
    if reading.bands and max(reading.bands) > number and number > 1:
        raise DataError(
            f"{raster.name} has {number} bands and band {max(reading.bands)} is asked for; expected bands from 1 to "
            f"{number}: change --bands or leave it out"
        )
    if reading.bands and number > 1:
        return tuple(band - 1 for band in reading.bands)
    return (0, 1, 2) if number >= 3 else (0,)


def eight_bits(values: Values, pairs: Sequence[tuple[float, float]]) -> NDArray[np.uint8]:
    """Values ``(H, W, bands)`` as 8 bits by the range of each band. Not-a-number becomes 0."""
    if values.dtype == np.uint8 and all(pair == (0, 255) for pair in pairs):
        return np.array(values)
    if values.dtype.itemsize <= 2 and values.dtype.kind in "ui":
        tables = [_table(values.dtype.str[1:], *pair) for pair in pairs]
        words = values.view(values.dtype.str.replace("i", "u"))
        if len(set(pairs)) == 1:
            return np.take(tables[0], words)
        return np.stack([np.take(table, words[:, :, i]) for i, table in enumerate(tables)], axis=2)
    low, high = np.array(pairs, np.float64).T
    step = 1 if values.dtype.kind in "ui" else 0
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (values.astype(np.float64) - low) * (256 / (high - low + step))
    clipped: NDArray[np.float64] = np.nan_to_num(scaled, nan=0.0).clip(0, 255)
    return clipped.astype(np.uint8)


@lru_cache(16)
def _table(kind: str, low: float, high: float) -> NDArray[np.uint8]:
    """8 bits for each value of a small type, looked up by its bits."""
    dtype = np.dtype(kind)
    words = np.arange(2 ** (8 * dtype.itemsize)).astype(kind.replace("i", "u")).view(dtype)
    scaled = np.floor((words.astype(np.float64) - low) * 256 / (high - low + 1))
    return scaled.clip(0, 255).astype(np.uint8)


def _missing(values: Values, nodata: float | None) -> NDArray[np.bool_] | None:
    """Pixels whose bands all hold the value of no data, or where one is not a number, ``(H, W)``; None for none."""
    nans: NDArray[np.bool_] | None = None
    if values.dtype.kind == "f":
        nans = np.asarray(np.isnan(values).any(axis=2))
    if nodata is None or np.isnan(nodata):
        return nans
    with np.errstate(over="ignore"):
        value = np.float64(nodata).astype(values.dtype)
    if values.dtype.kind in "ui" and value != nodata:  # no value of this type
        return nans
    same: NDArray[np.bool_] = values[:, :, 0] == value
    for band in range(1, values.shape[2]):
        same &= values[:, :, band] == value
    return same if nans is None else same | nans


def _bands_note(bands: Sequence[int], number: int, names: Sequence[str]) -> str:
    taken = [str(band + 1) for band in bands]
    of = f"band {taken[0]} of {number}" if len(taken) == 1 else f"bands {listed(taken)} of {number}"
    if len(names) == number:
        of += f" ({', '.join(names[band] for band in bands)})"
    return of


def _kind(dtype: np.dtype[Any]) -> str:
    bits = 8 * dtype.itemsize
    return {"f": f"{bits}-bit float", "i": f"signed {bits}-bit"}.get(dtype.kind, f"{bits}-bit")
