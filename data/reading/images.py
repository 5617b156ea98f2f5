"""Reading for callers: an image as 8-bit RGB, and its size.

Callers get an array or a ``DataError`` of one sentence. Letters: H W pixels.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.notes import TRANSPARENT, header_notes, page_notes, pixel_notes, shown
from slotseg.data.reading.pillow import opened_image, upright_rgb, upright_size
from slotseg.errors import DataError

MAX_PIXELS = 500_000_000
"""Largest number of pixels. Larger images are refused as likely decompression bombs."""

_RAW_SUFFIXES = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw")


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read any image as 8-bit RGB, upright by its EXIF orientation.

    Transparency is laid over white. 16 bits become 8 by their high byte, never by the image's own minimum and
    maximum. An animation gives its first frame. Threads take turns, because Pillow's pixel limit is a global:
    decode in parallel with processes.

    Args:
        path: File of the image. Its content decides the format, not its suffix.
        max_pixels: Largest accepted height x width.

    Returns:
        Writable contiguous array, shape ``(H, W, 3)``.

    Raises:
        DataError: If the file is missing, empty, damaged, too large, no image, or holds 32-bit or
            float values, whose range is unknown.
    """
    with opened_image(Path(path), max_pixels) as image:
        return upright_rgb(image, shown(path))[0]


def read_with_notes(
    source: Path | str | bytes, max_pixels: int = MAX_PIXELS, name: str = ""
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read any image as ``read_image`` does, and note what was left out or changed.

    Args:
        source: File, or its content.
        max_pixels: Largest accepted height x width.
        name: Name of the image in messages; by default its path.

    Returns:
        The array of ``read_image``, and notes: short texts, such as ``the first of 5 pages``.

    Raises:
        DataError: In the cases of ``read_image``, and if it is a raw file of a camera.
    """
    name = name or shown(source)
    if name.lower().endswith(_RAW_SUFFIXES):  # Pillow would take some for a TIFF and give their thumbnail
        raise DataError(f"{name} is a camera's raw file; expected a finished photo: develop it to JPEG or TIFF")
    with opened_image(source, max_pixels, name=name, allowed_by="--max-pixels") as image:
        notes = header_notes(image)
        pixels, transparent = upright_rgb(image, name)
        if transparent:
            notes += (TRANSPARENT,)
        return pixels, page_notes(image) + notes + pixel_notes(pixels, notes)


def image_size(source: Path | str | bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Upright height and width that ``read_image`` would give, from the header of a file or of its content.

    Raises:
        DataError: If the file is missing, empty, too large or no image.
    """
    with opened_image(source, max_pixels) as image:
        return upright_size(image)
