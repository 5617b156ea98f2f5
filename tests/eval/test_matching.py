import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from slotseg.errors import ConfigError
from slotseg.eval.matching import UNMATCHED, group, hungarian, majority, match, merge

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "matching.json").read_text())["cases"]


def best_by_trying_all(table):
    """Most pixels any one-to-one match gets right: every way to pair the shorter side with the longer."""
    short = table if table.shape[0] <= table.shape[1] else table.T
    rows, width = np.arange(len(short)), short.shape[1]
    return max(short[rows, list(c)].sum() for c in itertools.permutations(range(width), len(short)))


@pytest.mark.parametrize("mode", ["hungarian", "majority"])
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden_assignments(case, mode):
    expected = [UNMATCHED if c is None else c for c in case[mode]["class_of_prototype"]]
    assignment = match(np.array(case["contingency"]), mode)
    assert assignment.dtype == np.int64
    assert assignment.tolist() == expected


@pytest.mark.parametrize("shape", [(5, 5), (3, 6), (6, 3), (1, 4), (4, 1)])
def test_hungarian_is_one_to_one_and_optimal(shape):
    table = np.random.default_rng(sum(shape)).integers(0, 50, shape)
    assignment = hungarian(table)
    matched = np.flatnonzero(assignment != UNMATCHED)
    assert len(matched) == min(shape) == len(set(assignment[matched].tolist()))
    assert table[matched, assignment[matched]].sum() == best_by_trying_all(table)


@pytest.mark.parametrize(
    ("table", "one_to_one", "many_to_one"),
    [
        ([[9, 8], [8, 1]], [1, 0], [0, 0]),  # the greedy pair (0, 0) is not the best match
        ([[9, 0], [5, 1], [0, 3]], [0, UNMATCHED, 1], [0, 0, 1]),
        ([[1, 7, 2]], [1], [1]),
        ([[0, 0], [0, 4], [3, 0]], [UNMATCHED, 1, 0], [UNMATCHED, 1, 0]),
    ],
)
def test_hand_made_tables(table, one_to_one, many_to_one):
    assert hungarian(np.array(table)).tolist() == one_to_one
    assert majority(np.array(table)).tolist() == many_to_one


SIMILAR = np.array([[1.0, 0.1], [1.0, 0.0], [0.1, 1.0], [-0.1, 0.9], [-1.0, 0.0]])


def test_merge_joins_similar_prototypes_and_matches_the_groups_one_to_one():
    table = np.array([[5, 0, 0], [4, 1, 0], [0, 7, 0], [0, 2, 3], [0, 0, 6]])
    assert merge(table, SIMILAR).tolist() == [0, 0, 1, 1, 2]
    assert merge(table, 100 * SIMILAR).tolist() == [0, 0, 1, 1, 2]  # only directions count
    assert match(table, "merge", SIMILAR).tolist() == [0, 0, 1, 1, 2]


def test_groups_do_not_depend_on_labels():
    rng = np.random.default_rng(0)
    groups = {tuple(group(SIMILAR, np.ones(5, bool), 3)) for _ in range(3)}
    assert len(groups) == 1
    table = rng.integers(1, 100, (5, 3))
    merged = merge(table, SIMILAR)
    assert merged[0] == merged[1]
    assert merged[2] == merged[3]
    assert sorted({*merged.tolist()}) == [0, 1, 2]


def test_prototypes_that_win_nothing_use_up_no_group():
    table = np.array([[5, 0], [0, 0], [0, 0], [0, 3], [0, 0]])
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.9, 0.1], [0.0, -1.0]])
    assert merge(table, vectors).tolist() == [0, UNMATCHED, UNMATCHED, 1, UNMATCHED]


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (1, 3)])
def test_merge_of_no_surplus_is_hungarian(shape):
    rng = np.random.default_rng(1)
    table = rng.integers(1, 50, shape)
    assert merge(table, rng.normal(size=(shape[0], 5))).tolist() == hungarian(table).tolist()


def test_merge_of_nothing_and_without_vectors():
    assert merge(np.zeros((3, 2), np.int64), SIMILAR[:3]).tolist() == [UNMATCHED] * 3
    with pytest.raises(ConfigError, match="merge needs the prototypes themselves, which masks don't have"):
        match(np.eye(2, dtype=np.int64), "merge")


def test_permuting_prototypes_permutes_the_match():
    rng = np.random.default_rng(0)
    table, order = rng.integers(0, 10**6, (12, 7)), rng.permutation(12)
    vectors = rng.normal(size=(12, 4))
    for mode in ("hungarian", "merge", "majority"):
        assert match(table[order], mode, vectors[order]).tolist() == match(table, mode, vectors)[order].tolist()


def test_unknown_mode_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'greedy'.*hungarian, merge, majority"):
        match(np.eye(2, dtype=np.int64), "greedy")
