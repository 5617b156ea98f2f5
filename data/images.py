"""Robust reading of images and label maps with Pillow, and the listing of inputs.

Whatever Pillow does with a bad file (exceptions of many kinds, warnings, a global pixel limit)
ends here: callers see an array or a ``DataError`` of one sentence. Letters: H W pixels.
"""

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from slotseg.data.listing import list_photos
from slotseg.errors import DataError

MAX_PIXELS = 500_000_000
"""Larger images are refused as likely decompression bombs."""

SIDEWAYS = (5, 6, 7, 8)
"""The EXIF orientations that exchange width and height."""

_PILLOW_LOCK = threading.Lock()
_GREY_STRETCH = {"L;2": 85, "L;4": 17}  # Pillow stretches grey of 2 and 4 bits to 0..255
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def list_images(inputs: Path | str | Sequence[Path | str]) -> list[Path]:
    """List the images among files and folders.

    Folders are searched recursively by suffix, following links, without hidden files and folders
    (the ``._x`` files of macOS among them). A file given by hand is taken as it is.

    Returns:
        Sorted paths, each file once.

    Raises:
        DataError: If an input does not exist, or a folder cannot be listed or has no image.
    """
    items = [inputs] if isinstance(inputs, str | Path) else inputs
    return list(list_photos([Path(item) for item in items]))


def read_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read any image as 8-bit RGB, upright by its EXIF orientation.

    Transparency is laid over white; 16 bits become 8 by their high byte, never by the image's own
    minimum and maximum; of an animation the first frame is taken. Threads take turns, because
    Pillow's pixel limit is a global: decode in parallel with processes.

    Args:
        path: The file; its content decides the format, not its suffix.
        max_pixels: Largest accepted height x width.

    Returns:
        Writable contiguous array, shape ``(H, W, 3)``.

    Raises:
        DataError: If the file is missing, empty, damaged, too large, no image, or holds 32-bit or
            float values, whose range is unknown.
    """
    with opened_image(Path(path), max_pixels) as image:
        turn = _turn(image)
        return np.array(_turned(_to_rgb(image, Path(path)), turn))


def read_label(path: Path | str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a label map: the ids as they are stored, never through a palette or a grey scale.

    Args:
        path: An indexed or grey PNG or TIFF; a file of one bit holds the ids 0 and 1.
        max_pixels: Largest accepted height x width.

    Returns:
        Writable contiguous array, shape ``(H, W)``; ``uint8``, or ``uint16`` for deeper files.

    Raises:
        DataError: As for ``read_image``, and if the file is lossy, in colour, or has ids beyond 65535.
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
        turn, stretch = _turn(image), _grey_stretch(image)
        image.load()  # a TIFF changes its size when it loads
        ids = np.array(_turned(image, turn))
    if ids.dtype.itemsize == 1:
        return ids.astype(np.uint8) // np.uint8(stretch)
    if ids.min() < 0 or ids.max() > 65535:
        raise DataError(f"{path} has ids from {ids.min()} to {ids.max()}; expected 0..65535: renumber them")
    return ids.astype(np.uint16)


def image_size(path: Path | str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return the upright ``(H, W)`` that ``read_image`` would give, from the header alone.

    Raises:
        DataError: If the file is missing, empty, too large or no image.
    """
    with opened_image(Path(path), max_pixels) as image:
        return upright_size(image)


@contextmanager
def opened_image(path: Path, max_pixels: int) -> Iterator[ImageFile]:
    """Open an image; what fails here or in the body of the ``with`` becomes a ``DataError``."""
    try:
        if not path.is_file():
            raise DataError(f"{path} is no file: expected an image, check the path")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes): copy it again or leave it out")
        # An open file instead of a path: Pillow maps a path into memory and garbles turned grey TIFFs.
        with _pillow_tamed(), path.open("rb") as file, Image.open(file) as image:
            _check_header(image, path, max_pixels)
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image that Pillow can read: convert it to PNG or leave it out") from error
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        raise DataError(
            f"{path} cannot be decoded ({str(error) or type(error).__name__}): copy it again or leave it out"
        ) from error


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1..8, read from the header before the pixels are loaded; 1 if unreadable."""
    try:
        exif = Image.Image.getexif(image)  # PngImageFile has its own getexif, which decodes the pixels
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF raises nearly anything and is no reason to lose the photo
        return 1


def upright_size(image: ImageFile) -> tuple[int, int]:
    """``(H, W)`` of an opened image once it is turned by its EXIF orientation."""
    width, height = image.size
    if isinstance(image, TiffImageFile):  # newer Pillow gives the turned size here, older the stored one
        width, height = image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
    return (width, height) if orientation(image) in SIDEWAYS else (height, width)


@contextmanager
def _pillow_tamed() -> Iterator[None]:
    """Silence Pillow's warnings and lift its global pixel limit (ours is checked instead)."""
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_header(image: Image.Image, path: Path, max_pixels: int) -> None:
    if image.format == "EPS":  # Pillow would run Ghostscript on it
        raise DataError(f"{path} is a PostScript file; expected an image of pixels: convert it to PNG")
    if image.width * image.height > max_pixels:
        raise DataError(
            f"{path} has {image.width} x {image.height} pixels, more than the limit of {max_pixels}: "
            "cut it into pieces or raise max_pixels"
        )


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings the image upright once it is loaded; Pillow turns a TIFF by itself."""
    return None if isinstance(image, TiffImageFile) else _UPRIGHT.get(orientation(image))


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


def _grey_stretch(image: ImageFile) -> int:
    """Return what Pillow will multiply the stored grey values by; ask before the pixels are loaded."""
    args = image.tile[0][3] if image.tile else None
    raw_mode = args[0] if isinstance(args, tuple) else args
    return _GREY_STRETCH.get(str(raw_mode), 1)


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("F", "I") and not sixteen_bits:
        raise DataError(
            f"{path} holds 32-bit or float values, whose range is unknown: save it with 8 or 16 bits per channel"
        )
    if sixteen_bits:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")
