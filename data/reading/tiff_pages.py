"""Pages of a TIFF: which belong to its first picture, which are overviews or masks, and which are further pictures."""

import io
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF, of a BigTIFF too."""

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_BANDS = 64  # a last axis of at most so many values is one of bands
_AUXILIARY = 64  # pages that are asked whether they are overviews; the writers put these first


@contextmanager
def opened(source: Path | bytes) -> "Iterator[TiffFile]":
    """Open a TIFF with tifffile, whose warnings stay away from the screen."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said by us
    with tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as tiff:
        yield tiff


def mask_page(tiff: "TiffFile") -> "TiffPage | None":
    """The page that says which pixels of the first are shown; GDAL puts it behind that."""
    first = tiff.pages.first
    if len(tiff.pages) < 2:
        return None
    second: Any = tiff.pages[1]
    is_mask = int(getattr(second, "subfiletype", 0)) & (_MASK | _REDUCED) == _MASK
    return (
        second if is_mask and (second.imagelength, second.imagewidth) == (first.imagelength, first.imagewidth) else None
    )


def tiff_page_notes(source: Path | bytes) -> tuple[str, ...]:
    """Note on pictures behind the first of a TIFF; the page of an overview or a mask is none."""
    try:
        with opened(source) as tiff:
            return page_notes(tiff, ())
    except Exception:  # damage behind the first page raises nearly anything and is no reason to lose it
        return ("the first page; those behind it are damaged",)


def page_notes(tiff: "TiffFile", channels: Sequence[int]) -> tuple[str, ...]:
    """Note on pictures behind the first. Overviews and masks are none."""
    number = len(tiff.pages)
    if number == 1:
        return ()
    some = [tiff.pages[i] for i in range(1, min(number, _AUXILIARY))]
    auxiliary = sum(int(getattr(page, "subfiletype", 0)) & (_REDUCED | _MASK) > 0 for page in some)
    pages = (number - auxiliary) // max(1, len(channels))
    return (f"the first of {pages} pages",) if pages > 1 else ()


def stacked(tiff: "TiffFile") -> bool:
    """Whether pages are the channels of a picture, as microscopes write them."""
    return bool((tiff.is_ome or tiff.is_imagej) and len(tiff.pages) > 1 and "C" in tiff.series[0].axes)


def channels_of(tiff: "TiffFile", page: "TiffPage") -> tuple[int, ...]:
    """Numbers of the pages that hold a channel each of the first picture; empty if the first page holds all."""
    if not stacked(tiff) or page.samplesperpixel > 1:
        return ()
    series = tiff.series[0]
    sizes = dict(zip(series.axes, series.shape, strict=True))
    others = [axis for axis in series.axes if axis not in "YX"]
    stride = math.prod(sizes[axis] for axis in others[others.index("C") + 1 :])
    number = min(sizes["C"], _MOST_BANDS)
    return tuple(stride * channel for channel in range(number)) if number * stride <= len(tiff.pages) else ()


def band_names(tiff: "TiffFile") -> tuple[str, ...]:
    """Names of an OME file's channels."""
    import tifffile

    try:
        image = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
        image = image[0] if isinstance(image, list | tuple) else image
        channels = image["Pixels"]["Channel"]
        return tuple(str(c["Name"]) for c in (channels if isinstance(channels, list | tuple) else [channels]))
    except Exception:  # a name is nice to have
        return ()


def is_sliver(tiff: "TiffFile", page: "TiffPage") -> bool:
    """Whether rows were taken for pages: an array (H, W, 5) that was written without saying what its axes are."""
    return bool(tiff.is_shaped and len(tiff.pages) > 8 and page.imagewidth <= 8 and page.samplesperpixel == 1)
