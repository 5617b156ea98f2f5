"""Projector and predictor: layout, initial weights, and that both are the same MLP."""

import pytest
import torch
from torch import nn

from slotseg.method.heads import predictor, projector
from slotseg.networks.pointwise import PointwiseConv2d

DENSE = [PointwiseConv2d, nn.BatchNorm2d, nn.GELU, PointwiseConv2d, nn.BatchNorm2d, nn.GELU, PointwiseConv2d]
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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pointwise_convolution_is_the_convolution(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    ours = PointwiseConv2d(5, 7).double().to(memory_format=layout)
    theirs = nn.Conv2d(5, 7, 1).double()
    theirs.load_state_dict(ours.state_dict())
    one = torch.randn(2, 5, 3, 4, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    two = one.detach().clone().requires_grad_()
    weight = torch.randn(2, 7, 3, 4, dtype=torch.float64)
    for conv, x in ((ours, one), (theirs, two)):
        (conv(x) * weight).sum().backward()
    torch.testing.assert_close(ours(one), theirs(two))
    torch.testing.assert_close(one.grad, two.grad)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert ours(one).is_contiguous(memory_format=torch.channels_last)
    ours.zero_grad()
    (ours(one) + ours(two)).sum().backward()  # twice, as with two views
    assert ours.weight.grad is not None
    assert ours.weight.grad.stride() == ours.weight.stride()
