"""Rows of a huge photo at full resolution, without the whole of it in memory if its format allows that.

``slotseg.data.reading.window_formats`` has the formats. Letters: H W pixels.
"""

import math
import sys
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.reading.images import AS_TYPED, read_with_notes
from slotseg.data.reading.notes import TRANSPARENT
from slotseg.data.reading.rendering import MISSING
from slotseg.errors import DataError
from slotseg.segment_config import ReadingConfig

ROWS = 256
"""Least number of rows that are read at once."""


class Windows(ABC):
    """A photo that is read in bands of rows.

    Args:
        source: File, or its content.
        name: Name in messages.
        size_hw: Upright height and width, in pixels.
        notes: Notes on what is known to be left out or changed.

    Attributes:
        size_hw: Height and width, in pixels.
        notes: Notes on what is left out or changed. A note on transparency is added while the photo is read.
        whole: Whether the first window decodes the whole photo.
        band: Number of rows that are best read at once, from a multiple of it on.
    """

    whole = False
    band = ROWS

    def __init__(self, source: Path | bytes, name: str, size_hw: tuple[int, int], notes: tuple[str, ...]) -> None:
        self._source = source
        self._name = name
        self.size_hw = size_hw
        self.notes = notes
        self._missing: NDArray[np.uint8] | None = None  # a bit a pixel

    def read(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Read the rows ``top`` to ``bottom``, exclusive, as ``read_image`` gives them: ``(bottom - top, W, 3)``.

        Bands are best read from the top down. They may overlap.

        Raises:
            DataError: If the rows cannot be decoded.
            ValueError: If the rows are not within the photo.
        """
        if not 0 <= top < bottom <= self.size_hw[0]:
            raise ValueError(f"rows {top} to {bottom} of a photo of {self.size_hw[0]}; expected some within it")
        pixels = self._rows(top, bottom)
        if pixels.shape[2] == 3:
            return pixels
        if MISSING not in self.notes:
            self.notes += (MISSING,)
        if self._missing is None:
            self._missing = np.zeros((self.size_hw[0], -(-self.size_hw[1] // 8)), np.uint8)
        self._missing[top:bottom] = np.packbits(pixels[:, :, 3] == 0, axis=1)
        return np.ascontiguousarray(pixels[:, :, :3])

    def missing(self, top: int, bottom: int) -> NDArray[np.bool_] | None:
        """Pixels of some rows that are no picture, ``(bottom - top, W)``, of rows that were read before.

        None: the photo has none, as far as it was read.
        """
        if self._missing is None:
            return None
        return np.unpackbits(self._missing[top:bottom], axis=1, count=self.size_hw[1]).astype(np.bool_)

    def reduced_missing(self, height: int, width: int) -> NDArray[np.bool_] | None:
        """Pixels of the photo at a small size that are mostly no picture, ``(height, width)``; None as ``missing``."""
        if self._missing is None:
            return None
        rows = np.arange(height) * self.size_hw[0] // height
        cols = np.arange(width) * self.size_hw[1] // width
        return (self._missing[rows][:, cols // 8] >> (7 - cols % 8) & 1).astype(np.bool_)

    def reduced(self, max_side: int) -> NDArray[np.uint8]:
        """Read the whole photo at a small size: its longer side becomes ``max_side``, if it is larger.

        Returns:
            RGB pixels, ``(h, w, 3)``, each the mean of the pixels that it replaces.

        Raises:
            DataError: If the photo cannot be decoded.
        """
        height, width = self.size_hw
        factor = max(max(height, width) // max_side, 1)
        small, factor = self._reduced(factor)
        scale = min(max_side / max(height, width), 1)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        box = (0, 0, min(width / factor, small.shape[1]), min(height / factor, small.shape[0]))
        return np.array(Image.fromarray(small).resize(size, Image.Resampling.BOX, box))

    @abstractmethod
    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]: ...

    def _reduced(self, factor: int) -> tuple[NDArray[np.uint8], int]:
        """Read the photo at 1 / ``factor`` of its size, or at a larger 1 / n if that is cheaper, and return n too."""
        step = factor * math.ceil(self.band / factor)
        bands = [
            np.asarray(Image.fromarray(self.read(top, min(top + step, self.size_hw[0]))).reduce(factor))
            for top in range(0, self.size_hw[0], step)
        ]
        return np.concatenate(bands), factor

    def _cut(self, content: bytes, reading: ReadingConfig = AS_TYPED) -> NDArray[np.uint8]:
        """Decode a small file that was cut out of this one."""
        pixels, notes = read_with_notes(content, sys.maxsize, self._name, reading)
        self._note_transparency(TRANSPARENT in notes)
        return pixels

    def _note_transparency(self, transparent: bool) -> None:
        if transparent and TRANSPARENT not in self.notes:
            self.notes += (TRANSPARENT,)

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self._name} cannot be decoded ({error}): copy it again or leave it out")


class ArrayWindows(Windows):
    """A photo in memory, RGB, ``(H, W, 3)``."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__(b"", "the array", (pixels.shape[0], pixels.shape[1]), ())
        self._pixels = pixels

    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        return self._pixels[top:bottom]
