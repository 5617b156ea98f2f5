"""Merging prototypes to concepts by what two views confuse."""

import numpy as np
import pytest
import torch

from slotseg.method.merging import IN_LOOKS, IN_VIEWS, LIKENESS, SIZE_EXPONENT, Confusion, merge_confused


def blocks(within: float, between: float, sizes: tuple[int, ...]) -> np.ndarray:
    """A confusion of groups of prototypes, each confused with the others of its group."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    pairs = np.where(group[:, None] == group, within, between)
    np.fill_diagonal(pairs, 1.0)
    return pairs / pairs.sum()


def test_confused_prototypes_become_one_concept() -> None:
    pairs = blocks(0.4, 0.01, (3, 1, 2))
    concepts = merge_confused(pairs, pairs.sum(axis=1), 3)
    assert concepts.tolist() == [0, 0, 0, 1, 2, 2]


def test_order_of_prototypes_does_not_matter() -> None:
    pairs = blocks(0.4, 0.01, (3, 1, 2))
    order = np.array([4, 0, 3, 5, 2, 1])
    concepts = merge_confused(pairs[np.ix_(order, order)], pairs.sum(axis=1)[order], 3)
    assert concepts.tolist() == [0, 1, 2, 0, 1, 1]


@pytest.mark.parametrize("number", [2, 3, 5, 6])
def test_as_many_concepts_as_asked_for(number: int) -> None:
    rng = np.random.default_rng(number)
    pairs = rng.random((6, 6))
    pairs = pairs + pairs.T
    concepts = merge_confused(pairs, pairs.sum(axis=1), number)
    assert np.unique(concepts).tolist() == list(range(number))


def test_prototypes_out_of_use_take_no_concept() -> None:
    pairs = blocks(0.0, 0.0, (1, 1, 1, 1)) + 1e-6
    pairs[3] = pairs[:, 3] = 0
    pairs[3, 1] = pairs[1, 3] = 1e-7  # never wins, but is taken for 1 if for any
    concepts = merge_confused(pairs, np.array([0.3, 0.4, 0.3, 0.0]), 3)
    assert concepts.tolist() == [0, 1, 2, 1]


def test_the_fewer_concepts_the_more_a_prototype_has_to_win() -> None:
    """Prototype 3 wins 2 %: more than a tenth of a seventh, less than one of a quarter."""
    pairs = blocks(0.0, 0.0, (1,) * 8) + 1e-6
    pairs[0, 1] = pairs[1, 0] = 0.01  # what merging joins first
    wins = np.array([0.2, 0.2, 0.2, 0.02, 0.1, 0.1, 0.1, 0.08])
    alone = {number: (merge_confused(pairs, wins, number) == merge_confused(pairs, wins, number)[3]).sum() == 1
             for number in (4, 7)}  # fmt: skip
    assert alone == {4: False, 7: True}


def test_with_too_few_in_use_the_most_used_of_the_rest_are_kept() -> None:
    pairs = blocks(0.1, 0.1, (4,))
    concepts = merge_confused(pairs, np.array([0.9985, 0.0, 0.001, 0.0005]), 3)
    assert len(set(concepts[[0, 2, 3]])) == 3


def test_nothing_seen_yet_is_no_error() -> None:
    assert merge_confused(np.zeros((6, 6)), np.zeros(6), 3).max() == 2
    assert merge_confused(np.zeros((6, 6)), np.zeros(6), None).max() == 1


def test_large_concepts_are_held_back() -> None:
    """With its size unheeded a large prototype takes in one that it is seldom confused with."""
    pairs = np.diag([0.8, 0.05, 0.05, 0.05])
    pairs[0, 1] = pairs[1, 0] = 0.006
    pairs[2, 3] = pairs[3, 2] = 0.004
    assert merge_confused(pairs, pairs.sum(axis=1), 3).tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("least", [IN_VIEWS, IN_LOOKS])
def test_without_a_number_merging_ends_where_concepts_are_distinct(least: float) -> None:
    distinct = blocks(0.95, 0.001, (3, 1, 2))
    assert merge_confused(distinct, distinct.sum(axis=1), None, least).tolist() == [0, 0, 0, 1, 2, 2]
    share = 1 / 6
    just_below = np.diag(np.full(6, share))
    just_below[0, 1] = just_below[1, 0] = 0.99 * least * share ** (2 * SIZE_EXPONENT)
    assert merge_confused(just_below, np.full(6, share), None, least).max() == 5


def test_scale_does_not_matter() -> None:
    pairs = blocks(0.3, 0.05, (3, 1, 2))
    a, b = (merge_confused(pairs * factor, pairs.sum(axis=1) * factor, None) for factor in (1.0, 0.1))
    assert a.tolist() == b.tolist()


def test_confusion_is_the_mean_product_of_assignments() -> None:
    g = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 3, 5, 4, 4, generator=g)
    confusion = Confusion(5, temperature=0.5, momentum=0.0)
    confusion.update(one, two)
    a, b = ((scores / 0.5).softmax(dim=1) for scores in (one, two))
    expected = torch.einsum("bihw,bjhw->ij", a, b) / (3 * 16)
    torch.testing.assert_close(confusion.value, (expected + expected.T) / 2)
    counts = torch.bincount(torch.cat([one, two]).argmax(dim=1).flatten(), minlength=5)
    torch.testing.assert_close(confusion.wins, counts / counts.sum())
    assert confusion.value.sum().item() == pytest.approx(1)


def test_confusion_moves_by_its_momentum() -> None:
    g = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 1, 5, 4, 4, generator=g)
    confusion = Confusion(5, temperature=0.5, momentum=0.75)
    confusion.update(first, first)
    once = confusion.value.clone()
    confusion.update(first, first)
    torch.testing.assert_close(confusion.value, 1.75 * once)
    confusion.update(second, second)
    assert not torch.allclose(confusion.value, 1.75 * 0.75 * once + once)


def test_alike_prototypes_count_as_confused_the_more() -> None:
    confusion = Confusion(3, temperature=0.5)
    confusion.value.fill_(1)
    of_alike = confusion.of_alike(torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]]))
    expected = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]).div(LIKENESS).exp()
    torch.testing.assert_close(of_alike, expected)


def test_confusion_is_counted_in_valid_cells_alone() -> None:
    g = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 3, 5, 4, 4, generator=g)
    valid = torch.rand(3, 4, 4, generator=g) < 0.5
    ours, alone = Confusion(5, temperature=0.5, momentum=0.9), Confusion(5, temperature=0.5, momentum=0.9)
    ours.update(one, two, valid)
    cells = [scores.movedim(1, 3)[valid].T[None, :, :, None] for scores in (one, two)]
    alone.update(cells[0], cells[1])
    torch.testing.assert_close(ours.value, alone.value)
    torch.testing.assert_close(ours.wins, alone.wins)
    before = ours.value.clone()
    ours.update(one, two, torch.zeros_like(valid))
    assert torch.equal(ours.value, before)
