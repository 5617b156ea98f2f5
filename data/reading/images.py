"""Reading for callers: an image as 8-bit RGB, and its size.

Callers get an array or a ``DataError`` of one sentence. A file of more than 8 bits, or of other bands than Pillow
knows, is opened as a raster; Pillow reads all others. Letters: H W pixels.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.notes import TRANSPARENT, header_notes, is_deep, page_notes, shown
from slotseg.data.reading.pillow import (
    check_size,
    opened_file,
    opened_image,
    orientation,
    turned_size,
    upright_rgb,
    upright_size,
)
from slotseg.data.reading.rasters import ArrayRaster, Raster, deep_values
from slotseg.data.reading.rendering import MISSING, Rendering
from slotseg.data.reading.tiff_pages import TIFF_MARKS, tiff_page_notes
from slotseg.data.reading.tiff_rasters import open_tiff, tiff_size
from slotseg.errors import DataError
from slotseg.segment_config import ReadingConfig

MAX_PIXELS = 500_000_000
"""Largest number of pixels. Larger images are refused as likely decompression bombs."""

AS_TYPED = ReadingConfig()
"""Reading without a choice of bands and without a range."""

_RAW_SUFFIXES = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw")
_OPTION = "--max-pixels"


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS, reading: ReadingConfig = AS_TYPED) -> NDArray[np.uint8]:
    """Read any image as 8-bit RGB, upright by its EXIF orientation.

    Transparency is laid over white. More than 8 bits become 8 by the range of ``reading``, or of their type, never by
    the image's own minimum and maximum. An animation gives its first frame. Threads take turns with Pillow, because its
    pixel limit is a global: decode in parallel with processes.

    Args:
        path: File of the image. Its content decides the format, not its suffix.
        max_pixels: Largest accepted height x width.
        reading: Bands and range.

    Returns:
        Writable contiguous array, shape ``(H, W, 3)``.

    Raises:
        DataError: If the file is missing, empty, damaged, too large, no image, or holds values whose range is unknown.
    """
    return np.ascontiguousarray(_read(Path(path), max_pixels, shown(path), "max_pixels", reading)[0][:, :, :3])


def read_with_notes(
    source: Path | str | bytes, max_pixels: int = MAX_PIXELS, name: str = "", reading: ReadingConfig = AS_TYPED
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read any image as ``read_image`` does, say where it is no picture, and note what was left out or changed.

    Args:
        source: File, or its content.
        max_pixels: Largest accepted height x width.
        name: Name of the image in messages; by default its path.
        reading: Bands and range.

    Returns:
        RGB, ``(H, W, 3)``. Where some pixels are no picture (no data, masked, wholly transparent), there is a fourth
        channel: 0 for these, 255 for picture. With it notes: short texts, such as ``the first of 5 pages``.

    Raises:
        DataError: In the cases of ``read_image``, and if it is a raw file of a camera.
    """
    name = name or shown(source)
    if name.lower().endswith(_RAW_SUFFIXES):  # Pillow would take some for a TIFF and give their thumbnail
        raise DataError(f"{name} is a camera's raw file; expected a finished photo: develop it to JPEG or TIFF")
    source = Path(source) if isinstance(source, str) else source
    return _read(source, max_pixels, name, _OPTION, reading)


def open_raster(
    source: Path | bytes, max_pixels: int, name: str, allowed_by: str, reading: ReadingConfig
) -> Raster | None:
    """Open a file as a raster; None if Pillow is to read it.

    Raises:
        DataError: If there is no such file, or it is empty or too large, or a TIFF of a kind that nothing here reads.
    """
    with opened_file(source, name) as file:
        head = file.read(32)
    if head[:4] in TIFF_MARKS:
        raster = open_tiff(source, name, always=bool(reading.bands))
        if raster is not None:
            check_size(*raster.facts.size_hw, name, max_pixels, allowed_by)
        return raster
    if head[:4] != b"\x89PNG" and head[:2] not in (b"P5", b"P6", b"\0\0", b"\xff\x4f"):
        return None
    with opened_image(source, max_pixels, name=name, allowed_by=allowed_by) as image:
        if not is_deep(image):
            return None
        turn = orientation(image)
        with opened_file(source, name) as file:
            return ArrayRaster(name, deep_values(image, file.read(), name), turn)


def image_size(source: Path | str | bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Upright height and width that ``read_image`` would give, from the header of a file or of its content.

    Raises:
        DataError: If the file is missing, empty, too large or no image.
    """
    name = shown(source)
    with opened_file(source, name) as file:
        is_tiff = file.read(4) in TIFF_MARKS
    found = tiff_size(Path(source) if isinstance(source, str) else source) if is_tiff else None
    if found is not None:
        check_size(*found[0], name, max_pixels, "max_pixels")
        return turned_size(*found)
    with opened_image(source, max_pixels) as image:
        return upright_size(image)


def split_missing(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Pixels of ``read_with_notes`` as RGB, ``(H, W, 3)``, and those that are no picture, ``(H, W)``; None for none."""
    if pixels.shape[2] == 3:
        return pixels, None
    return np.ascontiguousarray(pixels[:, :, :3]), pixels[:, :, 3] == 0


def _read(
    source: Path | bytes, max_pixels: int, name: str, allowed_by: str, reading: ReadingConfig
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    raster = open_raster(source, max_pixels, name, allowed_by, reading)
    if raster is not None:
        rendering = Rendering(raster, reading)
        return rendering.upright(), rendering.notes
    with opened_image(source, max_pixels, name=name, allowed_by=allowed_by) as image:
        notes = header_notes(image)
        pixels, transparent = upright_rgb(image, name)
        pages = tiff_page_notes(source) if image.format == "TIFF" else page_notes(image)
        notes += ((TRANSPARENT,) if transparent else ()) + ((MISSING,) if pixels.shape[2] == 4 else ())
        return pixels, pages + notes
