"""A look at some photos of a collection before a training: the range of their values, and what reading them changes.

Values of more than 8 bits that use a part of their type's range need one range for the whole collection. It goes from
the 1st to the 99th percentile of what is seen. Letters: B bands.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.amounts import count, listed
from slotseg.data.reading.images import MAX_PIXELS, open_raster, read_with_notes
from slotseg.data.reading.notes import shown
from slotseg.data.reading.rasters import Raster
from slotseg.data.reading.rendering import Rendering, chosen_bands
from slotseg.errors import DataError
from slotseg.segment_config import ReadingConfig

MOST_PHOTOS = 64
"""Most photos that are looked at, evenly spread."""
PERCENTILES = (1, 99)
"""Percentiles of the values that become 0 and 255."""
FULL_SHARE = 0.5
"""Share of a type's range between the percentiles from which on values are said to use all of it."""

_MOST_VALUES = 1 << 14  # of a photo and band
_ROWS = 64  # rows that are read at once, at most so many times of a photo
_TIMES = 8
_SUFFIXES = (".tif", ".tiff", ".png", ".ppm", ".pgm", ".jp2", ".gif", ".webp")  # formats that may hold a surprise


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was seen of a collection."""

    reading: ReadingConfig
    """Bands and range to read it with."""
    found: str = ""
    """Origin of the range where it was found here, for people."""
    num_looked: int = 0
    """Number of photos that were looked at."""
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Number of photos that each note is on, and the name of the first."""

    def lines(self, num_photos: int) -> list[str]:
        """Sentences on the notes; ``num_photos`` is the number of the whole collection."""
        of = count(self.num_looked, "photo") + (" looked at" if self.num_looked < num_photos else "")
        return [f"{number} of {of}: {note} ({first})" for note, (number, first) in self.notes.items()]


def survey(paths: Sequence[Path], reading: ReadingConfig) -> Survey:
    """Look at some photos. Those that cannot be read are left to the training, which names them.

    Args:
        paths: Files of the collection.
        reading: Bands and range as far as they are given.

    Raises:
        DataError: If a band is asked for that a photo has not.
    """
    number = min(len(paths), MOST_PHOTOS)
    sample = [paths[i * len(paths) // number] for i in range(number)]
    found = ""
    if not reading.range:
        values = [v for path in sample for v in _values(path, reading)]
        found_range = _range(values)
        if found_range:
            reading = replace(reading, range=found_range)
            found = f"auto: the {listed([f'{p}.' for p in PERCENTILES])} percentile of {count(len(values), 'photo')}"
    notes: dict[str, tuple[int, str]] = {}
    for path in sample:
        for note in _notes(path, reading):
            so_far, first = notes.get(note, (0, shown(path)))
            notes[note] = (so_far + 1, first)
    return Survey(reading=reading, found=found, num_looked=number, notes=notes)


@dataclass(frozen=True)
class _Seen:
    """Values of a photo's bands, ``(values, B)``, and those of black and white by their type."""

    values: NDArray[Any]
    full: tuple[float, float] | None


def _values(path: Path, reading: ReadingConfig) -> Iterator[_Seen]:
    """Some values of a photo of more than 8 bits."""
    raster = _raster(path, reading)
    if raster is None or (raster.facts.dtype == np.uint8 and raster.facts.full):
        return
    bands = chosen_bands(raster, reading)
    any_range = replace(reading, range=(0.0, 1.0))  # only where there is picture matters here
    rendering, parts = Rendering(raster, any_range), []
    for top, bottom in _spans(raster):
        try:
            values, pixels = raster.values(top, bottom, bands), rendering.rows(top, bottom)
        except DataError:
            return
        shown_ = values[pixels[:, :, 3] > 0] if pixels.shape[2] == 4 else values.reshape(-1, len(bands))
        parts.append(shown_[np.isfinite(shown_).all(axis=1)] if values.dtype.kind == "f" else shown_)
    values = np.concatenate(parts)
    if len(values):
        yield _Seen(values[:: max(1, len(values) // _MOST_VALUES)], raster.facts.full)


def _range(seen: Sequence[_Seen]) -> tuple[float, ...]:
    """The range of some photos' values; empty if there are none, or they use all of their type's range."""
    if not seen:
        return ()
    bands = min(s.values.shape[1] for s in seen)
    each = bands == max(s.values.shape[1] for s in seen)  # else one range for grey and colours
    values = [s.values if each else s.values.reshape(-1, 1) for s in seen]
    low, high = np.percentile(np.concatenate(values).astype(np.float64), PERCENTILES, axis=0)
    fulls = [s.full for s in seen]
    if all(full is not None for full in fulls):
        width = max(full[1] - full[0] for full in fulls if full is not None)
        if (high - low).max() >= FULL_SHARE * width:
            return ()
    whole = all(v.dtype.kind in "ui" for v in values)
    pairs = [_pair(float(a), float(b), whole) for a, b in zip(low, high, strict=True)]
    return tuple(v for pair in (pairs[:1] if len(set(pairs)) == 1 else pairs) for v in pair)


def _pair(low: float, high: float, whole: bool) -> tuple[float, float]:
    """Bounds that a person can read, LOW below HIGH."""
    if whole:
        return float(np.floor(low)), float(max(np.ceil(high), np.floor(low) + 1))
    digits = 3 - int(np.floor(np.log10(max(abs(low), abs(high), 1e-30))))
    low, high = round(low, digits), round(high, digits)
    return low, high if high > low else low + 10.0**-digits


def _notes(path: Path, reading: ReadingConfig) -> tuple[str, ...]:
    """Notes on a photo, read in part if it is a raster."""
    if path.suffix.lower() not in _SUFFIXES:
        return ()
    try:
        raster = open_raster(path, MAX_PIXELS, shown(path), "max_pixels", reading)
        if raster is None:
            return read_with_notes(path)[1]
        rendering = Rendering(raster, reading)
        for top, bottom in _spans(raster):
            rendering.rows(top, bottom)
    except DataError:
        return ()
    return rendering.notes


def _raster(path: Path, reading: ReadingConfig) -> Raster | None:
    if path.suffix.lower() not in _SUFFIXES:
        return None
    try:
        return open_raster(path, MAX_PIXELS, shown(path), "max_pixels", reading)
    except DataError:
        return None


def _spans(raster: Raster) -> list[tuple[int, int]]:
    """Rows to look at: all of a small photo, some bands of a large one."""
    height, width = raster.facts.size_hw
    if height * width <= _TIMES * _MOST_VALUES * 16:
        return [(0, height)]
    tops = [i * (height - _ROWS) // (_TIMES - 1) for i in range(_TIMES)] if height > _TIMES * _ROWS else [0]
    return [(top, min(top + _ROWS, height)) for top in tops]
