"""The best segments and the counts of prototypes, against the plain way with all photos in memory."""

import numpy as np
import pytest
import torch
from torch import Tensor

from slotseg.concepts.retrieval import LEAST_SHARE, Occurrences, segment_scores

K, N, TEMPERATURE = 5, 40, 0.07


@pytest.fixture(scope="module")
def photos() -> list[Tensor]:
    """Scores of photos of several sizes, in most of which some prototype wins nothing."""
    generator = torch.Generator().manual_seed(0)
    level = torch.randn(N, K, 1, 1, generator=generator) / 3
    sizes = [(4, 6), (5, 5), (8, 3)]
    return [(level[i] + torch.randn(K, *sizes[i % 3], generator=generator) / 4).clamp(-1, 1) for i in range(N)]


@pytest.fixture(scope="module")
def found(photos: list[Tensor]) -> Occurrences[str]:
    occurrences = Occurrences[str](K, TEMPERATURE, keep=3)
    for i, scores in enumerate(photos):
        occurrences.add(f"{i}.jpg", scores, lambda k, i=i: f"{k} of {i}")
    return occurrences


def test_score_is_the_mean_cosine_over_the_cells_won() -> None:
    scores = torch.tensor([[[0.9, 0.1], [0.5, 0.2]], [[0.3, 0.4], [0.6, 0.8]], [[0.0, 0.1], [0.0, 0.3]]])[None]
    assert segment_scores(scores)[0].tolist() == pytest.approx([0.9, (0.4 + 0.6 + 0.8) / 3, 0.1], abs=1e-5)


def test_best_segments_are_those_of_a_full_sort(photos: list[Tensor], found: Occurrences[str]) -> None:
    values = torch.stack([segment_scores(scores[None])[0] for scores in photos])
    shares = torch.stack(
        [(scores.argmax(0).flatten()[:, None] == torch.arange(K)).float().mean(0) for scores in photos]
    )
    for k in range(K):
        order = [i for i in values[:, k].argsort(descending=True).tolist() if shares[i, k] >= LEAST_SHARE][:3]
        assert [segment.name for segment in found.best[k]] == [f"{i}.jpg" for i in order]
        assert [segment.picture for segment in found.best[k]] == [f"{k} of {i}" for i in order]
        assert [segment.share for segment in found.best[k]] == pytest.approx([float(shares[i, k]) for i in order])


def test_counts_are_those_of_all_photos(photos: list[Tensor], found: Occurrences[str]) -> None:
    wins = np.array([[bool((scores.argmax(0) == k).any()) for k in range(K)] for scores in photos])
    assert found.num_photos == N
    assert np.array_equal(found.photos, wins.sum(axis=0))
    assert np.array_equal(found.together, wins.astype(int).T @ wins)
    assert found.shares.sum() == pytest.approx(N)
    assert not wins.all(), "some prototype wins nothing in some photo"
    assigned = np.zeros((K, K))
    for scores in photos:
        winners, shares = scores.argmax(0), (scores / TEMPERATURE).softmax(0)
        for k in winners.unique().tolist():
            assigned[k] += shares[:, winners == k].mean(1).numpy()
    assert np.allclose(found.assigned, assigned, atol=1e-4)
    assert np.allclose(found.assigned.sum(axis=1), found.photos, atol=1e-3)


def test_pictures_are_asked_for_only_where_they_are_kept(photos: list[Tensor]) -> None:
    asked: list[int] = []
    occurrences = Occurrences[None](K, TEMPERATURE, keep=1)
    for _ in range(10):
        occurrences.add("same.jpg", photos[0], asked.append)
    present = int((occurrences.photos > 0).sum())
    assert len(asked) == present, "of equal segments the first stays"


def test_specks_are_not_shown() -> None:
    scores = torch.zeros(2, 20, 20)
    scores[0] = 0.5
    scores[1, 0, 0] = 1.0
    occurrences = Occurrences[None](2, TEMPERATURE)
    occurrences.add("speck.jpg", scores, lambda _: None)
    assert occurrences.best[1] == []
    assert occurrences.photos.tolist() == [1, 1]
