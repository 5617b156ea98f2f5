"""A 1x1 convolution, which the heads are made of. Letters: B images, h w feature cells."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution computed as the matrix product it is.

    Parameters, their names and the result are those of ``nn.Conv2d``. With the projector's thousands of channels, a
    step on a CPU takes a fraction of the time.

    Args:
        in_dim: Channels of the input.
        out_dim: Channels of the result.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim, 1)

    def _apply(self, fn: Any, recurse: bool = True) -> "PointwiseConv2d":
        """Keep the weight's strides those of its gradient where a module is moved or laid out channels last.

        The numbers lie in the same order either way. DDP warns of strides that differ.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.weight.data = self.weight.data.flatten(1)[:, :, None, None]
        return self

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_dim, h, w)`` -> ``(B, out_dim, h, w)``, channels last in memory."""
        return F.linear(x.movedim(1, 3), self.weight.flatten(1), self.bias).movedim(3, 1)
