"""Reading of label maps and masks: the numbers of a file as it stores them, or its colours.

A number is never changed on the way: not by a palette, a grey scale or lossy compression. Letters: H W pixels.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from slotseg.data.reading.images import MAX_PIXELS
from slotseg.data.reading.number_files import NUMBER_SUFFIXES, read_numbers
from slotseg.data.reading.pillow import SIDEWAYS, as_stored, opened_image, turn_of
from slotseg.errors import DataError

MAX_ID = 65_535
"""Largest id that a label map can hold."""

Ids = NDArray[np.uint8] | NDArray[np.uint16]
"""Ids of a label map, ``(H, W)``."""

_EXACT = ("PNG", "TIFF", "BMP", "GIF")
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_STRETCH = {"L;2": 85, "L;4": 17}  # Pillow stretches grey of 2 and 4 bits to 0..255
_GRAY = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
_FORMS = "expected an indexed or grey PNG, TIFF, BMP or GIF, or an array in .npy, .npz or .mat"


class StoredLabel(NamedTuple):
    """A label map as its file stores it, before numbers or colours get a meaning."""

    ids: Ids | None
    """Number of each pixel, ``(H, W)``; None if the file is in colour."""
    colors: NDArray[np.uint8] | None
    """RGB of each number, ``(256, 3)``; of each pixel, ``(H, W, 3)``, if the file is in colour; None of deeper numbers.

    Grey saved as RGB has both: its numbers, and the greys that they look like.
    """


def read_label(path: Path | str, max_pixels: int = MAX_PIXELS, or_else: str = "") -> Ids:
    """Read the ids of a label map as they are stored, never through a palette or a grey scale.

    Args:
        path: File of the label map, as for ``read_stored``.
        max_pixels: Largest accepted height x width.
        or_else: What else can be done about a file in colour, for the message.

    Returns:
        Writable contiguous array, shape ``(H, W)``, of ``uint8``, or of ``uint16`` for deeper files.

    Raises:
        DataError: In the cases of ``read_stored``, and if the file is in colour.
    """
    return numbers_of(read_stored(path, max_pixels), path, or_else)


def numbers_of(stored: StoredLabel, path: Path | str, or_else: str = "") -> Ids:
    """The numbers of a label map that has been read from ``path``.

    Raises:
        DataError: If the file is in colour; ``or_else`` says what else can be done about it.
    """
    if stored.ids is None:
        raise DataError(
            f"{path} is a colour image, but a label map holds one class id per pixel: convert its colours to ids and "
            f"save them as an indexed or grey PNG{or_else}"
        )
    return stored.ids


def read_stored(path: Path | str, max_pixels: int = MAX_PIXELS) -> StoredLabel:
    """Read a label map as its file stores it.

    Args:
        path: A PNG, TIFF or BMP of any mode, a GIF, or an array in a file of ``NUMBER_SUFFIXES``. A file of one bit
            holds the numbers 0 and 1. The number -1 becomes 65535. Of a GIF the colours count, and greys are numbers.
        max_pixels: Largest accepted height x width.

    Raises:
        DataError: In the cases of ``read_image``, and if the file is lossy, partly transparent, has several pages of
            one size, colours of 16 bits, fractions, or numbers beyond 65535.
    """
    if str(path).lower().endswith(NUMBER_SUFFIXES):
        return StoredLabel(_whole(read_numbers(Path(path), max_pixels), path), None)
    with opened_image(Path(path), max_pixels) as image:
        _check_exact(image, path)
        raw_mode, mode, turn = _raw_mode(image), image.mode, turn_of(image)
        palette = _palette(image, raw_mode)
        image.load()  # a TIFF changes its size here
        by_color = image.format == "GIF"  # whose writers number the colours anew
        pixels = _upright(np.asarray(image.convert("RGB") if by_color else image), turn)
    if by_color:
        return _of_channels(pixels, path)
    if mode in ("1", "L", "P"):
        return StoredLabel(pixels.astype(np.uint8) // np.uint8(_STRETCH.get(raw_mode, 1)), palette)
    if mode in ("I", "F") or mode.startswith("I;16"):
        return StoredLabel(_whole(pixels, path), None)
    return _of_channels(pixels, path)


def _check_exact(image: ImageFile, path: Path | str) -> None:
    """Refuse files that don't hold the numbers that somebody gave them."""
    if image.format in ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF", "HEIF"):
        raise DataError(
            f"{path} is a {image.format} file, but a label map must keep its ids exactly, and this compression changes "
            "them: save the labels anew, as PNG"
        )
    if image.format not in _EXACT:
        raise DataError(f"{path} is a {image.format} file; {_FORMS}")
    if image.info.get("compression") in _LOSSY_TIFF:
        raise DataError(f"{path} is a TIFF with lossy compression, which changes ids: save the labels anew, as PNG")
    raw_mode = _raw_mode(image)
    if image.mode not in ("1", "L", "P", "I", "F", "LA", "RGB", "RGBA") and not image.mode.startswith("I;16"):
        raise DataError(f"{path} is a colour image (mode {image.mode}); {_FORMS}")
    if image.mode in ("LA", "RGB", "RGBA") and ";16" in raw_mode:
        raise DataError(f"{path} has channels of 16 bits; {_FORMS}, or colours of 8 bits")
    if getattr(image, "n_frames", 1) > 1:
        size = image.size
        image.seek(1)
        if image.size == size:
            raise DataError(f"{path} has several pages; expected one label map in a file: save each on its own")
        image.seek(0)  # smaller pages are overviews


