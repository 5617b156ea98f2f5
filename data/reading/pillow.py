"""Pillow tamed: it opens any file, turns it upright, and gives its rows as 8-bit RGB.

Pillow answers a bad file with exceptions of many kinds, warnings, and a global pixel limit. All of these end here:
callers see an image or a ``DataError`` of one sentence. Letters: H W pixels.
"""

import importlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from slotseg.data.reading.notes import shown
from slotseg.errors import DataError

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

_BAND = 1024  # rows that are copied out of Pillow at once: a whole second copy of a huge photo is not needed
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_PILLOW_LOCK = threading.Lock()


@contextmanager
def opened_image(
    source: Path | str | bytes, max_pixels: int, *, name: str = "", allowed_by: str = "max_pixels"
) -> Iterator[ImageFile]:
    """Open an image. Any error here or in the body of the ``with`` becomes a ``DataError``.

    Args:
        source: File, or its content.
        max_pixels: Largest accepted height x width.
        name: Name of the image in messages; by default its path.
        allowed_by: Setting that messages name as the way to accept larger images.
    """
    name, head = name or shown(source), b""
    try:
        # An open file instead of a path: Pillow maps a path into memory and garbles turned grey TIFFs.
        with _pillow_tamed(), opened_file(source, name) as file:
            head = file.read(12)
            file.seek(0)
            if _is_heif(head):
                _register_heif()
            with Image.open(file) as image:
                _check_header(image, name, max_pixels, allowed_by)
                yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified(head, name) from error
    except PermissionError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}): check its permissions") from error
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        raise DataError(
            f"{name} cannot be decoded ({str(error) or type(error).__name__}): copy it again or leave it out"
        ) from error


@contextmanager
def opened_file(source: Path | str | bytes, name: str) -> Iterator[BinaryIO]:
    """Open a file, or its content. Pipes and devices are refused, because reading them might never end.

    Raises:
        DataError: If the source is no file, or empty.
    """
    if isinstance(source, bytes):
        if not source:
            raise DataError(f"{name} is empty (0 bytes): copy it again or leave it out")
        yield io.BytesIO(source)
        return
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{name} is no file: expected an image, check the path")
    if path.stat().st_size == 0:
        raise DataError(f"{name} is empty (0 bytes): copy it again or leave it out")
    with path.open("rb") as file:
        yield file


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1..8, from the header, before the pixels are loaded; 1 if it cannot be read."""
    try:
        exif = Image.Image.getexif(image)  # PngImageFile has its own getexif, which decodes the pixels
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF raises nearly anything and is no reason to lose the photo
        return 1


def turn_of(image: ImageFile) -> int:
    """EXIF orientation, 1..8, of the pixels once they are loaded. A TIFF turns itself while it loads."""
    return 1 if isinstance(image, TiffImageFile) else orientation(image)


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Height and width of an opened image once it is turned by its EXIF orientation."""
    width, height = image.size
    if isinstance(image, TiffImageFile):  # newer Pillow gives the turned size here, older the stored one
        width, height = image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
    return turned_size((height, width), orientation(image))


def turned_size(size_hw: tuple[int, int], turn: int) -> tuple[int, int]:
    """Upright height and width of an image that is stored with this EXIF orientation."""
    return size_hw[::-1] if turn in SIDEWAYS else size_hw


def upright_rgb(image: ImageFile, name: str) -> tuple[NDArray[np.uint8], bool]:
    """Decode an opened image to upright RGB, as ``read_image`` gives it.

    Rows leave Pillow a band at a time, straight to their upright place. So there is no third copy beside the decoded
    image and the result.

    Returns:
        RGB pixels, ``(H, W, 3)``, and whether any of them was partly transparent. Where some were wholly so, there is
        a fourth channel: 0 for these, 255 for picture.

    Raises:
        DataError: If the image holds 32-bit or float values.
    """
    turn = turn_of(image)
    image.load()  # a TIFF changes its size here
    width, height = image.size
    channels = 3
    pixels = np.empty((*turned_size((height, width), turn), channels), np.uint8)
    transparent = False
    for top in range(0, height, _BAND):
        band = image.crop((0, top, width, min(top + _BAND, height)))
        rows, laid_over_white = to_rgb(band, image.format, name)
        if rows.shape[2] > channels:
            channels, pixels = 4, np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        stored = as_stored(pixels, turn)
        stored[top : top + _BAND, :, : rows.shape[2]] = rows
        stored[top : top + _BAND, :, rows.shape[2] :] = 255
        transparent |= laid_over_white
    return pixels, transparent


def to_rgb(image: Image.Image, file_format: str | None, name: str) -> tuple[NDArray[np.uint8], bool]:
    """Convert an image, or a band of one, to RGB as ``upright_rgb`` does, and say whether any was partly so.

    Raises:
        DataError: If the image holds 32-bit or float values.
    """
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM"))
    if image.mode in ("F", "I") and not sixteen_bits:
        raise DataError(
            f"{name} holds 32-bit or float values, whose range is unknown: save it with 8 or 16 bits per channel"
        )
    if sixteen_bits:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")), False
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    least = alpha.getextrema()[0]
    white = Image.new("RGBA", image.size, "white")
    pixels = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    if least == 0:
        pixels = np.dstack([pixels, np.where(np.asarray(alpha) > 0, 255, 0).astype(np.uint8)])
    return pixels, sum(alpha.histogram()[1:255]) > 0


def as_stored(upright: NDArray[Any], turn: int) -> NDArray[Any]:
    """View of an upright array in the order in which a file with this EXIF orientation stores its pixels."""
    view = upright.swapaxes(0, 1) if turn in SIDEWAYS else upright
    view = view[::-1] if turn in (3, 4, 6, 7) else view
    return view[:, ::-1] if turn in (2, 3, 7, 8) else view


def check_size(height: int, width: int, name: str, max_pixels: int, allowed_by: str) -> None:
    """Refuse an image of more pixels than the limit, which the setting ``allowed_by`` raises."""
    if width * height > max_pixels:
        raise DataError(
            f"{name} has {width} x {height} pixels, more than the limit of {max_pixels}: "
            f"cut it into pieces or raise {allowed_by}"
        )


@contextmanager
def _pillow_tamed() -> Iterator[None]:
    """Silence Pillow's warnings and lift its global pixel limit. Our own limit is checked instead."""
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_header(image: Image.Image, name: str, max_pixels: int, allowed_by: str) -> None:
    if image.format == "EPS":  # Pillow would run Ghostscript on it
        raise DataError(f"{name} is a PostScript file; expected an image of pixels: convert it to PNG")
    check_size(image.height, image.width, name, max_pixels, allowed_by)


def _unidentified(head: bytes, name: str) -> DataError:
    """Error for a file that Pillow does not know, from its first 12 bytes."""
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return DataError(f"{name} is an AVIF photo, which needs Pillow 11.3 or newer: update it, or convert it to JPEG")
    if _is_heif(head):
        return DataError(
            f"{name} is a HEIC photo, which needs pillow-heif: pip install 'slotseg[heic]', or convert it to JPEG"
        )
    return DataError(f"{name} is not an image that Pillow can read: convert it to PNG or leave it out")


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


@cache
def _register_heif() -> None:
    """Let Pillow read HEIC from now on, if pillow-heif is installed."""
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
