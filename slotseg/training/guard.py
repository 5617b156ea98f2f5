"""Steps without a finite loss and gradient: they are skipped and counted.

The device decides whether a step is sound, and undoes what an unsound one changed, so nothing waits for the answer. The
answer is copied to the CPU meanwhile and read when the next step is on its way.
"""

import logging
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor, nn

from slotseg import distributed

log = logging.getLogger(__name__)

MAX_IN_A_ROW = 5
"""Skipped steps in a row that end a run; a single batch is not to blame then."""
NAMED = 3
"""Skipped steps that are named in the log; all are counted."""


class Guard:
    """Tells sound steps from those to skip.

    Args:
        model: The model in training; the gradients of its parameters are checked.
        skipped: Steps that were skipped before.

    Attributes:
        in_a_row: Skipped steps since the last sound one, as far as they have been heeded.
        loss: Loss of the last step that was heeded.
    """

    def __init__(self, model: nn.Module, skipped: int = 0) -> None:
        self.model, self.in_a_row, self.loss = model, 0, 0.0
        self._skipped = skipped
        self._before: list[Tensor] = []
        self._unread: deque[Callable[[], list[float]]] = deque()

    @property
    def skipped(self) -> int:
        """Number of skipped steps; waits for the last step."""
        return self._skipped + sum(int(read()[0]) for read in self._unread)

    @property
    def num_unread(self) -> int:
        """Number of steps that have been judged and not been heeded."""
        return len(self._unread)

    @torch.no_grad()
    def remember(self) -> None:
        """Keep a copy of the buffers: statistics of BatchNorm, centre, confusion."""
        self._before = [_flat(buffers) for buffers in self._buffers()]

    @torch.no_grad()
    def judge(self, loss: Tensor, *, gradients: bool = True) -> Tensor:
        """Decide whether a step is unsound in any process; if it is, put the buffers back as ``remember`` saw them.

        Args:
            loss: The step's loss, a scalar.
            gradients: Whether gradients are checked too.

        Returns:
            1 if the step is to be skipped, else 0: a float32 scalar on the device, to be used there.
        """
        numbers = [loss.float()]
        if gradients:
            numbers += torch._foreach_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        broken = torch.stack(numbers).isfinite().all().logical_not()
        unsound = distributed.total(broken.float()).clamp(max=1.0)
        self._undo_if(unsound > 0)
        self._unread.append(_fetched(torch.stack([unsound, loss.float()])))
        return unsound

    def heed(self, *, latest: bool) -> None:
        """Count the steps that were judged, in order, and name the first that were skipped.

        It ends at the last of ``MAX_IN_A_ROW`` skipped steps in a row.

        Args:
            latest: Whether to wait for the last step; the steps before it are done by now.
        """
        while self.num_unread > (0 if latest else 1) and self.in_a_row < MAX_IN_A_ROW:
            unsound, self.loss = self._unread.popleft()()
            self.in_a_row = self.in_a_row + 1 if unsound else 0
            self._skipped += int(unsound)
            if unsound and self._skipped <= NAMED and distributed.rank() == 0:
                log.warning("Skipped a step whose loss or gradient is no number (the loss is %s)", self.loss)

    def _undo_if(self, unsound: Tensor) -> None:
        for before, buffers in zip(self._before, self._buffers(), strict=True):
            kept = torch.where(unsound, before, _flat(buffers)).split_with_sizes([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [k.view_as(buffer) for k, buffer in zip(kept, buffers, strict=True)])

    def _buffers(self) -> list[list[Tensor]]:
        """The model's buffers by type; those of one type are copied together, in a few kernels."""
        groups: dict[torch.dtype, list[Tensor]] = {}
        for buffer in self.model.buffers():
            groups.setdefault(buffer.dtype, []).append(buffer)
        return list(groups.values())


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _fetched(tensor: Tensor) -> Callable[[], list[float]]:
    """Start to copy a tensor to the CPU. The function returned waits for the values, and for nothing queued later."""
    copy = tensor.to("cpu", non_blocking=tensor.is_cuda)
    if not tensor.is_cuda:
        return copy.tolist
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def values() -> list[float]:
        arrived.synchronize()
        read: list[float] = copy.tolist()
        return read

    return values
