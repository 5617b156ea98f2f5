"""LARS against a slow version, and where its factor must be 1."""

import pytest
import torch
from torch import Tensor

from slotseg.method.lars import LARS


def slow_step(w: Tensor, g: Tensor, v: Tensor, lr: float, mu: float, wd: float, trust: float) -> tuple[Tensor, Tensor]:
    if w.ndim > 1:
        g = g + wd * w
        if w.norm() > 0 and g.norm() > 0:
            g = g * trust * w.norm() / g.norm()
    v = mu * v + g
    return w - lr * v, v


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_agrees_with_the_slow_version(dtype: torch.dtype, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    start = [torch.randn(s, dtype=dtype) for s in ((4, 3), (2, 3, 3, 3), (5,), (1, 1))]
    start[1] = start[1].contiguous(memory_format=layout)
    start.append(torch.zeros(3, 2, dtype=dtype))
    params = [torch.nn.Parameter(p.clone()) for p in start]
    settings = {"momentum": 0.8, "weight_decay": 0.1, "trust_coefficient": 0.02}
    optimizer = LARS([{"params": params[:3]}, {"params": params[3:], "lr": 0.3}], lr=0.5, **settings)
    velocities = [torch.zeros_like(p) for p in start]
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 0.5 / (step + 1)
        for i, p in enumerate(params):
            p.grad = torch.randn_like(p)
            lr = 0.5 / (step + 1) if i < 3 else 0.3
            start[i], velocities[i] = slow_step(start[i], p.grad, velocities[i], lr, 0.8, 0.1, 0.02)
        optimizer.step()
        for ours, slow in zip(params, start, strict=True):
            torch.testing.assert_close(ours.detach(), slow)


@pytest.mark.parametrize(
    ("weight", "gradient", "decay", "expected"),
    [
        ([[0.0, 0.0]], [[1.0, 2.0]], 0.1, [[-1.0, -2.0]]),  # no weight: factor 1
        ([[3.0, 4.0]], [[0.0, 0.0]], 0.0, [[3.0, 4.0]]),  # no gradient
        ([[0.0, 0.0]], [[0.0, 0.0]], 0.1, [[0.0, 0.0]]),
        ([[3.0, 4.0]], [[0.0, 2.0]], 0.0, [[3.0, 3.5]]),  # 0.1 * 5 / 2 of the gradient
        ([3.0, 4.0], [0.0, 2.0], 0.1, [3.0, 2.0]),  # one axis: neither decay nor factor
    ],
)
def test_one_step(weight: list[float], gradient: list[float], decay: float, expected: list[float]) -> None:
    p = torch.nn.Parameter(torch.tensor(weight))
    p.grad = torch.tensor(gradient)
    LARS([p], lr=1.0, weight_decay=decay, trust_coefficient=0.1).step()
    torch.testing.assert_close(p.detach(), torch.tensor(expected))


def test_parameters_without_gradient_stay() -> None:
    p, still = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    p.grad = torch.ones(2, 2)
    optimizer = LARS([p, still], lr=1.0)
    optimizer.step()
    assert (p != 1).all()
    assert (still == 1).all()
    assert len(optimizer.state_dict()["state"]) == 1


def test_its_state_continues_exactly() -> None:
    def run(steps: int, p: torch.nn.Parameter, optimizer: LARS) -> None:
        for _ in range(steps):
            p.grad = p.detach().cos()
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(2, 2))
    run(5, whole, LARS([whole], lr=0.5))
    first = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([first], lr=0.5)
    run(2, first, optimizer)
    second = torch.nn.Parameter(first.detach().clone())
    resumed = LARS([second], lr=0.5)
    resumed.load_state_dict(optimizer.state_dict())
    run(3, second, resumed)
    assert torch.equal(whole, second)


@pytest.mark.parametrize("found", [0.0, 1.0])
def test_a_flag_on_the_device_keeps_everything_as_it_was(found: float) -> None:
    p, q = (torch.nn.Parameter(torch.full((2, 2), 3.0)) for _ in range(2))
    for parameter in (p, q):
        parameter.grad = torch.full((2, 2), 2.0)
    plain, flagged = LARS([p], lr=1.0), LARS([q], lr=1.0)
    flagged.found_inf = torch.tensor(found)  # type: ignore[attr-defined]
    plain.step()
    flagged.step()
    assert torch.equal(q, torch.full((2, 2), 3.0) if found else p)
    moved = flagged.state[q]["momentum_buffer"]
    assert torch.equal(moved, torch.zeros(2, 2) if found else plain.state[p]["momentum_buffer"])
