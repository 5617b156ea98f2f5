"""Measures of collapse and of dead prototypes, from one step's output.

Letters: B images, P trained prototypes, h w feature cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg import distributed
from slotseg.method.outputs import SlotConOutput
from slotseg.networks.validity import weights

COMMON = 0.9
"""Share of the cells that the common prototypes hold together."""


@torch.no_grad()
def collapse_measures(output: SlotConOutput, temperature: float) -> dict[str, float]:
    """Measure how the teacher spreads a batch over its prototypes, and whether it tells anything apart.

    The batch is that of all processes together.

    Args:
        output: Output for this process's part of the batch.
        temperature: Softmax temperature of the teacher.

    Returns:
        Measures by name: those of ``assignment_measures`` for view 1, and two more. ``agreement``: share of the
        overlap's cells in which the student of one view and the teacher of the other choose the same prototype,
        0..1. ``feature_similarity``: mean cosine of two cells' projected features, 1 where all are the same.
    """
    directions = F.normalize(output.teacher[0].projections.float(), dim=1)
    student, teacher = output.student[0].aligned.argmax(dim=1), output.teacher[1].aligned.argmax(dim=1)
    agreeing, valid = (student == teacher).float(), output.teacher[0].valid
    if valid is not None and output.overlap_valid is not None:
        directions, agreeing = directions * weights(valid)[:, None], agreeing * weights(output.overlap_valid)
    mean_direction = distributed.mean(directions.mean(dim=(0, 2, 3)))
    return {
        **assignment_measures(output.teacher[0].scores, temperature, valid),
        "agreement": distributed.mean(agreeing.mean()).item(),
        "feature_similarity": mean_direction.square().sum().item(),
    }


@torch.no_grad()
def assignment_measures(scores: Tensor, temperature: float, valid: Tensor | None = None) -> dict[str, float]:
    """Measure how the cells of a batch, over all processes, are spread over the prototypes.

    Args:
        scores: Cosines of this process's part of the batch, shape ``(B, P, h, w)``.
        temperature: Softmax temperature of the assignment.
        valid: Cells that count, boolean, ``(B, h, w)``; None for all.

    Returns:
        Measures by name. ``active_prototypes``: number of prototypes that win at least one cell.
        ``common_prototypes``: smallest number of them that win 90 % of the cells. ``largest_share``: share of the
        cells that the most frequent one wins, 0..1. ``entropy_per_pixel``: mean entropy of the assignment of a
        cell, in units of log P, so 0 is certain and 1 undecided. ``entropy_overall``: entropy of the mean
        assignment in the same units, near 0 when all cells go to one prototype.
    """
    num_prototypes = scores.shape[1]
    cells = scores.float().permute(0, 2, 3, 1).reshape(-1, num_prototypes)
    weight = cells.new_ones(len(cells)) if valid is None else weights(valid).flatten()
    shares = distributed.mean(torch.bincount(cells.argmax(dim=1), weight, num_prototypes) / len(cells))
    assignment = (cells / temperature).softmax(dim=1)
    per_pixel = distributed.mean((_entropy(assignment) * weight).mean())
    overall = distributed.mean((assignment * weight[:, None]).mean(dim=0))
    unit = torch.tensor(float(num_prototypes)).log().item()
    return {
        "active_prototypes": int((shares > 0).sum()),
        "common_prototypes": 1 + int((shares.sort(descending=True).values.cumsum(0) < COMMON - 1e-6).sum()),
        "largest_share": shares.max().item(),
        "entropy_per_pixel": per_pixel.item() / unit,
        "entropy_overall": _entropy(overall).item() / unit,
    }


def _entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(dim=-1)
