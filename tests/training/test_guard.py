"""What is done on the device about a step that is no good, and what is read of it later."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from slotseg.method.lars import LARS
from slotseg.training.guard import MAX_IN_A_ROW, Guard


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3))


def judged(guard: Guard, factor: float, *, gradients: bool = True) -> Tensor:
    """The flag of a step whose loss is multiplied by a factor."""
    guard.remember()
    guard.model.zero_grad()
    loss = guard.model(torch.randn(4, 3)).square().sum() * factor
    loss.backward()
    return guard.judge(loss, gradients=gradients)


def buffers(model: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in model.buffers()]


def test_an_unsound_step_is_undone_and_a_sound_one_stays(model: nn.Module) -> None:
    guard = Guard(model)
    for factor, same in [(1.0, False), (float("inf"), True), (float("nan"), True), (1.0, False)]:
        before = buffers(model)
        assert judged(guard, factor).item() == same
        assert [torch.equal(a, b) for a, b in zip(buffers(model), before, strict=True)] == [same] * len(before)


def test_gradients_are_looked_at_where_they_are_to_be(model: nn.Module) -> None:
    guard, loss = Guard(model), torch.tensor(1.0)
    guard.remember()
    model[0].weight.grad = torch.full((3, 3), float("inf"))  # type: ignore[index]
    assert guard.judge(loss).item() == 1
    assert guard.judge(loss, gradients=False).item() == 0


def test_steps_are_counted_when_they_are_heeded_and_known_before(
    model: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(model, skipped=1)
    judged(guard, float("nan"))
    assert (guard.skipped, guard.in_a_row, guard.num_unread) == (2, 0, 1)
    guard.heed(latest=False)
    assert (guard.skipped, guard.in_a_row, guard.num_unread) == (2, 0, 1)
    judged(guard, 1.0)
    guard.heed(latest=False)
    assert (guard.skipped, guard.in_a_row, guard.num_unread) == (2, 1, 1)
    assert [message for message in caplog.messages if "the loss is nan" in message]
    guard.heed(latest=True)
    assert (guard.skipped, guard.in_a_row, guard.num_unread) == (2, 0, 0)


def test_the_last_of_many_skipped_steps_in_a_row_is_not_passed_over(model: nn.Module) -> None:
    guard = Guard(model)
    for factor in [float("inf")] * MAX_IN_A_ROW + [1.0]:
        judged(guard, factor)
    guard.heed(latest=True)
    assert (guard.skipped, guard.in_a_row, guard.num_unread) == (MAX_IN_A_ROW, MAX_IN_A_ROW, 1)


@pytest.mark.parametrize("optimizer", [LARS, torch.optim.AdamW])
def test_nothing_waits_for_the_device(optimizer: type) -> None:
    """Tensors without values refuse to be read, so what does not fail here does not wait."""
    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        guard = Guard(model)
        flag = judged(guard, 1.0)
        stepping = optimizer(model.parameters(), lr=0.1, **({} if optimizer is LARS else {"fused": True}))
        stepping.found_inf = flag
        stepping.step()
        judged(guard, 1.0)
        refused = "_local_scalar_dense|create_unbacked_symint"  # what reading needs; the second in torch 2.4
        with pytest.raises((DataDependentOutputException, AttributeError), match=refused):
            guard.heed(latest=False)
