"""Rasters: files whose values need a range or a choice of bands before they are a picture.

A raster gives the values of its bands as the file has them. ``rendering`` makes RGB of them. Letters: H W pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slotseg.errors import DataError

Values = NDArray[Any]
"""Values of bands, ``(H, W, bands)``, of any real type."""

MASK, GRADED = "mask", "graded"
"""Kinds of alpha: one that only shows or hides, and one of many degrees."""


@dataclass(frozen=True, kw_only=True)
class RasterFacts:
    """Facts about a raster that its header tells."""

    size_hw: tuple[int, int]
    """Height and width as they are stored, before the turn."""
    num_bands: int
    """Number of bands, without the alpha."""
    dtype: np.dtype[Any]
    """Type of the values."""
    bits: int
    """Bits of a value that are used, 12 of the 16 of a 12-bit camera."""
    turn: int = 1
    """EXIF orientation, 1..8."""
    inverted: bool = False
    """Whether 0 is white."""
    nodata: float | None = None
    """Value of pixels that are no picture."""
    alpha: str = ""
    """``MASK``, ``GRADED``, or empty where there is none."""
    band_names: tuple[str, ...] = ()
    """Names of the bands, where the file tells them."""
    block_rows: int = 256
    """Rows that are best read at once."""
    notes: tuple[str, ...] = ()
    """Notes on what is not read."""

    @property
    def full(self) -> tuple[float, float] | None:
        """Values of black and white by the type; None where it tells none: signed, float and 32-bit values."""
        known = self.dtype.kind == "u" and self.bits <= 16
        return (0, 2**self.bits - 1) if known else None


class Raster(ABC):
    """Values of a file.

    Args:
        name: Name in messages.
        facts: Facts about it.
    """

    def __init__(self, name: str, facts: RasterFacts) -> None:
        self.name, self.facts = name, facts

    @abstractmethod
    def values(self, top: int, bottom: int, bands: Sequence[int]) -> Values:
        """Values of the rows ``top`` to ``bottom``, exclusive, of some bands, from 0: ``(bottom - top, W, bands)``.

        Raises:
            DataError: If they cannot be decoded.
        """

    def alpha(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Alpha of some rows, ``(bottom - top, W)``, 255 for opaque, of a raster that has one."""
        raise NotImplementedError

    def hidden(self, top: int, bottom: int) -> NDArray[np.bool_] | None:
        """Pixels of some rows that a mask in the file hides, ``(bottom - top, W)``; None without such a mask."""
        return None


class ArrayRaster(Raster):
    """Values in memory, ``(H, W, bands)``, of an image of 16 bits that is not a TIFF.

    Args:
        name: Name in messages.
        values: Values. Four bands of 16 bits are RGB and alpha, two are grey and alpha.
        turn: EXIF orientation, 1..8.
    """

    def __init__(self, name: str, values: Values, turn: int) -> None:
        bands = values.shape[2]
        has_alpha = bands in (2, 4)
        self._values = values[:, :, : bands - has_alpha]
        self._alpha = (values[:, :, -1] >> 8).astype(np.uint8) if has_alpha else None
        opaque = self._alpha is None or bool((self._alpha == 255).all())
        facts = RasterFacts(
            size_hw=(values.shape[0], values.shape[1]),
            num_bands=bands - has_alpha,
            dtype=values.dtype,
            bits=16,
            turn=turn,
            alpha="" if opaque else GRADED,
        )
        super().__init__(name, facts)

    def values(self, top: int, bottom: int, bands: Sequence[int]) -> Values:
        """Values of some rows."""
        return self._values[top:bottom, :, list(bands)]

    def alpha(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Alpha of some rows."""
        assert self._alpha is not None
        return self._alpha[top:bottom]


def deep_values(image: Image.Image, content: bytes, name: str) -> Values:
    """All values of an image of 16 bits, ``(H, W, bands)``, RGB first, as they are stored.

    Pillow keeps the 16 bits of grey images alone; OpenCV keeps those of colours.

    Raises:
        DataError: If it cannot be decoded.
    """
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)[:, :, None]
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    values = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise DataError(f"{name} cannot be decoded with its 16 bits: copy it again or leave it out")
    return values[:, :, [2, 1, 0, 3][: values.shape[2]]]
