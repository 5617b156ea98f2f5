"""Prototypes: cosine scores, the assignment of pixels, and the slots pooled from it.

Letters: B images, K prototypes, D projection dimension, h w feature cells.
Source: Wen et al., NeurIPS 2022, sections 3.1 (pixel-level grouping) and 3.2 (attentive pooling).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prototypes(nn.Module):
    """K learnable concept vectors that score every cell of a dense map by cosine similarity.

    Each prototype stands for one concept that the whole collection of photos shares. A cell
    belongs to the prototype it is most similar to (section 3.1).

    Args:
        num_prototypes: K, at least 2.
        dim: D, dimension of the projected features.
    """

    def __init__(self, num_prototypes: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_prototypes, dim))

    def forward(self, projections: Tensor) -> Tensor:
        """Scores ``(B, K, h, w)`` in [-1, 1] of projections ``(B, D, h, w)``; float32 or wider."""
        with torch.autocast(projections.device.type, enabled=False):
            weight = self.weight.float() if self.weight.dtype.itemsize < 4 else self.weight
            directions = F.normalize(projections.to(weight.dtype), dim=1)
            return F.conv2d(directions, F.normalize(weight, dim=1)[:, :, None, None])


def slots_from_scores(
    projections: Tensor, scores: Tensor, temperature: float, eps: float = 1e-6, valid: Tensor | None = None
) -> Tensor:
    """Pool projected features into one slot per prototype.

    This is the attentive pooling of section 3.2. Each cell is shared among the prototypes by a
    softmax over K. A slot is the mean of the un-normalised projections, weighted by its share.

    Args:
        projections: Projected features, shape ``(B, D, h, w)``.
        scores: Cosine similarity to the prototypes, shape ``(B, K, h, w)``, in [-1, 1].
        temperature: Softmax temperature, > 0. The paper's recipe uses 0.07.
        eps: Added to each share, so that a prototype no cell chose still has a finite slot.
        valid: Cells to pool, boolean, ``(B, h, w)``; None for all. An image without any has slots of 0.

    Returns:
        Slots, shape ``(B, K, D)``, in the precision of ``scores``.

    Raises:
        ValueError: If batch or spatial sizes of ``projections`` and ``scores`` differ.
    """
    if projections.shape[0] != scores.shape[0] or projections.shape[2:] != scores.shape[2:]:
        raise ValueError(
            f"projections {tuple(projections.shape)} and scores {tuple(scores.shape)} "
            "must agree in batch, height and width"
        )
    with torch.autocast(scores.device.type, enabled=False):
        share = (scores / temperature).softmax(dim=1).flatten(2) + eps
        total = share.sum(dim=2, keepdim=True)
        if valid is not None:
            share = share * valid.flatten(1)[:, None]
            total = share.sum(dim=2, keepdim=True).clamp(min=eps)
        share = share / total
        return share @ projections.to(scores.dtype).flatten(2).transpose(1, 2)


def winners(scores: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mask of the prototypes that win at least one cell of an image.

    Args:
        scores: Cosine similarity to the prototypes, shape ``(B, K, h, w)``.
        valid: Cells that can be won, boolean, ``(B, h, w)``; None for all.

    Returns:
        Boolean mask, shape ``(B, K)``.
    """
    prototype_map = scores.argmax(dim=1)
    number = scores.shape[1]
    if valid is not None:
        prototype_map = prototype_map.where(valid, number)  # a row of its own
    mask = torch.zeros(len(scores), number + 1, dtype=torch.bool, device=scores.device)
    return mask.scatter_(1, prototype_map.flatten(1), True)[:, :number]
