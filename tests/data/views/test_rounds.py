"""Rounds of kept maps: every photo has its turn, memory is bounded, and any step finds its round."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from slotseg.data.views.rounds import Rounds, plan_rounds

FITS = 10**9


def plan(num_photos: int, batch: int, steps: int, *, kept: int = 8, capacity: int = FITS, seed: int = 0) -> Rounds:
    return plan_rounds(num_photos, batch, steps, kept=kept, capacity=capacity, seed=seed)


def drawn(rounds: Rounds, step: int) -> list[int]:
    """Photos of a step."""
    return [int(i) for i in rounds.photos(rounds.round_of(step))[rounds.draw(step).rows]]


MANY = [
    plan(photos, batch, steps, capacity=capacity)
    for photos, batch in ((40, 4), (43, 4), (300, 16), (5, 16), (16, 16))
    for steps in (1, 3, 10, 41, 150)
    for capacity in (FITS, 800, 100, 1)
]


@pytest.mark.parametrize("rounds", MANY, ids=str)
def test_each_step_draws_from_the_photos_of_its_round(rounds: Rounds) -> None:
    firsts = [rounds.first_step(number) for number in range(len(rounds) + 1)]
    assert firsts[0] == 0
    assert firsts[-1] == rounds.total_steps
    assert all(one < two for one, two in pairwise(firsts)), "no round is looked at in vain"
    for step in range(rounds.total_steps):
        number, draw = rounds.round_of(step), rounds.draw(step)
        assert firsts[number] <= step < firsts[number + 1]
        assert draw.rows.shape == (rounds.batch_size,)
        assert draw.rows.max() < len(rounds.photos(number)) <= rounds.largest
        assert (draw.views[:, 0] != draw.views[:, 1]).all()
        assert 0 <= draw.views.min() <= draw.views.max() < rounds.num_views
        if rounds.num_photos >= rounds.batch_size:
            assert len(set(draw.rows.tolist())) == rounds.batch_size


@pytest.mark.parametrize("rounds", MANY, ids=str)
def test_every_photo_is_used_equally_often_up_to_once_a_visit(rounds: Rounds) -> None:
    uses = [0] * rounds.num_photos
    for step in range(rounds.total_steps):
        for photo in drawn(rounds, step):
            uses[photo] += 1
    if rounds.num_photos % rounds.batch_size == 0:  # otherwise some fill no batch, or are twice in one
        assert max(uses) - min(uses) <= rounds.visits
    of_rounds = Counter(int(i) for number in range(len(rounds)) for i in rounds.photos(number))
    assert max(of_rounds.values()) <= rounds.visits
    assert sum(of_rounds.values()) == rounds.num_looked


@pytest.mark.parametrize(("num_photos", "capacity"), [(300, 800), (300, 799), (1000, 4096), (1000, 128)])
def test_the_kept_maps_fit_into_memory(num_photos: int, capacity: int) -> None:
    rounds = plan(num_photos, 16, 4000, capacity=capacity)
    assert rounds.largest * rounds.num_views <= capacity
    assert rounds.largest % 16 == 0
    assert len(rounds) > 2
    sizes = [len(rounds.photos(number)) for number in range(len(rounds))]
    assert max(sizes) - min(sizes) <= 16, "rounds are about equally large"


def test_photos_that_fit_are_looked_at_once() -> None:
    rounds = plan(300, 16, 600, capacity=2400)
    assert (len(rounds), rounds.num_views, rounds.num_looked) == (1, 8, 300)
    assert sorted(rounds.photos(0)) == list(range(300)), "with those that fill no batch"
    assert len(plan(300, 16, 600, capacity=2399)) > 1


def test_a_batch_is_kept_where_memory_is_too_small_for_it() -> None:
    rounds = plan(64, 16, 40, capacity=1)
    assert (rounds.largest, len(rounds)) == (16, 2 * 4)


def test_photos_are_visited_twice_from_four_times_on() -> None:
    assert [plan(160, 16, steps, capacity=300).visits for steps in (5, 10, 39, 40, 1000)] == [1, 1, 1, 2, 2]
    rounds = plan(160, 16, 1000, capacity=300)
    visits = [
        np.concatenate([rounds.photos(v * rounds.per_visit + n) for n in range(rounds.per_visit)]) for v in (0, 1)
    ]
    assert [sorted(visit) for visit in visits] == [list(range(160))] * 2
    assert visits[0].tolist() != visits[1].tolist()


@pytest.mark.parametrize(("steps", "expected"), [(5, 2), (10, 2), (20, 4), (35, 7), (40, 8), (1000, 8)])
def test_no_photo_gets_more_views_than_steps_would_draw(steps: int, expected: int) -> None:
    rounds = plan(160, 16, steps)
    assert rounds.num_views == expected
    assert rounds.num_looked == min(160, 16 * steps)


def test_photos_that_fill_no_batch_have_their_turn_in_other_epochs() -> None:
    rounds = plan(43, 4, 100)
    assert {photo for step in range(100) for photo in drawn(rounds, step)} == set(range(43))


def test_all_pairs_of_views_are_drawn() -> None:
    rounds = plan(16, 16, 200, kept=4)
    pairs = {tuple(pair) for step in range(200) for pair in rounds.draw(step).views.tolist()}
    assert len(pairs) == 4 * 3


def test_the_seed_decides() -> None:
    def all_of(seed: int) -> list[list[int]]:
        rounds = plan(100, 8, 120, capacity=300, seed=seed)
        return [[*drawn(rounds, step), *rounds.draw(step).views.ravel()] for step in range(120)]

    assert all_of(3) == all_of(3)
    assert all_of(3) != all_of(4)
    steps = all_of(3)
    assert len({tuple(step) for step in steps}) == len(steps)
