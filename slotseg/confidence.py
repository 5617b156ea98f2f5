"""How certain the class of each pixel is: the share of the prototypes of its class.

Letters: K prototypes, C groups of prototypes that are one class, h w feature cells.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from slotseg.upsampling import Band

CHUNK = 1 << 17
"""Pixels that are interpolated at once; they stay in cache."""


def confidence(band: Band, classes: Sequence[int], temperature: float | None) -> NDArray[np.uint8]:
    """Probability of the class of each pixel of a band, bilinear between feature cells, 255 is 1.

    A cell is shared among the prototypes by a softmax over K; what those of one class have is summed.

    Args:
        band: With scores or assignments.
        classes: Class of each prototype; those without one have an id in common and count as one class.
        temperature: Of the softmax; None where the band holds assignments, which sum to 1 over K.

    Returns:
        Shape ``(rows, W)``.
    """
    scores = torch.from_numpy(np.ascontiguousarray(band.scores))
    assignments = scores if temperature is None else (scores / temperature).softmax(dim=0)
    ids, group = np.unique(np.asarray(classes), return_inverse=True)
    _, height, width = assignments.shape
    summed = torch.zeros(len(ids), height, width).index_add_(0, torch.from_numpy(group), assignments)
    shares = summed.flatten(1).T.reshape(-1).numpy()  # (h * w * C)
    (top, low), down = band.rows.pixels()
    (left, right), across = band.cols.pixels()
    result = np.empty(band.prototypes.shape, np.uint8)
    step = max(1, CHUNK // result.shape[1])
    for start in range(0, len(result), step):
        some = slice(start, start + step)
        which = group[band.prototypes[some]]

        def at(cells: NDArray[np.int64], which: NDArray[np.int64] = which, some: slice = some) -> NDArray[np.float32]:
            upper, lower = (shares[(row[some, None] * width + cells) * len(ids) + which] for row in (top, low))
            between: NDArray[np.float32] = upper + down[some, None] * (lower - upper)
            return between

        one, two = at(left), at(right)
        result[some] = np.rint(255 * (one + across * (two - one)).clip(0, 1))
    return result
