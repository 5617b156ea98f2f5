"""What a step of SlotCon gives: maps and slots of both branches, and the losses.

Letters: B images, K prototypes, D projection dimension, h w feature cells.
"""

from dataclasses import dataclass

from torch import Tensor

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class BranchOutput:
    """Maps and slots that one branch, student or teacher, makes of one view."""

    projections: Tensor
    """Projected features, ``(B, D, h, w)``."""
    scores: Tensor
    """Cosine similarity to the prototypes, ``(B, K, h, w)``."""
    slots: Tensor
    """Pooled features, ``(B, K, D)``."""
    aligned: Tensor
    """Scores of the overlap, upright, ``(B, K, h, w)``."""
    valid: Tensor | None = None
    """Which cells of the view are valid, boolean, ``(B, h, w)``; None if all cells of all processes are."""
    aligned_valid: Tensor | None = None
    """Which cells of ``aligned`` are; None where ``valid`` is."""


@dataclass(frozen=True, kw_only=True)
class SlotConOutput:
    """Losses of one step and the outputs they come from; ``1to2`` is student 1 against teacher 2."""

    loss: Tensor
    """Weighted total, a scalar to call ``backward`` on."""
    grouping_losses: Pair
    """Grouping loss (section 3.1) 1to2 and 2to1, unweighted."""
    slot_losses: Pair
    """Slot loss (section 3.2) 1to2 and 2to1, with their factor of twice the temperature, unweighted."""
    student: tuple[BranchOutput, BranchOutput]
    """The student's outputs for view 1 and 2."""
    teacher: tuple[BranchOutput, BranchOutput]
    """The teacher's outputs for view 1 and 2, without gradient."""

    @property
    def valid(self) -> Pair | None:
        """Which cells of view 1 and 2 are valid, boolean, ``(B, h, w)``; None if all cells of all processes are."""
        one, two = (branch.valid for branch in self.teacher)
        return None if one is None or two is None else (one, two)

    @property
    def overlap_valid(self) -> Tensor | None:
        """Which aligned cells are valid in both views, boolean, ``(B, h, w)``; None where ``valid`` is."""
        one, two = (branch.aligned_valid for branch in self.teacher)
        return None if one is None or two is None else one & two
