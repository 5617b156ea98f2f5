"""Steps without a finite loss and gradient: they are skipped and counted, and leave no trace."""

import logging

import torch
from torch import Tensor, nn

from slotseg import distributed

log = logging.getLogger(__name__)

MAX_IN_A_ROW = 5
"""Skipped steps in a row that end a run: what is wrong then is not the batch."""
NAMED = 3
"""Skipped steps that are named in the log; all are counted."""


class Guard:
    """Tells sound steps from those to skip.

    Args:
        model: In training; its parameters with gradients are looked at.
        skipped: Steps that were skipped before.

    Attributes:
        skipped: Number of skipped steps.
        in_a_row: Of these, how many have come since the last sound one.
    """

    def __init__(self, model: nn.Module, skipped: int = 0) -> None:
        self.model, self.skipped, self.in_a_row = model, skipped, 0
        self._before: list[Tensor] = []

    @torch.no_grad()
    def remember(self) -> None:
        """Keep what a forward may change: the statistics of BatchNorm."""
        buffers = list(self.model.buffers())
        if not self._before:
            self._before = [buffer.clone() for buffer in buffers]
        torch._foreach_copy_(self._before, buffers)

    @torch.no_grad()
    def passes(self, loss: Tensor, *, gradients: bool = True) -> bool:
        """Whether a step is sound in all processes; if not, it is counted, and its forward undone.

        Args:
            loss: A scalar.
            gradients: Whether gradients are looked at too.
        """
        figures = [loss.float()]
        if gradients:
            figures += torch._foreach_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        (unsound,) = distributed.anywhere(not bool(torch.stack(figures).isfinite().all()))
        if not unsound:
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        if self.skipped <= NAMED and distributed.rank() == 0:
            log.warning("Skipped a step whose loss or gradient is no number (the loss is %s)", loss.item())
        torch._foreach_copy_(list(self.model.buffers()), self._before)
        return False
