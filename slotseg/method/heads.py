"""Projection and prediction MLPs: one builder for 1x1 convolutions (dense maps) and linear layers (slots).

Letters: B images, D projection dimension, h w feature cells, N slots.
"""

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


def projector(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Three 1x1 convolutions, ``(B, in_dim, h, w)`` -> ``(B, out_dim, h, w)``."""
    return _mlp(in_dim, hidden_dim, out_dim, dense=True)


def predictor(dim: int, hidden_dim: int) -> nn.Sequential:
    """Three linear layers on slots, ``(N, dim)`` -> ``(N, dim)``."""
    return _mlp(dim, hidden_dim, dim, dense=False)


def _mlp(in_dim: int, hidden_dim: int, out_dim: int, *, dense: bool) -> nn.Sequential:
    """Three layers, BatchNorm and GELU after the first two. Weights start truncated normal (0.02), biases at 0."""

    def layer(n_in: int, n_out: int) -> nn.Module:
        linear = PointwiseConv2d(n_in, n_out) if dense else nn.Linear(n_in, n_out)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        assert linear.bias is not None
        nn.init.zeros_(linear.bias)
        return linear

    norm = nn.BatchNorm2d if dense else nn.BatchNorm1d
    return nn.Sequential(
        layer(in_dim, hidden_dim),
        norm(hidden_dim),
        nn.GELU(),
        layer(hidden_dim, hidden_dim),
        norm(hidden_dim),
        nn.GELU(),
        layer(hidden_dim, out_dim),
    )