def _raw_mode(image: ImageFile) -> str:
    """Name by which Pillow calls the stored pixels. Ask for it before the pixels are loaded."""
    args = image.tile[0][3] if image.tile else None
    return str(args[0] if isinstance(args, tuple) else args)


def _palette(image: ImageFile, raw_mode: str) -> NDArray[np.uint8]:
    """RGB of each number of 8 bits, ``(256, 3)``."""
    if image.mode != "P":
        stretch = 255 if image.mode == "1" else _STRETCH.get(raw_mode, 1)
        return np.minimum(_GRAY.astype(np.uint16) * stretch, 255).astype(np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    palette[: len(stored)] = stored
    return palette


def _upright(stored: NDArray[Any], turn: int) -> NDArray[Any]:
    """Pixels turned by an EXIF orientation, in an array of their own."""
    height, width = stored.shape[:2]
    shape = (width, height) if turn in SIDEWAYS else (height, width)
    pixels = np.empty((*shape, *stored.shape[2:]), stored.dtype)
    as_stored(pixels, turn)[:] = stored
    return pixels


def _of_channels(pixels: NDArray[np.uint8], path: Path | str) -> StoredLabel:
    """Numbers if all channels hold the same, colours if not. Pixels are grey and alpha, RGB or RGBA."""
    channels = pixels.shape[2]
    if channels in (2, 4) and (pixels[..., -1] != 255).any():
        raise DataError(
            f"{path} is partly transparent, so it is not sure what those pixels are: save it without transparency"
        )
    red, green, blue = (pixels[..., 0 if channels == 2 else c] for c in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return StoredLabel(np.ascontiguousarray(red), _GRAY)
    return StoredLabel(None, np.ascontiguousarray(pixels[..., :3]))


def _whole(numbers: NDArray[Any], path: Path | str) -> Ids:
    """Numbers of any type as ids. Void is often -1, which 16 bits hold as 65535."""
    if numbers.dtype.kind == "f":
        rounded = np.rint(numbers)
        if not np.array_equal(rounded, numbers):
            raise DataError(f"{path} holds fractions; expected whole class ids, one for each pixel")
        numbers = rounded
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
    if low < -1 or high > MAX_ID:
        raise DataError(f"{path} has ids from {low} to {high}; expected 0..{MAX_ID}, or -1 for void: renumber them")
    if numbers.dtype.kind in "bu" and numbers.dtype.itemsize == 1:
        return numbers.astype(np.uint8)
    return (np.where(numbers < 0, MAX_ID, numbers) if low < 0 else numbers).astype(np.uint16)
