"""Dense maps of two views brought onto their overlap.

Letters: B images, K prototypes, h w feature cells.
"""

import torch
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
