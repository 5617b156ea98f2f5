"""Measures of collapse and of dead prototypes, from one batch of scores.

Letters: B images, K prototypes, h w feature cells.
"""

import torch
from torch import Tensor

from slotseg import distributed


@torch.no_grad()
def collapse_figures(scores: Tensor, temperature: float) -> dict[str, float]:
    """How a batch of cells is spread over the prototypes, of all processes.

    Args:
        scores: Cosine similarities of this process's part, shape ``(B, K, h, w)``.
        temperature: Of the assignment.

    Returns:
        ``active_prototypes``: how many win at least one cell. ``largest_share``: share of the
        cells that the most frequent one wins, 0..1. ``entropy_per_pixel``: mean entropy of the
        assignment of a cell, in units of log K, so 0 is certain and 1 undecided.
        ``entropy_overall``: entropy of the mean assignment in the same units; near 0 when all
        cells go to one prototype.
    """
    num_prototypes = scores.shape[1]
    cells = scores.float().permute(0, 2, 3, 1).reshape(-1, num_prototypes)
    shares = distributed.mean(torch.bincount(cells.argmax(dim=1), minlength=num_prototypes) / len(cells))
    assignment = (cells / temperature).softmax(dim=1)
    per_pixel, overall = distributed.mean(_entropy(assignment).mean()), distributed.mean(assignment.mean(dim=0))
    unit = torch.tensor(float(num_prototypes)).log().item()
    return {
        "active_prototypes": int((shares > 0).sum()),
        "largest_share": shares.max().item(),
        "entropy_per_pixel": per_pixel.item() / unit,
        "entropy_overall": _entropy(overall).item() / unit,
    }


def _entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(dim=-1)
