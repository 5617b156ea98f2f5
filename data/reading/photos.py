"""Photos to cut views from: the size at once, the pixels on request, at a reduced scale where that is cheap.

A JPEG holds blocks of 8 x 8 pixels. They can be decoded as 4 x 4, 2 x 2 or 1 pixels in a fraction of the time. OpenCV
does so, and at full size it gives the pixels of ``read_image`` sooner. It reads plain and whole JPEG files, the usual
ones. All other files go through ``read_image``. Letters: H W pixels.
"""

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.images import AS_TYPED, MAX_PIXELS, open_raster, read_with_notes
from slotseg.data.reading.notes import shown
from slotseg.data.reading.pillow import SIDEWAYS, opened_image, orientation, turned_size, upright_size
from slotseg.data.reading.releasing import ReleasedRows
from slotseg.data.reading.rendering import Rendering
from slotseg.segment_config import ReadingConfig

REDUCTIONS = (8, 4, 2, 1)
"""Reductions that ``Photo.pixels`` can give, the coarsest first."""

_BAND = 512  # rows whose channels are exchanged at once: OpenCV makes a copy of them meanwhile
_END_OF_IMAGE = b"\xff\xd9"
_MIRRORED = {2: 1, 3: -1, 4: 0, 6: 0, 7: -1, 8: 1}  # EXIF orientation -> OpenCV's flip code, before any transposition
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class Photo(Protocol):
    """An upright photo."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width at full size, in pixels."""
        ...

    def pixels(self, reduction: int = 1) -> NDArray[np.uint8]:
        """Decode the photo at 1 / ``reduction`` of its size, one of ``REDUCTIONS``.

        Returns:
            RGB pixels, ``(H, W, 3)``, each side divided by ``reduction`` and rounded up. If reducing would cost
            more, the photo has its full size. Where some pixels are no picture, there is a fourth channel: 0 for
            these, 255 for picture.

        Raises:
            DataError: If the photo cannot be decoded.
        """
        ...


@dataclass(frozen=True)
class ArrayPhoto:
    """A photo in memory. It is always given at full size."""

    array: NDArray[np.uint8]
    """RGB pixels, ``(H, W, 3)``, or with the fourth channel of ``Photo.pixels``."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.array.shape[0], self.array.shape[1]

    def pixels(self, reduction: int = 1) -> NDArray[np.uint8]:
        """Pixels at full size."""
        return self.array


@dataclass(frozen=True, kw_only=True)
class _PhotoFile:
    path: Path
    max_pixels: int
    size_hw: tuple[int, int]
    orientation: int
    jpeg: bytes | None
    """Content of the file, if OpenCV is to decode it."""

    def pixels(self, reduction: int = 1) -> NDArray[np.uint8]:
        decoded = None if self.jpeg is None else _decode(self.jpeg, reduction)
        if decoded is None:
            return read_with_notes(self.path, self.max_pixels)[0]
        return _upright(decoded, self.orientation)


@dataclass(frozen=True)
class _RasterPhoto:
    rendering: Rendering

    @property
    def size_hw(self) -> tuple[int, int]:
        return turned_size(self.rendering.size_hw, self.rendering.facts.turn)

    def pixels(self, reduction: int = 1) -> NDArray[np.uint8]:
        return self.rendering.upright()


def open_photo(path: Path | str, max_pixels: int = MAX_PIXELS, reading: ReadingConfig = AS_TYPED) -> Photo:
    """Open any image as a photo. Only its header is decoded yet.

    Its pixels at full size are those of ``read_with_notes``.

    Raises:
        DataError: In the cases of ``read_image``. Damage behind the header shows only in ``Photo.pixels``.
    """
    path = Path(path)
    if (raster := open_raster(path, max_pixels, shown(path), "max_pixels", reading)) is not None:
        return _RasterPhoto(Rendering(raster, reading))
    with opened_image(path, max_pixels) as image:
        jpeg = None
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            jpeg = path.read_bytes()
        return _PhotoFile(
            path=path,
            max_pixels=max_pixels,
            size_hw=upright_size(image),
            orientation=orientation(image),
            jpeg=jpeg if jpeg and jpeg.endswith(_END_OF_IMAGE) else None,
        )


def read_photo(
    source: Path | bytes, max_pixels: int = MAX_PIXELS, name: str = "", reading: ReadingConfig = AS_TYPED
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read a photo as ``slotseg.data.reading.images.read_with_notes`` does, but faster for plain JPEG files."""
    if isinstance(source, Path) and source.suffix.lower() in (".jpg", ".jpeg"):
        with opened_image(source, max_pixels, name=name, allowed_by="--max-pixels") as image:
            turn = orientation(image) if image.format == "JPEG" and image.mode in ("RGB", "L") else 0
        jpeg = source.read_bytes() if turn else b""
        decoded = _decode(jpeg, 1) if jpeg.endswith(_END_OF_IMAGE) else None
        if decoded is not None:
            return _upright(decoded, turn), ()
    return read_with_notes(source, max_pixels, name, reading)


def read_large_jpeg(path: Path, max_pixels: int = MAX_PIXELS) -> ReleasedRows | None:
    """Read a large JPEG without a second copy of its rows at any time.

    Returns:
        Rows of ``read_image``; None if the file is not plain and upright, or with OpenCV before 4.10, which cannot
        decode into a given array.

    Raises:
        DataError: In those cases of ``read_image`` that show in the header.
    """
    with opened_image(path, max_pixels) as image:
        plain = image.format == "JPEG" and image.mode in ("RGB", "L") and orientation(image) == 1
        rows = ReleasedRows(image.height, image.width)
        pixels = rows.pixels
    with path.open("rb") as file:
        file.seek(-len(_END_OF_IMAGE), io.SEEK_END)
        plain = plain and file.read() == _END_OF_IMAGE
    with suppress(cv2.error, TypeError):
        if plain and cv2.imread(str(path), pixels, _FLAGS[1] | cv2.IMREAD_IGNORE_ORIENTATION) is pixels:
            for top in range(0, len(pixels), _BAND):
                band = pixels[top : top + _BAND]
                cv2.cvtColor(band, cv2.COLOR_BGR2RGB, band)
            return rows
    return None


def _decode(jpeg: bytes, reduction: int) -> NDArray[np.uint8] | None:
    """RGB pixels as they are stored, not yet upright; None if OpenCV cannot decode them."""
    flags = _FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels), np.uint8)


def _upright(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Turn pixels by an EXIF orientation."""
    mirrored = cv2.flip(pixels, _MIRRORED[turn]) if turn in _MIRRORED else pixels
    return np.asarray(cv2.transpose(mirrored) if turn in SIDEWAYS else mirrored, np.uint8)
