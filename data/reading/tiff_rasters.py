"""TIFFs of satellites, microscopes and scanners as rasters, decoded by tifffile with imagecodecs.

Pillow stays the reader of the plain ones: 8 bits, grey or RGB, nothing hidden. Source: TIFF 6.0; the tags of GeoTIFF
and GDAL (42113, no data). Letters: H W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.rasters import GRADED, MASK, Raster, RasterFacts, Values
from slotseg.data.reading.tiff_pages import band_names, channels_of, is_sliver, mask_page, opened, page_notes, stacked
from slotseg.data.reading.tiff_rows import rows_of, unwritten
from slotseg.errors import DataError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _YCBCR = 0, 1, 2, 5, 6
_JPEG, _SEPARATE = (6, 7), 2
_PILLOW_READS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)  # compressions of which it decodes a TIFF block by block
_LZMA, _ZSTD = 34925, 50000  # it decodes these too, the whole of a TIFF at once
_NODATA, _GEO_KEYS, _PIXEL_SCALE, _TIE_POINTS = 42113, 34735, 33550, 33922
_ALPHA_ROWS = 2048  # rows that are looked at to learn of what kind an alpha is
_FEW = 0.02  # share of half-shown pixels up to which an alpha is a mask: the edges of resampled orthophotos have some


def open_tiff(source: Path | bytes, name: str, *, always: bool = False) -> Raster | None:
    """Open a TIFF as a raster.

    Args:
        source: File, or its content.
        name: Name in messages.
        always: Whether to open it though Pillow reads it right.

    Returns:
        The raster; None if Pillow reads it right, or tifffile cannot make sense of it.

    Raises:
        DataError: If neither Pillow nor tifffile reads its kind.
    """
    try:
        with opened(source) as tiff:
            page = tiff.pages.first
            if not always and _pillow_reads(tiff, page):
                return None
            channels = channels_of(tiff, page)
            _check_kind(tiff, page, name)
            raster = _TiffRaster(tiff, name, _facts(tiff, page, channels), channels)
            return _with_alpha(raster, page)
    except (DataError, MemoryError, ImportError, NameError):  # no fault of the file: Pillow might show noise
        raise
    except Exception:  # a damaged header raises nearly anything; Pillow says what is wrong with it
        return None


def tiff_size(source: Path | bytes) -> tuple[tuple[int, int], int] | None:
    """Stored height and width of a TIFF, and its EXIF orientation; None if tifffile cannot make sense of it."""
    try:
        with opened(source) as tiff:
            page = tiff.pages.first
            return (page.imagelength, page.imagewidth), _turn(page)
    except (ImportError, NameError):
        raise
    except Exception:  # Pillow says what is wrong with it
        return None


class _TiffRaster(Raster):
    """Values of the first picture of a TIFF. Its header is read once; its file is open while values are read.

    Args:
        tiff: The file.
        name: Name in messages.
        facts: Facts about it.
        channels: Numbers of the pages that hold a band each; empty if the first page holds all.
    """

    def __init__(self, tiff: "TiffFile", name: str, facts: RasterFacts, channels: Sequence[int]) -> None:
        super().__init__(name, facts)
        self._tiff, self._first = tiff, tiff.pages.first
        self._pages: list[Any] = [tiff.pages.get(channel, validate=False) for channel in channels]
        self._mask = mask_page(tiff)

    def values(self, top: int, bottom: int, bands: Sequence[int]) -> Values:
        """Values of some rows."""
        with self._reading():
            if not self._pages:
                return rows_of(self._tiff, self._first, top, bottom, bands)
            parts = [rows_of(self._tiff, self._pages[band], top, bottom, (0,)) for band in bands]
            return np.concatenate(parts, axis=2)

    def alpha(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Alpha of some rows."""
        values = self.values(top, bottom, (self.facts.num_bands,))[:, :, 0]
        return values if values.dtype == np.uint8 else (values >> (8 * values.dtype.itemsize - 8)).astype(np.uint8)

    def hidden(self, top: int, bottom: int) -> NDArray[np.bool_] | None:
        """Pixels that the page of a mask hides, or that lie in blocks that were never written."""
        if self._mask is not None:
            with self._reading():
                shows: NDArray[np.bool_] = rows_of(self._tiff, self._mask, top, bottom, (0,))[:, :, 0] != 0
                return ~shows
        if self._pages or 0 not in self._first.databytecounts:
            return None
        return unwritten(self._first, top, bottom)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        file = self._tiff.filehandle
        was_closed = file.closed
        try:
            file.open()
            yield
        except (DataError, MemoryError):
            raise
        except Exception as error:  # on damaged files decoders raise nearly anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{self.name} cannot be decoded ({reason}): copy it again or leave it out") from error
        finally:
            if was_closed:
                file.close()


