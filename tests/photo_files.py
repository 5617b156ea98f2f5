"""Photos as files: written by Pillow, with an EXIF orientation."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import ExifTags, Image


def save(path: Path, pixels: NDArray[Any], mode: str | None = None, **options: Any) -> Path:
    """Write pixels as they are, or converted to a mode; the options are Pillow's."""
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def tagged(orientation: int) -> Image.Exif:
    """EXIF with an orientation, 1..8."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif
