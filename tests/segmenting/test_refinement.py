"""Refinement: its equation done slowly, and what it does to borders."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from slotseg.segmenting.looks import resample
from slotseg.segmenting.refinement import COLOR, DISTANCE, ITERATIONS, MAX_POINTS, TEMPERATURE, refine

RED, BLUE = (200, 30, 30), (30, 30, 200)


def random_photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_scores(number: int, height: int, width: int) -> Tensor:
    return torch.rand(number, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def slow_refine(scores: Tensor, image: np.ndarray, strength: float) -> np.ndarray:
    """The equation of the module, point by point: 4 points along a cell, a block to listen to for each cell."""
    number, h, w = scores.shape
    height, width = 4 * h, 4 * w
    logits = resample(scores, (h, w), (height, width), (height, width)).double().numpy() / TEMPERATURE
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab).astype(np.float64)

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max())
        return e / e.sum()

    q = np.stack([[softmax(logits[:, y, x]) for x in range(width)] for y in range(height)])  # (H, W, K)
    for _ in range(ITERATIONS):
        new = np.empty_like(q)
        for y in range(height):
            for x in range(width):
                heard, weight = np.zeros(number), 0.0
                for v in range(h):
                    for u in range(w):
                        block = np.s_[4 * v : 4 * v + 4, 4 * u : 4 * u + 4]
                        color = ((lab[y, x] - lab[block].mean(axis=(0, 1))) ** 2).sum()
                        place = (y - (4 * v + 1.5)) ** 2 + (x - (4 * u + 1.5)) ** 2
                        k = np.exp(-color / (2 * COLOR**2) - place / (2 * (DISTANCE * min(height, width)) ** 2))
                        heard, weight = heard + k * q[block].mean(axis=(0, 1)), weight + k
                new[y, x] = softmax(logits[:, y, x] + strength * heard / weight)
        q = new
    return q.transpose(2, 0, 1)


def test_follows_its_equation() -> None:
    scores, image = random_scores(3, 2, 3), random_photo(20, 30) // 4 + 100
    refined, covered = refine(scores, (2.0, 3.0), image, 2.0)
    assert covered == (8, 12)
    np.testing.assert_allclose(refined.numpy(), slow_refine(scores, image, 2.0), atol=1e-4)
    weaker, _ = refine(scores, (2.0, 3.0), image, 1.0)
    assert (weaker - refined).abs().max() > 0.01


def test_borders_move_to_where_colours_change() -> None:
    """The photo changes colour at 10 of 32 pixels; the scores, with cells of 8, change at 16."""
    image = np.empty((32, 32, 3), np.uint8)
    image[:, :10], image[:, 10:] = RED, BLUE
    scores = torch.zeros(2, 4, 4)
    scores[0, :, :2], scores[1, :, 2:] = 0.3, 0.3
    before = resample(scores, (4.0, 4.0), (16, 16), (16, 16)).argmax(dim=0)
    after = refine(scores, (4.0, 4.0), image, 8.0)[0].argmax(dim=0)
    assert (before == (torch.arange(16) >= 8)).all()
    assert (after == (torch.arange(16) >= 5)).all()


def test_a_speck_of_another_prototype_gives_way_unless_its_colour_is_its_own() -> None:
    scores = torch.zeros(2, 9, 9)
    scores[0], scores[:, 4, 4] = 0.1, torch.tensor([0.0, 0.1])
    plain = np.full((72, 72, 3), RED, np.uint8)
    assert refine(scores, (9.0, 9.0), plain, 8.0)[0].argmax(dim=0).max() == 0
    spotted = plain.copy()
    spotted[32:40, 32:40] = BLUE
    kept = refine(scores, (9.0, 9.0), spotted, 8.0)[0].argmax(dim=0)
    assert kept[17:19, 17:19].min() == 1
    assert kept.sum() <= 16


def test_assignments_sum_to_one_and_follow_the_order_of_prototypes() -> None:
    scores, image = random_scores(5, 3, 4), random_photo(24, 32)
    refined, _ = refine(scores, (3.0, 4.0), image, 8.0)
    torch.testing.assert_close(refined.sum(dim=0), torch.ones(12, 16))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(refine(scores[order], (3.0, 4.0), image, 8.0)[0], refined[order])


def test_a_mirrored_photo_gives_mirrored_assignments() -> None:
    scores, image = random_scores(3, 3, 4), random_photo(24, 32)
    refined, _ = refine(scores, (3.0, 4.0), image, 8.0)
    mirrored, _ = refine(scores.flip(2), (3.0, 4.0), np.ascontiguousarray(image[:, ::-1]), 8.0)
    torch.testing.assert_close(mirrored.flip(2), refined, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("cells", "covered"), [((300, 200), (299.5, 199.2)), ((1, 1), (0.3, 1.0)), ((1, 60), (0.1, 60.0))]
)
def test_any_shape_at_bounded_size(cells: tuple[int, int], covered: tuple[float, float]) -> None:
    refined, whole = refine(random_scores(2, *cells), covered, random_photo(5, 7), 8.0)
    assert refined.shape[1:] == whole
    assert refined.shape[1] * refined.shape[2] <= 1.01 * MAX_POINTS
    assert refined.isfinite().all()


def test_missing_pixels_have_no_say() -> None:
    """Whatever their scores are, but for the cell at the border: points at a cell's edge are between two cells."""
    image, scores = np.full((64, 128, 3), 128, np.uint8), random_scores(3, 8, 16)
    other = scores.clone()
    other[0, :, 9:] = 1
    valid = torch.ones(64, 128, dtype=torch.bool)
    valid[:, 64:] = False
    ours, theirs = (refine(s, (8, 16), image, 3.0, valid=valid)[0][:, :, :32] for s in (scores, other))
    assert torch.equal(ours, theirs)
    assert not torch.allclose(refine(scores, (8, 16), image, 3.0)[0], refine(other, (8, 16), image, 3.0)[0], atol=0.1)
    every = torch.ones(64, 128, dtype=torch.bool)
    torch.testing.assert_close(refine(scores, (8, 16), image, 3.0, valid=every), refine(scores, (8, 16), image, 3.0))
