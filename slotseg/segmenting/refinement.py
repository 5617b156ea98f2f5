"""Assignments that follow the photo: pixels of like colour near each other agree on a prototype.

Mean-field inference in a fully connected random field after Krähenbühl and Koltun ("Efficient
Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011). With scores s_i and
assignments q_i of points i, it repeats

    q_i = softmax(s_i / T + strength * sum_j k_ij q_j / sum_j k_ij),
    k_ij = exp(-|color_i - color_j|^2 / 2 COLOR^2 - |place_i - place_j|^2 / 2 DISTANCE^2).

Ours: i runs over a grid finer than the feature cells. j runs over averages of that grid's square
blocks and not over all its points, so the sum is one small matrix product.
Letters: K prototypes, H W pixels, h w feature cells, N points of the grid, M blocks.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from slotseg.segment_config import SegmentConfig
from slotseg.segmenting.guided import refine_guided
from slotseg.segmenting.looks import resample

POINTS_PER_CELL = 4
"""Points of the grid along a cell's side, where that does not make more than ``MAX_POINTS``."""
MAX_POINTS = 1 << 14
MAX_BLOCKS = 1 << 10
"""Most blocks, about; both limits bound the kernel's memory to about 64 MB, whatever the photo's size."""
COLOR = 8.0
"""Standard deviation of colours in CIELAB, whose lightness is 0..100."""
DISTANCE = 0.2
"""Standard deviation of places in short sides of the photo."""
TEMPERATURE = 0.1
"""Temperature of the softmax over the scores; that of the student's assignment in training."""
ITERATIONS = 10


def refined(
    scores: Tensor, covered: tuple[float, float], image: NDArray[np.uint8], config: SegmentConfig, points: int = 1
) -> tuple[Tensor, tuple[float, float]]:
    """Scores as they are, or assignments that follow a photo's edges, as ``config.edges`` says.

    Args:
        scores: Cosines, ``(K, h, w)``.
        covered: Number of cells, (h, w), that the photo covers from the top left.
        image: The photo, RGB, ``(H, W, 3)``.
        config: Settings of segmentation.
        points: Points of the scores along a cell's side. ``covered`` counts them where they are more than one.

    Returns:
        Scores or assignments ``(K, *grid)``, and the number of points of the grid that the photo covers.
    """
    if config.edges == "none":
        return scores, covered
    if config.edges == "guided":
        return refine_guided(scores, covered, image, points)
    return refine(scores, covered, image, config.field_strength, points)


def refine(
    scores: Tensor,
    covered: tuple[float, float],
    image: NDArray[np.uint8],
    strength: float,
    points: int = 1,
    iterations: int = ITERATIONS,
    valid: Tensor | None = None,
) -> tuple[Tensor, tuple[float, float]]:
    """Assignments that follow a photo's colours.

    Args:
        scores: Cosines, ``(K, h, w)``.
        covered: Number of cells, (h, w), that the photo covers from the top left.
        image: The photo, RGB, ``(H, W, 3)``.
        strength: Weight of the assignments of the other points.
        points: Points of the scores along a cell's side. ``covered`` counts them where they are more than one.
        iterations: Number of iterations.
        valid: Which pixels of the photo are valid, boolean, ``(H, W)``; None for all. The others have no say.

    Returns:
        Assignments ``(K, *grid)``, which sum to 1 over K, and the number of points that the photo
        covers along each axis: all of them.
    """
    finer = min(POINTS_PER_CELL / points, (MAX_POINTS / (covered[0] * covered[1])) ** 0.5)
    height, width = (max(1, round(finer * cells)) for cells in covered)
    logits = resample(scores.float(), covered, (height, width), (height, width)).flatten(1) / TEMPERATURE
    block = max(POINTS_PER_CELL, int(np.ceil((height * width / MAX_BLOCKS) ** 0.5)))

    def means(points: Tensor) -> Tensor:  # (channels, N) -> (channels, M)
        grid = points.reshape(1, -1, height, width)
        return F.avg_pool2d(grid, block, ceil_mode=True, count_include_pad=False)[0].flatten(1)

    shown = None if valid is None else F.adaptive_avg_pool2d(valid[None].float(), (height, width)).flatten(1) >= 0.5
    share = None if shown is None else means(shown.float())

    def blocks(points: Tensor) -> Tensor:
        return means(points) if shown is None or share is None else means(points * shown) / share.clamp(min=1e-6)

    places = _colors_and_places(image, (height, width)).to(scores.device)
    kernel = torch.exp(-torch.cdist(places.T, blocks(places).T).square().div(2).clamp(max=30))  # no denormal numbers
    if share is not None:
        kernel *= share.clamp(min=1e-6)
    kernel /= kernel.sum(dim=1, keepdim=True)
    assignments = logits.softmax(dim=0)
    for _ in range(iterations):
        assignments = (logits + strength * (blocks(assignments) @ kernel.T)).softmax(dim=0)
    return assignments.reshape(-1, height, width), (height, width)


def _colors_and_places(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Tensor:
    """Colour and place of each point in standard deviations, ``(5, N)``."""
    height, width = size_hw
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab).transpose(2, 0, 1) / COLOR
    place = np.mgrid[:height, :width].astype(np.float32) / (min(size_hw) * DISTANCE)
    return torch.from_numpy(np.concatenate([lab, place]).reshape(5, -1))
