"""A photo scaled as ``F.interpolate`` scales 8-bit images, without the whole of it in memory.

Letters: H W pixels of the photo, h w pixels of the scaled photo.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.data.reading.windows import Windows

_ROWS = 128  # rows that are scaled at once


def scaled_photo(windows: Windows, sizes_hw: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Scale a photo to several sizes, bilinear and antialiased. It is read once, from the top down.

    Args:
        windows: Photo to scale.
        sizes_hw: Heights and widths wanted, in pixels.

    Returns:
        RGB pixels in [0, 1], ``(3, h, w)`` for each size. They are whole 255ths, the same as those that
        ``F.interpolate`` makes of the whole photo.

    Raises:
        DataError: If the photo cannot be decoded.
    """
    height = windows.size_hw[0]
    columns = [_Column(height, size_hw[0]) for size_hw in sizes_hw]
    sums = [torch.zeros(3, *size_hw, dtype=torch.float64) for size_hw in sizes_hw]
    for start in range(0, height, windows.band):
        band = windows.read(start, min(start + windows.band, height))
        for top in range(0, len(band), _ROWS):
            rows = torch.from_numpy(np.require(band[top : top + _ROWS], requirements=["C", "W"]))
            pixels = rows.permute(2, 0, 1)[None]
            for size_hw, column, total in zip(sizes_hw, columns, sums, strict=True):
                narrow = F.interpolate(pixels, (len(rows), size_hw[1]), mode="bilinear", antialias=True)[0]
                some, weights = column.part(start + top, len(rows))
                total[:, some] += weights @ narrow.double()
    return [(total / column.one).add(0.5).floor().float() / 255 for total, column in zip(sums, columns, strict=True)]


class _Column:
    """Weights by which H rows are mixed to h scaled rows.

    Weights are the whole numbers that ``F.interpolate`` uses for 8-bit images. In float64, their products with pixels
    add up without error in any order.

    Args:
        height: Number of rows of the photo, H.
        num_rows: Number of scaled rows, h.

    Attributes:
        one: Sum of the weights of a scaled row, but for their rounding. It is the largest power of 2 for which each
            weight fits 16 bits, at most 2^22.
    """

    def __init__(self, height: int, num_rows: int) -> None:
        self.factor = height / num_rows
        self.reach = max(self.factor, 1.0)
        self.height, self.num_rows = height, num_rows
        taps = torch.arange(2 * int(self.reach) + 3)
        centers = self._centers(0, num_rows)
        weights = self._triangle((centers - self.reach).floor()[:, None] + taps, centers)
        self.totals = weights.sum(dim=1)
        largest = float((weights / self.totals[:, None]).max())
        self.one = 1
        while self.one < 1 << 22 and int(0.5 + largest * 2 * self.one) < 1 << 15:
            self.one *= 2

    def part(self, top: int, count: int) -> tuple[slice, Tensor]:
        """Scaled rows that depend on ``count`` rows from ``top`` on, and their weights, ``(scaled rows, count)``."""
        first = max(0, int((top - self.reach) / self.factor - 0.5))
        last = min(self.num_rows, int((top + count + self.reach) / self.factor + 1.5))
        weights = self._triangle(torch.arange(top, top + count)[None], self._centers(first, last))
        return slice(first, last), (weights / self.totals[first:last, None] * self.one).add(0.5).floor()

    def _centers(self, first: int, last: int) -> Tensor:
        return (torch.arange(first, last, dtype=torch.float64) + 0.5) * self.factor

    def _triangle(self, rows: Tensor, centers: Tensor) -> Tensor:
        weights = (1 - (rows + 0.5 - centers[:, None]).abs() / self.reach).clamp(min=0)
        return torch.where((rows >= 0) & (rows < self.height), weights, 0)
