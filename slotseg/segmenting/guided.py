"""A guided filter: assignments become, around every point, a linear function of the photo's colours.

After He, Sun and Tang ("Guided Image Filtering", ECCV 2010) with a guide I of three channels. In the
window around a point, of mean colour mu and covariance Sigma, an assignment p is fitted by a . I + b:

    a = (Sigma + epsilon U)^-1 (mean(I p) - mu mean(p)),    b = mean(p) - a . mu,

and the means of a and b over the windows that a point lies in give its value, q = mean(a) . I + mean(b).
After He and Sun ("Fast Guided Filter", arXiv 1505.00996), a and b are found on a coarse grid and
upsampled; q is computed on a fine one.
Letters: K prototypes, H W pixels of the photo, or points of the fine grid; h w points of the coarse grid.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from slotseg.segmenting.looks import resample

POINTS_PER_CELL = 4
"""Most points of the fine grid along a cell's side, and no more than pixels; on finer grids texture frays."""
MAX_VALUES = 1 << 24
"""Most values, K times points, of the fine grid: 64 MB."""
COARSER = 2
"""Points of the fine grid along a coarse point's side."""
CHUNK = 1 << 19
"""Values of the fine grid that are computed at once."""
RADIUS = 2
"""Radius of a window, in points of the coarse grid; as long as a cell."""
EPSILON = 1e-2
"""Variance of colours in 0..1 below which a window counts as flat."""
TEMPERATURE = 0.1
"""Temperature of the softmax over the scores; that of the student's assignment in training."""


def refine_guided(
    scores: Tensor, covered: tuple[float, float], image: NDArray[np.uint8], points: int = 1
) -> tuple[Tensor, tuple[float, float]]:
    """Assignments that change where a photo's colours do.

    Args:
        scores: Cosines, ``(K, h, w)``.
        covered: Number of cells, (h, w), that the photo covers from the top left.
        image: The photo, RGB, ``(H, W, 3)``.
        points: Points of the scores along a cell's side. ``covered`` counts them where they are more than one.

    Returns:
        Assignments ``(K, *grid)``, which sum to 1 over K, and the number of points that the photo
        covers along each axis: all of them.
    """
    most = min(MAX_VALUES / len(scores), image.shape[0] * image.shape[1])
    finer = min(POINTS_PER_CELL / points, (most / (covered[0] * covered[1])) ** 0.5)
    fine, coarse = (_grid(covered, p) for p in (finer, finer / COARSER))
    assignments = (resample(scores.float(), covered, coarse, coarse) / TEMPERATURE).softmax(dim=0)
    guide, fine_guide = (_guide(image, size).to(scores.device) for size in (coarse, fine))
    refined = guided_filter(assignments, guide, fine_guide, RADIUS, EPSILON).clamp_(min=0)  # overshoots beside edges
    refined /= refined.sum(dim=0)
    return refined, fine


def guided_filter(values: Tensor, guide: Tensor, fine_guide: Tensor, radius: int, epsilon: float) -> Tensor:
    """Filter maps by the colours of an image.

    Args:
        values: Maps ``(K, h, w)``.
        guide: The image on their grid, ``(3, h, w)``.
        fine_guide: The image on the grid of the result, ``(3, H, W)``; ``guide`` again for the filter itself.
        radius: Radius of a window; it is 2 ``radius`` + 1 points wide, and cut off at the border.
        epsilon: Added to the variance of the guide; where that is less, values are averaged.

    Returns:
        Filtered maps ``(K, H, W)``. Where ``values`` sum to 1 over K, so do they.
    """
    mean = box_mean(guide, radius)
    covariance = box_mean(guide[:, None] * guide, radius) - mean[:, None] * mean
    covariance += epsilon * torch.eye(3).to(guide)[:, :, None, None]
    inverse = torch.linalg.inv(covariance.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)
    height, width = fine_guide.shape[1:]
    result = values.new_empty(len(values), height, width)
    step = max(1, CHUNK // (height * width))
    for some, filtered in zip(torch.split(values, step), torch.split(result, step), strict=True):
        average = box_mean(some, radius)
        joint = box_mean(some[:, None] * guide, radius) - average[:, None] * mean
        slopes = (inverse * joint[:, None]).sum(dim=2)
        offsets = average - (slopes * mean).sum(dim=1)
        coefficients = box_mean(torch.cat([slopes, offsets[:, None]], dim=1), radius)
        coefficients = F.interpolate(coefficients, (height, width), mode="bilinear")
        torch.sum(coefficients[:, :3] * fine_guide, dim=1, out=filtered).add_(coefficients[:, 3])
    return result


def box_mean(maps: Tensor, radius: int) -> Tensor:
    """Mean of maps ``(..., h, w)`` over windows of 2 ``radius`` + 1 points a side, cut off at the border."""
    rows, columns = (_window(size, radius).to(maps) for size in maps.shape[-2:])
    return rows @ maps @ columns.T


def _window(size: int, radius: int) -> Tensor:
    """The mean over a window as a matrix ``(size, size)``. On so coarse a grid nothing is faster than a product."""
    points = torch.arange(size)
    inside = ((points[:, None] - points).abs() <= radius).float()
    return inside / inside.sum(dim=1, keepdim=True)


def _grid(covered: tuple[float, float], points: float) -> tuple[int, int]:
    """Points along each axis of the photo, with ``points`` of them along the side of a cell."""
    return max(1, round(points * covered[0])), max(1, round(points * covered[1]))


def _guide(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Tensor:
    """The photo on a grid, ``(3, *size_hw)``, in 0..1."""
    small = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small.astype(np.float32) / 255).permute(2, 0, 1)
