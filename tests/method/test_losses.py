"""Both losses against loops; permutations; where gradients go; the centre."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slotseg.method.heads import predictor
from slotseg.method.losses import Center, grouping_loss, slot_loss

B, K, D, H, W = 3, 4, 5, 2, 3


def random(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    tensor = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return tensor.requires_grad_(grad)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(v) for v in values]
    return [p / sum(powers) for p in powers]


VALID = torch.tensor([[[1, 0, 1], [0, 1, 1]], [[0, 0, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 0]]], dtype=torch.bool)
"""Of the second image, nothing is valid."""


def slow_grouping_loss(
    student: Tensor, teacher: Tensor, center: Tensor, ts: float, tt: float, valid: Tensor | None = None
) -> float:
    total, number = 0.0, 0
    for b in range(B):
        for y in range(H):
            for x in range(W):
                if valid is not None and not valid[b, y, x]:
                    continue
                number += 1
                target = softmax([(teacher[b, k, y, x].item() - center[k].item()) / tt for k in range(K)])
                prediction = softmax([student[b, k, y, x].item() / ts for k in range(K)])
                total -= sum(t * math.log(p) for t, p in zip(target, prediction, strict=True))
    return total / number


def slow_slot_loss(q: Tensor, k: Tensor, q_wins: Tensor, k_wins: Tensor, temperature: float) -> float:
    def cosine(u: Tensor, v: Tensor) -> float:
        return float(u @ v / u.norm() / v.norm())

    losses = []
    for b in range(B):
        for i in range(K):
            if q_wins[b, i] and k_wins[b, i]:
                logits = [cosine(q[b, i], k[n]) / temperature for n in zip(*k_wins.nonzero().T.tolist(), strict=True)]
                positive = cosine(q[b, i], k[b, i]) / temperature
                losses.append(math.log(sum(math.exp(x) for x in logits)) - positive)
    return 2 * temperature * sum(losses) / len(losses)


@pytest.mark.parametrize("valid", [None, VALID], ids=["all", "some"])
@pytest.mark.parametrize(("ts", "tt"), [(0.1, 0.07), (1.0, 0.5)])
def test_grouping_loss_agrees_with_loops(ts: float, tt: float, valid: Tensor | None) -> None:
    student, teacher, center = random(B, K, H, W), random(B, K, H, W, seed=1), random(K, seed=2)
    ours = grouping_loss(student, teacher, center, ts, tt, valid)
    assert ours.item() == pytest.approx(slow_grouping_loss(student, teacher, center, ts, tt, valid))


def test_what_is_all_valid_changes_no_bit_and_what_is_all_missing_nothing() -> None:
    scores: Any = random(B, K, H, W).float(), random(B, K, H, W, seed=1).float(), random(K, seed=2).float()
    every = torch.ones(B, H, W, dtype=torch.bool)
    assert torch.equal(grouping_loss(*scores, 0.1, 0.07, every), grouping_loss(*scores, 0.1, 0.07))
    assert grouping_loss(*scores, 0.1, 0.07, ~every).item() == 0
    centers = [Center(K, momentum=0.9) for _ in range(3)]
    for center, valid in zip(centers, (None, (every, every), (~every, ~every)), strict=True):
        center.value.fill_(0.5)
        center.update((scores[0], scores[1]), valid)
    assert torch.equal(centers[0].value, centers[1].value)
    assert (centers[2].value == 0.5).all()


def wins() -> tuple[Tensor, Tensor]:
    query = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
    key = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 1, 1]], dtype=torch.bool)
    return query, key


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_slot_loss_agrees_with_loops(temperature: float) -> None:
    q, k = random(B, K, D), random(B, K, D, seed=1)
    ours = slot_loss(q, k, *wins(), nn.Identity(), temperature)
    assert ours.item() == pytest.approx(slow_slot_loss(q, k, *wins(), temperature))


def test_only_positives_enter_the_predictor() -> None:
    seen: list[Tensor] = []
    head = nn.Identity()
    head.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    q = random(B, K, D)
    slot_loss(q, random(B, K, D, seed=1), *wins(), head, 0.2)
    assert [rows.tolist() for rows in seen] == [q[wins()[0] & wins()[1]].tolist()]


def test_permuting_prototypes_leaves_the_losses() -> None:
    order = torch.tensor([2, 0, 3, 1])
    student, teacher, center = random(B, K, H, W), random(B, K, H, W, seed=1), random(K, seed=2)
    q, k, head = random(B, K, D), random(B, K, D, seed=1), predictor(D, 8).double()
    torch.testing.assert_close(
        grouping_loss(student[:, order], teacher[:, order], center[order], 0.1, 0.07),
        grouping_loss(student, teacher, center, 0.1, 0.07),
    )
    torch.testing.assert_close(
        slot_loss(q[:, order], k[:, order], *(w[:, order] for w in wins()), head, 0.2),
        slot_loss(q, k, *wins(), head, 0.2),
    )


@pytest.mark.parametrize("positives", [0, 1])
def test_too_few_positives_give_zero_with_a_graph(positives: int) -> None:
    q, k, head = random(B, K, D, grad=True), random(B, K, D, seed=1), predictor(D, 8).double()
    mask = torch.zeros(B, K, dtype=torch.bool)
    mask[0, :positives] = True
    loss = slot_loss(q, k, mask, torch.ones_like(mask), head, 0.2)
    assert loss.item() == 0
    loss.backward()
    for tensor in (q, *head.parameters()):
        assert tensor.grad is not None
        assert (tensor.grad == 0).all()


def test_gradient_reaches_the_student_alone() -> None:
    student, teacher, center = random(B, K, H, W, grad=True), random(B, K, H, W, seed=1, grad=True), random(K, seed=2)
    q, k = random(B, K, D, grad=True), random(B, K, D, seed=1, grad=True)
    head = predictor(D, 8).double()
    (grouping_loss(student, teacher, center, 0.1, 0.07) + slot_loss(q, k, *wins(), head, 0.2)).backward()
    assert teacher.grad is None
    assert k.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert q.grad is not None
    rows = q.grad.abs().sum(2) > 0
    assert torch.equal(rows, wins()[0] & wins()[1])


def test_a_perfect_student_has_the_targets_entropy() -> None:
    teacher, zero = random(B, K, H, W), torch.zeros(K, dtype=torch.float64)
    target = (teacher / 0.5).softmax(1)
    entropy = -(target * target.log()).sum(1).mean()
    torch.testing.assert_close(grouping_loss(teacher, teacher, zero, 0.5, 0.5), entropy)
    assert grouping_loss(-teacher, teacher, zero, 0.5, 0.5) > entropy


def test_float32_under_autocast() -> None:
    q, k, head = random(B, K, D).float(), random(B, K, D, seed=1).float(), predictor(D, 8)
    scores: Any = random(B, K, H, W).float(), random(B, K, H, W, seed=1).float(), torch.zeros(K)
    full = slot_loss(q, k, *wins(), head, 0.2), grouping_loss(*scores, 0.1, 0.07)
    with torch.autocast("cpu", torch.bfloat16):
        low = slot_loss(q, k, *wins(), head, 0.2), grouping_loss(*scores, 0.1, 0.07)
    assert {x.dtype for x in low} == {torch.float32}
    torch.testing.assert_close(low[0], full[0], rtol=0.05, atol=0.05)
    assert torch.equal(low[1], full[1])


def test_the_centre_follows_the_mean_of_both_views() -> None:
    center = Center(K, momentum=0.9)
    views = random(B, K, H, W, grad=True), random(B, K, H, W, seed=1)
    expected = [0.0] * K
    for _ in range(3):
        center.update((views[0], views[1]))
        for k in range(K):
            mean = sum(v[:, k].mean().item() for v in views) / 2
            expected[k] = 0.9 * expected[k] + 0.1 * mean
    assert center.value.tolist() == pytest.approx(expected, rel=1e-5)
    valid = VALID, torch.ones_like(VALID)
    center.update((views[0], views[1]), valid)
    for k in range(K):
        cells = torch.cat([view[:, k][v] for view, v in zip(views, valid, strict=True)])
        expected[k] = 0.9 * expected[k] + 0.1 * cells.mean().item()
    assert center.value.tolist() == pytest.approx(expected, rel=1e-5)
    assert not center.value.requires_grad
    assert center.value.dtype == torch.float32
    assert center.state_dict().keys() == {"value"}
