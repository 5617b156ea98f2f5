"""The memory of a photo that is read from the top down, given back to the system row by row."""

import math
import mmap

import numpy as np

_KIND = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}


class ReleasedRows:
    """An array whose upper rows can be given back, if the system supports it.

    Args:
        height: Number of rows, H.
        width: Number of pixels in a row, W.

    Attributes:
        pixels: Pixels, ``(H, W, 3)``, uint8. Released rows hold nothing.
        first: Number of the first row that was not released.
    """

    def __init__(self, height: int, width: int) -> None:
        shape = (height, width, 3)
        self._memory = mmap.mmap(-1, math.prod(shape), **_KIND)
        self._end = 0
        self.pixels = np.frombuffer(self._memory, np.uint8).reshape(shape)
        self.first = 0

    def release(self, row: int) -> None:
        """Give back the rows above ``row``."""
        self.first = max(self.first, row)
        end = self.first * self.pixels.strides[0] // mmap.PAGESIZE * mmap.PAGESIZE
        if end > self._end and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED, self._end, end - self._end)
        self._end = end
