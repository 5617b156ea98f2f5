"""A photo scaled as ``F.interpolate`` does, in float32, without a copy of the whole of it in float32.

Letters: H W pixels of the photo, h w those of the scaled one.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.data.windows import Windows

_ROWS = 128  # rows that are in float32 at once


def scaled_photo(windows: Windows, sizes_hw: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Scale a photo to some sizes, bilinear and antialiased; it is read once, from its top down.

    Returns:
        RGB in [0, 1], ``(3, h, w)`` for each size, as by ``F.interpolate`` but for the rounding of sums.

    Raises:
        DataError: If it cannot be decoded.
    """
    height = windows.size_hw[0]
    results = [torch.zeros(3, *size_hw) for size_hw in sizes_hw]
    totals = [torch.zeros(size_hw[0], 1) for size_hw in sizes_hw]
    for start in range(0, height, windows.band):
        band = windows.read(start, min(start + windows.band, height))
        for top in range(0, len(band), _ROWS):
            rows = torch.from_numpy(np.require(band[top : top + _ROWS], requirements=["C", "W"]))
            pixels = rows.permute(2, 0, 1)[None].float()
            for size_hw, result, total in zip(sizes_hw, results, totals, strict=True):
                narrow = F.interpolate(pixels, (len(rows), size_hw[1]), mode="bilinear", antialias=True)[0]
                some, weights = _weights(start + top, len(rows), height, size_hw[0])
                result[:, some] += weights @ narrow
                total[some] += weights.sum(dim=1, keepdim=True)
    return [result / (255 * total) for result, total in zip(results, totals, strict=True)]


def _weights(top: int, count: int, height: int, num_rows: int) -> tuple[slice, Tensor]:
    """Which rows of the scaled photo depend on some rows of the photo, and how much on each, ``(rows, count)``."""
    factor = height / num_rows
    reach = max(factor, 1.0)
    first = max(0, int((top - reach) / factor - 0.5))
    last = min(num_rows, int((top + count + reach) / factor + 1.5))
    centers = (torch.arange(first, last, dtype=torch.float64) + 0.5) * factor
    places = torch.arange(top, top + count) + 0.5
    return slice(first, last), (1 - (places - centers[:, None]).abs() / reach).clamp(min=0).float()
