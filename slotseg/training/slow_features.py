"""Slow features: what differs from place to place, and little between neighbours or between two looks at one place.

They are ours. They need no training step. Neighbouring cells mostly show the same thing, and two looks at a place
always do. What differs there is texture, shape and where in the picture a cell lies. The axes here leave that out.
They are those of linear discriminant analysis, with neighbours and looks in place of classes (slow feature analysis:
Wiskott and Sejnowski, "Slow Feature Analysis: Unsupervised Learning of Invariances", Neural Computation 2002, where
neighbours in time are alike).
Letters: N cells, C channels, h w feature cells.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from torch import Tensor

SHRINKAGE = 0.1
"""Variance that every direction has between neighbours and looks at least, relative to the mean of all directions."""


class Looked(NamedTuple):
    """Features of a photo, and of some of its cells in another look."""

    cells: Tensor
    """Features of all cells, ``(C, h, w)``."""
    some: Tensor
    """Those of some cells, ``(C, h', w')``."""
    again: Tensor
    """Those of the same cells in the other look, ``(C, h', w')``."""
    valid: Tensor | None = None
    """Which cells are valid, boolean, ``(h, w)``; None for all."""
    some_valid: Tensor | None = None
    """Which of some are, ``(h', w')``; None for all."""

    @property
    def counted(self) -> Tensor:
        """Features of the valid cells, ``(N, C)``."""
        return _flat(self.cells, self.valid).T


def slow_axes(photos: Sequence[Looked], number: int) -> Tensor:
    """Axes that tell things apart, the best first.

    S is the covariance of the directions of features less their mean. R is that of neighbours about their middle, plus
    that of two looks about theirs, plus ``SHRINKAGE``. An axis v solves S v = r R v. Its length is such that two
    features x and y, projected to all C axes, have the inner product x' R^-1 S R^-1 y, but for a factor.

    Missing cells are left out, and so are neighbours of which one is missing.

    Args:
        photos: Features of the photos, on the CPU.
        number: Number of axes.

    Returns:
        Axes, ``(number or C, C)``. The mean square of the directions that are projected to them is 1.
    """
    cells = torch.cat([photo.counted for photo in photos])
    mean = cells.mean(dim=0)[:, None, None]
    spread, neighbours, looks = (_Covariance(len(mean)) for _ in range(3))
    for photo in photos:
        every, some, again = (F.normalize(features - mean, dim=0) for features in photo[:3])
        valid = photo.valid
        spread.add(every, valid)
        neighbours.add(every.diff(dim=1) / 2**0.5, None if valid is None else valid[1:] & valid[:-1])
        neighbours.add(every.diff(dim=2) / 2**0.5, None if valid is None else valid[:, 1:] & valid[:, :-1])
        looks.add((some - again) / 2**0.5, photo.some_valid)
    noise = neighbours.value + looks.value
    noise += (SHRINKAGE * noise.trace() / len(mean) + 1e-9) * torch.eye(len(mean))
    ratios, axes = eigh(spread.value.numpy(), noise.numpy())  # v'Rv = 1; columns, the smallest r first
    axes *= np.sqrt(ratios.clip(min=0))
    best = torch.from_numpy(axes.T[::-1][:number].copy())
    return (best / (best @ spread.value @ best.T).trace().sqrt().clamp(min=1e-9)).float()


class _Covariance:
    """Mean over cells of the products of channels."""

    def __init__(self, channels: int) -> None:
        self._sum, self._number = torch.zeros(channels, channels, dtype=torch.float64), 0

    def add(self, features: Tensor, valid: Tensor | None) -> None:
        """Count the cells of ``(C, h, w)`` that are valid, ``(h, w)``, or all."""
        cells = _flat(features, valid)
        self._sum += cells @ cells.T
        self._number += cells.shape[1]

    @property
    def value(self) -> Tensor:
        """The mean, ``(C, C)``; zeros if there was no cell."""
        return self._sum / max(1, self._number)


def _flat(features: Tensor, valid: Tensor | None) -> Tensor:
    """Valid cells ``(C, N)`` of ``(C, h, w)``, or all."""
    return features.flatten(1) if valid is None else features[:, valid]
