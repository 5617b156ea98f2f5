"""Measures of collapse for score maps whose answer is known."""

import math

import pytest
import torch

from slotseg.method.outputs import BranchOutput, SlotConOutput
from slotseg.watching.monitor import assignment_measures, collapse_measures

K = 4


def shares(*counts: int) -> torch.Tensor:
    """Scores (2, K, 2, 2) of 8 cells, so many of which choose prototype 0, 1, ... with certainty."""
    chosen = torch.tensor([k for k, n in enumerate(counts) for _ in range(n)])
    cells = torch.full((8, K), -1.0)
    cells[torch.arange(8), chosen] = 1.0
    return cells.reshape(2, 2, 2, K).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (shares(8), (1, 1, 1.0, 0.0, 0.0)),
        (shares(2, 2, 2, 2), (4, 4, 0.25, 0.0, 1.0)),
        (shares(0, 4, 0, 4), (2, 2, 0.5, 0.0, 0.5)),
        (shares(6, 2), (2, 2, 0.75, 0.0, (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(4))),
        (torch.zeros(2, K, 2, 2), (1, 1, 1.0, 1.0, 1.0)),  # undecided everywhere
    ],
    ids=["one for all", "evenly spread", "two prototypes", "uneven", "uniform"],
)
def test_measures(scores: torch.Tensor, expected: tuple[float, ...]) -> None:
    measures = assignment_measures(scores, temperature=0.05)
    assert list(measures) == [
        "active_prototypes",
        "common_prototypes",
        "largest_share",
        "entropy_per_pixel",
        "entropy_overall",
    ]
    assert list(measures.values()) == pytest.approx(expected, abs=1e-5)


def test_half_precision_is_enough() -> None:
    measures = assignment_measures(shares(6, 2).bfloat16(), temperature=0.05)
    assert measures == pytest.approx(assignment_measures(shares(6, 2), temperature=0.05))


def output(projections: torch.Tensor, student: torch.Tensor, teacher: torch.Tensor) -> SlotConOutput:
    """A step's output with the teacher's projections, and both branches' aligned scores."""
    zero = torch.zeros(())
    of_student, of_teacher = (
        BranchOutput(projections=projections, scores=aligned, slots=zero, aligned=aligned)
        for aligned in (student, teacher)
    )
    return SlotConOutput(
        loss=zero,
        grouping_losses=(zero, zero),
        slot_losses=(zero, zero),
        student=(of_student, of_student),
        teacher=(of_teacher, of_teacher),
    )


def test_views_that_choose_the_same_agree() -> None:
    projections = torch.ones(2, 3, 2, 2)
    for student, expected in ((shares(4, 4), 1.0), (shares(2, 2, 4), 0.25), (shares(0, 0, 8), 0.0)):
        measures = collapse_measures(output(projections, student, shares(4, 4)), 0.05)
        assert measures["agreement"] == expected


def test_features_that_are_one_have_similarity_one() -> None:
    same = torch.ones(2, 3, 2, 2) * torch.tensor([1.0, 5.0])[:, None, None, None]
    opposite = same * torch.tensor([1.0, -1.0])[None, None, None, :]
    axes = torch.eye(3)[[0, 1, 0, 1]].T.reshape(1, 3, 2, 2)
    for projections, expected in ((same, 1.0), (opposite, 0.0), (axes, 0.5)):
        measures = collapse_measures(output(projections, shares(8), shares(8)), 0.05)
        assert measures["feature_similarity"] == pytest.approx(expected, abs=1e-6)
