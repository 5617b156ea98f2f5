"""The confidence of the class of each pixel: the share of the prototypes of its class.

Letters: K prototypes, C groups of prototypes that are one class, h w feature cells.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from slotseg.segmenting.upsampling import Band

CHUNK = 1 << 17
"""Pixels that are interpolated at once; they stay in cache."""


def confidence(band: Band, classes: Sequence[int], temperature: float | None) -> NDArray[np.uint8]:
    """Probability of the class of each pixel of a band, bilinear between feature cells, 255 is 1.

    A cell is shared among the prototypes by a softmax over K. The shares of one class are summed.

    Args:
        band: Band of scores or of assignments.
        classes: Class of each prototype; those without one have an id in common and count as one class.
        temperature: Temperature of the softmax; None where the band holds assignments, which sum to 1 over K.

    Returns:
        Probabilities, shape ``(rows, W)``.
    """
    assignments = torch.from_numpy(np.ascontiguousarray(band.scores))
    if temperature is not None:
        assignments = (assignments / temperature).softmax(dim=0)
    ids, group = np.unique(np.asarray(classes), return_inverse=True)
    _, height, width = assignments.shape
    summed = torch.zeros(len(ids), height, width).index_add_(0, torch.from_numpy(group), assignments)
    shares = summed.permute(1, 2, 0).reshape(-1).numpy()
    y, down = band.rows.pixels()
    x, across = band.cols.pixels()
    result = np.empty((len(down), len(across)), np.uint8)
    step = max(1, CHUNK // len(across))
    for start in range(0, len(down), step):
        some = slice(start, start + step)
        classes_here = group[band.prototypes[some]]
        corners = (y[:, None, some, None] * width + x[:, None]) * len(ids) + classes_here  # (2, 2, rows, W)
        left, right = shares[corners].swapaxes(0, 1)  # (2, rows, W) each
        upper, lower = left + across * (right - left)
        result[some] = np.rint(255 * (upper + down[some, None] * (lower - upper)).clip(0, 1))
    return result