def _pillow_reads(tiff: "TiffFile", page: "TiffPage") -> bool:
    """Whether Pillow gives the right colours of all that the first page shows."""
    photometric, samples, alpha = int(page.photometric), page.samplesperpixel, _has_alpha(page)
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        colors = samples == 1
    elif photometric in (_RGB, _YCBCR):
        colors = samples == 3
    else:  # palettes, CMYK and the like are its own
        depths = (1, 2, 4, 8, 16) if photometric == _CMYK and int(page.planarconfig) != _SEPARATE else (1, 2, 4, 8)
        return int(page.compression) in (*_PILLOW_READS, _LZMA, _ZSTD) and page.bitspersample in depths
    return (
        colors
        and not alpha
        and page.bitspersample in ((1, 2, 4, 8) if samples == 1 else (8,))
        and page.sampleformat in (1, None)
        and int(page.compression) in _PILLOW_READS
        and (samples == 1 or int(page.planarconfig) != _SEPARATE)
        and _nodata(page) is None
        and 0 not in page.databytecounts
        and mask_page(tiff) is None
        and not is_sliver(tiff, page)
        and not stacked(tiff)
    )


def _check_kind(tiff: "TiffFile", page: "TiffPage", name: str) -> None:
    """Refuse what no range makes a picture of."""
    if is_sliver(tiff, page):
        raise DataError(
            f"{name} holds {len(tiff.pages)} pages of {page.imagewidth} x {page.imagelength} pixels, an array whose "
            "axes were not said; expected one page of bands: write it again with planarconfig='contig'"
        )
    samples, photometric = page.samplesperpixel, int(page.photometric)
    what = ""
    if page.dtype is None or page.dtype.kind not in "uif" or page.dtype.itemsize > 8:
        kinds = {"c": "complex values", "b": "one bit a pixel"}
        what = kinds.get(page.dtype.kind if page.dtype is not None else "", f"values of {page.bitspersample} bits")
    elif photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
        what = f"colours of the kind {getattr(page.photometric, 'name', photometric)} in {page.bitspersample} bits"
    if what:
        bands = f"{samples} bands of " if samples > 1 else ""
        raise DataError(
            f"{name} holds {bands}{what}; expected whole or float numbers, grey or RGB: convert it with "
            "gdal_translate or the program that made it"
        )


def _facts(tiff: "TiffFile", page: "TiffPage", channels: Sequence[int]) -> RasterFacts:
    dtype = np.dtype(page.dtype).newbyteorder("=")
    num_bands = len(channels) or page.samplesperpixel - _has_alpha(page)
    rows = page.tilelength if page.is_tiled else page.rowsperstrip
    return RasterFacts(
        size_hw=(page.imagelength, page.imagewidth),
        num_bands=num_bands,
        dtype=dtype,
        bits=page.bitspersample,
        turn=_turn(page),
        inverted=int(page.photometric) == _WHITE_IS_ZERO,
        nodata=_nodata(page),
        band_names=band_names(tiff) if channels else (),
        block_rows=max(1, min(rows, page.imagelength)) if not page.is_contiguous else 256,
        notes=page_notes(tiff, channels),
    )


def _turn(page: "TiffPage") -> int:
    turn = page.tags.valueof(274, 1)
    return int(turn) if turn in range(1, 9) else 1


def _has_alpha(page: "TiffPage") -> bool:
    """Whether the last band says that it is transparency. What is opaque is not known of signed and float values."""
    whole = page.dtype is not None and page.dtype.kind == "u"
    return whole and page.samplesperpixel > 1 and bool(page.extrasamples) and int(page.extrasamples[-1]) in (1, 2)


def _with_alpha(raster: _TiffRaster, page: "TiffPage") -> Raster | None:
    """The raster with what its alpha is: GDAL marks any fourth band of 8 bits as one, near infrared too.

    One of 0 and 255 alone shows and hides. One of many values is transparency, unless the file has a place on Earth.
    """
    if not _has_alpha(page):
        return raster
    height = raster.facts.size_hw[0]
    step = max(1, raster.facts.block_rows)
    tops = list(range(0, height, step))
    looked = tops[:: max(1, len(tops) * step // _ALPHA_ROWS)]
    seen = np.zeros(256, np.int64)
    for top in looked:
        seen += np.bincount(raster.alpha(top, min(top + step, height)).ravel(), minlength=256)
    lossy = 16 if int(page.compression) in _JPEG else 1  # JPEG blurs the edges of a mask
    between = seen[lossy : 256 - lossy].sum() / seen.sum()
    placed = any(tag in page.tags for tag in (_GEO_KEYS, _PIXEL_SCALE, _TIE_POINTS))
    if between <= _FEW:
        raster.facts = replace(raster.facts, alpha="" if seen[255] == seen.sum() else MASK)
    elif placed or page.samplesperpixel not in (2, 4):
        raster.facts = replace(raster.facts, num_bands=page.samplesperpixel)
    else:
        raster.facts = replace(raster.facts, alpha=GRADED)
    return raster


def _nodata(page: "TiffPage") -> float | None:
    """GDAL's value of no data; None where there is none, or it is no number."""
    value = page.tags.valueof(_NODATA, None)
    try:
        return None if value is None else float(str(value).strip("\0 "))
    except ValueError:
        return None
