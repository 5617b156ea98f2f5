"""Dense maps of two views brought onto their overlap.

It is ROI-align (He et al., "Mask R-CNN", ICCV 2017, section 3) with one sample in each cell of the result, as the paper
has it. Interpolation is separable, so it is two small matrix products here.
Letters: B images, K prototypes, h w feature cells.
"""

import torch
from torch import Tensor

from slotseg.networks.validity import LEAST


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
    x1, y1, x2, y2 = overlap_box.to(scores).unbind(dim=1)
    left, right = torch.where(flip, x2, x1), torch.where(flip, x1, x2)
    with torch.autocast(scores.device.type, enabled=False):
        rows, columns = _interpolation(y1, y2, scores.shape[2]), _interpolation(left, right, scores.shape[3])
        cells = scores.movedim(1, 3)  # (B, h, w, K), as it lies in memory
        upright: Tensor = columns[:, None] @ (rows @ cells.flatten(2)).view(cells.shape)
    return upright.movedim(3, 1)


def align_valid(
    scores: Tensor, overlap_box: Tensor, flip: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Resample score maps as ``align`` does, from the cells alone that are valid, boolean, ``(B, h, w)``, or from all.

    Returns:
        Aligned maps, ``(B, K, h, w)``, and which of their cells come from valid ones by ``LEAST``; None for all.
    """
    if valid is None:
        return align(scores, overlap_box, flip), None
    mask = valid[:, None].to(scores.dtype)
    share = align(mask, overlap_box, flip)
    return align(scores * mask, overlap_box, flip) / share.clamp(min=LEAST), share[:, 0] >= LEAST


def _interpolation(start: Tensor, end: Tensor, length: int) -> Tensor:
    """Weight of each cell of an axis in each cell of the result, ``(B, length, length)``; ends are in [0, 1]."""
    cells = torch.arange(length, dtype=start.dtype, device=start.device)
    places = start[:, None] + (end - start)[:, None] * (cells + 0.5) / length  # centres of the result's cells
    places = (length * places - 0.5).clamp(0, length - 1)  # beyond the centres at its ends a map stays the same
    return (1 - (places[:, :, None] - cells).abs()).clamp(min=0)
