"""Dense maps brought onto each other: the overlap of two views in training, several looks at a photo later.

Letters: B images, K prototypes, h w feature cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def align(scores: Tensor, overlap_box: Tensor, flip: Tensor) -> Tensor:
    """Resample score maps so that the same cell of both views shows the same place of the photo.

    Args:
        scores: Dense maps, shape ``(B, K, h, w)``.
        overlap_box: Overlap with the other view, xyxy in [0, 1] of this view as the network
            sees it (after its flip), shape ``(B, 4)``.
        flip: Whether this view was mirrored left-right, boolean, shape ``(B,)``.

    Returns:
        Aligned maps, shape ``(B, K, h, w)``: the overlap alone, upright.
    """
    num_images, _, height, width = scores.shape
    index = torch.arange(num_images, dtype=scores.dtype, device=scores.device)
    x1, y1, x2, y2 = overlap_box.to(scores).unbind(dim=1)
    boxes = torch.stack([index, x1 * width, y1 * height, x2 * width, y2 * height], dim=1)
    with torch.autocast(scores.device.type, enabled=False):
        cropped = roi_align(scores, boxes, output_size=(height, width), aligned=True)
    upright: Tensor = torch.where(flip.bool()[:, None, None, None], cropped.flip(3), cropped)
    return upright


def resample(
    scores: Tensor,
    covered: tuple[float, float],
    grid: tuple[int, int],
    grid_covered: tuple[float, float],
    mirrored: bool = False,
) -> Tensor:
    """Bring one look's scores to the cells of another, or to any grid.

    Args:
        scores: ``(K, h, w)``.
        covered: Cells, (h, w), of ``scores`` that the image covers.
        grid: Cells of the other look, (h, w).
        grid_covered: Those of them that the image covers.
        mirrored: Whether ``scores`` are of the left-right mirrored image.

    Returns:
        Bilinear samples at the centres of the other look's cells, ``(K, *grid)``.
    """
    axes = []
    for axis in (0, 1):
        place = (torch.arange(grid[axis], device=scores.device) + 0.5) / grid_covered[axis]  # 0..1 in the image
        place = 1 - place if mirrored and axis == 1 else place
        axes.append(2 * place * covered[axis] / scores.shape[axis + 1] - 1)
    y, x = torch.meshgrid(*axes, indexing="ij")
    where = torch.stack([x, y], dim=2)[None].to(scores.dtype)
    sampled: Tensor = F.grid_sample(scores[None], where, padding_mode="border", align_corners=False)[0]
    return sampled
