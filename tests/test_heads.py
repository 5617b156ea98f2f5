"""Projector and predictor: layout, initial weights, and that both are the same MLP."""

import pytest
import torch
from torch import nn

from slotseg.heads import predictor, projector

DENSE = [nn.Conv2d, nn.BatchNorm2d, nn.GELU, nn.Conv2d, nn.BatchNorm2d, nn.GELU, nn.Conv2d]
LINEAR = [nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Linear]


@pytest.mark.parametrize(
    ("head", "layers", "shape", "expected"),
    [
        (projector(12, 64, 8), DENSE, (3, 12, 2, 5), (3, 8, 2, 5)),
        (predictor(8, 64), LINEAR, (7, 8), (7, 8)),
    ],
    ids=["projector", "predictor"],
)
def test_layout_and_initial_weights(
    head: nn.Sequential, layers: list[type], shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert [type(m) for m in head] == layers
    assert head(torch.randn(shape)).shape == expected
    affine = [m for m in head if hasattr(m, "in_features") or hasattr(m, "in_channels")]
    for m in affine:
        assert (m.bias == 0).all()
        assert m.weight.std().item() == pytest.approx(0.02, rel=0.15)
        assert m.weight.flatten(1).shape[1:] == m.weight.squeeze().shape[1:], "1x1"


def test_projector_is_the_predictor_at_every_cell() -> None:
    dense, linear = projector(8, 16, 8).eval(), predictor(8, 16).eval()
    state = linear.state_dict()
    dense.load_state_dict({k: state[k].reshape(v.shape) for k, v in dense.state_dict().items()})
    x = torch.randn(2, 8, 3, 4)
    cells = x.permute(0, 2, 3, 1).reshape(-1, 8)
    torch.testing.assert_close(dense(x).permute(0, 2, 3, 1).reshape(-1, 8), linear(cells))
