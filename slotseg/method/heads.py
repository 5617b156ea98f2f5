"""Projection and prediction MLPs: one builder for 1x1 convolutions (dense maps) and linear layers (slots).

Letters: B images, D projection dimension, h w feature cells, N slots.
"""

from torch import nn

from slotseg.networks.pointwise import PointwiseConv2d


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
