"""Scores, assignment and slots against loops; permutations; precision."""

import math

import pytest
import torch
from torch import Tensor

from slotseg.method.grouping import Prototypes, slots_from_scores, winners

B, K, D, H, W = 2, 5, 3, 4, 6


@pytest.fixture
def prototypes() -> Prototypes:
    torch.manual_seed(0)
    return Prototypes(K, D).double()


@pytest.fixture
def projections() -> Tensor:
    return 3 * torch.randn(B, D, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_scores_are_cosines(prototypes: Prototypes, projections: Tensor) -> None:
    scores = prototypes(projections)
    assert scores.shape == (B, K, H, W)
    for b, k, y, x in [(0, 0, 0, 0), (1, 4, 3, 5), (0, 2, 1, 4)]:
        p, c = prototypes.weight[k].tolist(), projections[b, :, y, x].tolist()
        cosine = sum(u * v for u, v in zip(p, c, strict=True)) / math.hypot(*p) / math.hypot(*c)
        assert scores[b, k, y, x].item() == pytest.approx(cosine)
    torch.testing.assert_close(prototypes(7 * projections), scores)


VALID = torch.rand(B, H, W, generator=torch.Generator().manual_seed(3)) < 0.5


def slow_slots(
    projections: Tensor, scores: Tensor, temperature: float, eps: float, valid: Tensor | None = None
) -> Tensor:
    slots = torch.zeros(B, K, D, dtype=torch.float64)
    for b in range(B):
        cells = [(y, x) for y in range(H) for x in range(W) if valid is None or valid[b, y, x]]
        shares = {}
        for y, x in cells:
            powers = [math.exp(scores[b, k, y, x].item() / temperature) for k in range(K)]
            shares[y, x] = [power / sum(powers) + eps for power in powers]
        for k in range(K):
            total = sum(shares[cell][k] for cell in cells)
            for y, x in cells:
                slots[b, k] += shares[y, x][k] / total * projections[b, :, y, x]
    return slots


@pytest.mark.parametrize("valid", [None, VALID], ids=["all", "some"])
@pytest.mark.parametrize(("temperature", "eps"), [(0.07, 1e-6), (1.0, 0.1)])
def test_slots_agree_with_loops(
    prototypes: Prototypes, projections: Tensor, temperature: float, eps: float, valid: Tensor | None
) -> None:
    scores = prototypes(projections).detach()
    ours = slots_from_scores(projections, scores, temperature, eps, valid)
    torch.testing.assert_close(ours, slow_slots(projections, scores, temperature, eps, valid))


def test_an_image_without_a_valid_cell_has_no_winner_and_empty_slots(
    prototypes: Prototypes, projections: Tensor
) -> None:
    scores, none = prototypes(projections), torch.zeros(B, H, W, dtype=torch.bool)
    assert not winners(scores, none).any()
    assert (slots_from_scores(projections, scores, 0.07, valid=none) == 0).all()
    assert torch.equal(
        slots_from_scores(projections, scores, 0.07, valid=~none), slots_from_scores(projections, scores, 0.07)
    )


def test_a_prototype_no_cell_chose_has_the_mean_as_slot(projections: Tensor) -> None:
    scores = torch.ones(B, K, H, W, dtype=torch.float64)
    scores[:, 2] = -1
    slots = slots_from_scores(projections, scores, 0.001)
    torch.testing.assert_close(slots[:, 2], projections.mean((2, 3)))


def test_permuting_prototypes_permutes_everything(prototypes: Prototypes, projections: Tensor) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    scores = prototypes(projections)
    prototypes.weight.data = prototypes.weight.data[order]
    permuted = prototypes(projections)
    torch.testing.assert_close(permuted, scores[:, order])
    slots = slots_from_scores(projections, scores, 0.07)
    torch.testing.assert_close(slots_from_scores(projections, permuted, 0.07), slots[:, order])
    assert torch.equal(winners(permuted), winners(scores)[:, order])


def test_winners_agree_with_loops() -> None:
    scores = torch.randn(3, 20, 2, 3, generator=torch.Generator().manual_seed(2))
    valid = torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    expected, of_valid = torch.zeros(2, 3, 20, dtype=torch.bool)
    for b in range(3):
        for y in range(2):
            for x in range(3):
                best = max(range(20), key=scores[b, :, y, x].tolist().__getitem__)
                expected[b, best] = True
                of_valid[b, best] |= valid[b, y, x]
    assert torch.equal(winners(scores), expected)
    assert torch.equal(winners(scores, valid), of_valid)
    assert not torch.equal(expected, of_valid)


@pytest.mark.parametrize("shape", [(B + 1, D, H, W), (B, D, H + 1, W), (B, D, W, H)])
def test_sizes_that_differ_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must agree in batch, height and width"):
        slots_from_scores(torch.zeros(shape), torch.zeros(B, K, H, W), 0.07)


def test_float32_under_autocast(prototypes: Prototypes, projections: Tensor) -> None:
    prototypes, projections = prototypes.float(), projections.float()
    scores = prototypes(projections)
    slots = slots_from_scores(projections, scores, 0.07)
    with torch.autocast("cpu", torch.bfloat16):
        low = prototypes(projections.bfloat16())
        assert torch.equal(prototypes(projections), scores)
        assert torch.equal(slots_from_scores(projections, scores, 0.07), slots)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, scores, atol=0.01, rtol=0)
    assert slots_from_scores(projections.bfloat16(), low, 0.07).dtype == torch.float32
