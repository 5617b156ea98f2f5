"""Reading for callers: an image as 8-bit RGB, a label map as its ids, and the size of both.

Callers get an array or a ``DataError`` of one sentence. Letters: H W pixels.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from slotseg.data.reading.notes import TRANSPARENT, header_notes, page_notes, pixel_notes, shown
from slotseg.data.reading.pillow import SIDEWAYS, as_stored, opened_image, turn_of, upright_rgb, upright_size
from slotseg.errors import DataError

MAX_PIXELS = 500_000_000
"""Largest number of pixels. Larger images are refused as likely decompression bombs."""

_RAW_SUFFIXES = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw")
_GRAY_STRETCH = {"L;2": 85, "L;4": 17}  # Pillow stretches grey of 2 and 4 bits to 0..255


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


def read_label(path: Path | str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read the ids of a label map as they are stored, never through a palette or a grey scale.

    Args:
        path: File of the label map, an indexed or grey PNG or TIFF. A file of one bit holds the ids 0 and 1.
        max_pixels: Largest accepted height x width.

    Returns:
        Writable contiguous array, shape ``(H, W)``, of ``uint8``, or of ``uint16`` for deeper files.

    Raises:
        DataError: In the cases of ``read_image``, and if the file is lossy, in colour, or has ids beyond 65535.
    """
    with opened_image(Path(path), max_pixels) as image:
        if image.format not in ("PNG", "TIFF"):
            raise DataError(
                f"{path} is a {image.format} file, but a label map must keep its ids exactly: save it as PNG"
            )
        if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
            raise DataError(
                f"{path} is a colour image (mode {image.mode}), but a label map holds one class id per "
                "pixel: convert its colours to ids and save them as an indexed or grey PNG"
            )
        turn, stretch = turn_of(image), _gray_stretch(image)
        image.load()  # a TIFF changes its size here
        stored = np.asarray(image)
        ids = np.empty(stored.T.shape if turn in SIDEWAYS else stored.shape, stored.dtype)
        as_stored(ids, turn)[:] = stored
    if ids.dtype.itemsize == 1:
        return ids.astype(np.uint8) // np.uint8(stretch)
    if ids.min() < 0 or ids.max() > 65535:
        raise DataError(f"{path} has ids from {ids.min()} to {ids.max()}; expected 0..65535: renumber them")
    return ids.astype(np.uint16)


def image_size(source: Path | str | bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Upright height and width that ``read_image`` would give, from the header of a file or of its content.

    Raises:
        DataError: If the file is missing, empty, too large or no image.
    """
    with opened_image(source, max_pixels) as image:
        return upright_size(image)


def _gray_stretch(image: ImageFile) -> int:
    """Factor by which Pillow will multiply the stored grey values. Call this before the pixels are loaded."""
    args = image.tile[0][3] if image.tile else None
    raw_mode = args[0] if isinstance(args, tuple) else args
    return _GRAY_STRETCH.get(str(raw_mode), 1)
