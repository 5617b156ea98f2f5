"""Collapse figures of score maps whose answer is known."""

import math

import pytest
import torch

from slotseg.monitor import collapse_figures

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
        (shares(8), (1, 1.0, 0.0, 0.0)),
        (shares(2, 2, 2, 2), (4, 0.25, 0.0, 1.0)),
        (shares(0, 4, 0, 4), (2, 0.5, 0.0, 0.5)),
        (shares(6, 2), (2, 0.75, 0.0, (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(4))),
        (torch.zeros(2, K, 2, 2), (1, 1.0, 1.0, 1.0)),  # undecided everywhere
    ],
    ids=["one for all", "evenly spread", "two prototypes", "uneven", "uniform"],
)
def test_figures(scores: torch.Tensor, expected: tuple[float, ...]) -> None:
    figures = collapse_figures(scores, temperature=0.05)
    assert list(figures) == ["active_prototypes", "largest_share", "entropy_per_pixel", "entropy_overall"]
    assert list(figures.values()) == pytest.approx(expected, abs=1e-5)


def test_half_precision_is_enough() -> None:
    figures = collapse_figures(shares(6, 2).bfloat16(), temperature=0.05)
    assert figures == pytest.approx(collapse_figures(shares(6, 2), temperature=0.05))
