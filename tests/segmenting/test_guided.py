"""The guided filter: the paper's equations done slowly, and what it does to borders."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from slotseg.segmenting import guided
from slotseg.segmenting.guided import MAX_VALUES, box_mean, guided_filter, refine_guided
from slotseg.segmenting.looks import resample

RED, BLUE = (200, 30, 30), (30, 30, 200)


def random_photo(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_scores(number: int, height: int, width: int) -> Tensor:
    return torch.rand(number, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def window(maps: NDArray[np.float64], y: int, x: int, radius: int) -> NDArray[np.float64]:
    return maps[..., max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]


def slow_coefficients(values: Tensor, guide: Tensor, radius: int, epsilon: float) -> NDArray[np.float64]:
    """The means of (a, b) over the windows of every point, window by window, ``(K, 4, h, w)``."""
    p, image = values.double().numpy(), guide.double().numpy()
    number, height, width = p.shape
    fitted = np.empty((number, 4, height, width))
    for y in range(height):
        for x in range(width):
            colors = window(image, y, x, radius).reshape(3, -1)
            sigma = np.cov(colors, bias=True) + epsilon * np.eye(3)
            for k in range(number):
                inside = window(p[k], y, x, radius).ravel()
                a = np.linalg.solve(sigma, (colors * inside).mean(axis=1) - colors.mean(axis=1) * inside.mean())
                fitted[k, :, y, x] = *a, inside.mean() - a @ colors.mean(axis=1)
    means = np.empty_like(fitted)
    for y in range(height):
        for x in range(width):
            means[:, :, y, x] = window(fitted, y, x, radius).mean(axis=(2, 3))
    return means


def applied(coefficients: NDArray[np.float64], guide: Tensor) -> NDArray[np.float64]:
    return (coefficients[:, :3] * guide.double().numpy()).sum(axis=1) + coefficients[:, 3]


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 1e-2), (3, 1e-3)])
def test_follows_the_equations(monkeypatch: pytest.MonkeyPatch, radius: int, epsilon: float) -> None:
    monkeypatch.setattr(guided, "CHUNK", 2 * 9 * 11)  # the third map is of another chunk
    values, guide = random_scores(3, 9, 11), torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(1))
    coefficients = slow_coefficients(values, guide, radius, epsilon)
    ours = guided_filter(values, guide, guide, radius, epsilon)
    np.testing.assert_allclose(ours.numpy(), applied(coefficients, guide), atol=1e-4)


def test_a_finer_guide_takes_upsampled_coefficients() -> None:
    values, fine = random_scores(2, 6, 7), torch.rand(3, 18, 21, generator=torch.Generator().manual_seed(1))
    guide = fine.unflatten(2, (7, 3)).unflatten(1, (6, 3)).mean(dim=(2, 4))
    coefficients = slow_coefficients(values, guide, 1, 1e-2)
    upsampled = np.stack(
        [[cv2.resize(c, (21, 18), interpolation=cv2.INTER_LINEAR) for c in one] for one in coefficients]
    )
    ours = guided_filter(values, guide, fine, 1, 1e-2)
    np.testing.assert_allclose(ours.numpy(), applied(upsampled, fine), atol=1e-4)


def test_windows_are_cut_off_at_the_border() -> None:
    maps = torch.arange(12.0).reshape(1, 3, 4)
    assert box_mean(maps, 1)[0, 0, 0] == maps[0, :2, :2].mean()
    assert box_mean(maps, 1)[0, 1, 2] == maps[0, :, 1:].mean()
    torch.testing.assert_close(box_mean(maps, 9), maps.mean().expand(1, 3, 4))


def test_a_guide_of_one_colour_blurs_and_one_like_the_maps_keeps_them() -> None:
    values = random_scores(2, 8, 8)
    blurred = guided_filter(values, torch.full((3, 8, 8), 0.5), torch.full((3, 8, 8), 0.5), 2, 1e-3)
    torch.testing.assert_close(blurred, box_mean(box_mean(values, 2), 2), atol=1e-4, rtol=0)
    like = torch.cat([values, values[:1]])
    torch.testing.assert_close(guided_filter(values, like, like, 2, 1e-6), values, atol=1e-2, rtol=0)


def test_borders_move_to_where_colours_change() -> None:
    """The photo changes colour at 40 of 128 pixels; the scores, with cells of 16, change at 48."""
    image = np.empty((128, 128, 3), np.uint8)
    image[:, :40], image[:, 40:] = RED, BLUE
    scores = torch.zeros(2, 8, 8)
    scores[0, :, :3], scores[1, :, 3:] = 0.3, 0.3
    before = resample(scores, (8.0, 8.0), (128, 128), (128, 128)).argmax(dim=0)
    refined, covered = refine_guided(scores, (8.0, 8.0), image)
    after = resample(refined, covered, (128, 128), (128, 128)).argmax(dim=0)
    assert (before == (torch.arange(128) >= 48)).all()
    assert ((after == (torch.arange(128) >= 40)).all(dim=0) | ((torch.arange(128) - 39.5).abs() < 2)).all()


def test_without_edges_in_the_photo_borders_stay() -> None:
    scores = torch.zeros(2, 8, 8)
    scores[0, :, :3], scores[1, :, 3:] = 0.3, 0.3
    refined, covered = refine_guided(scores, (8.0, 8.0), np.full((128, 128, 3), RED, np.uint8))
    after = resample(refined, covered, (128, 128), (128, 128)).argmax(dim=0)
    assert (after == (torch.arange(128) >= 48)).all()


def test_assignments_sum_to_one_and_follow_the_order_of_prototypes() -> None:
    scores, image = random_scores(5, 3, 4), random_photo(48, 64)
    refined, covered = refine_guided(scores, (3.0, 4.0), image)
    assert refined.shape[1:] == covered
    assert refined.min() >= 0
    torch.testing.assert_close(refined.sum(dim=0), torch.ones(covered))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(refine_guided(scores[order], (3.0, 4.0), image)[0], refined[order])


def test_a_mirrored_photo_gives_mirrored_assignments() -> None:
    scores, image = random_scores(3, 3, 4), random_photo(48, 64)
    refined, _ = refine_guided(scores, (3.0, 4.0), image)
    mirrored, _ = refine_guided(scores.flip(2), (3.0, 4.0), np.ascontiguousarray(image[:, ::-1]))
    torch.testing.assert_close(mirrored.flip(2), refined, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("number", "cells", "covered", "pixels"),
    [
        (2, (300, 200), (299.5, 199.2), (5, 7)),
        (2, (1, 1), (0.3, 1.0), (5, 7)),
        (2, (1, 60), (0.1, 60.0), (1, 900)),
        (2048, (40, 30), (40.0, 29.5), (3000, 2000)),
    ],
)
def test_any_shape_at_bounded_size(
    number: int, cells: tuple[int, int], covered: tuple[float, float], pixels: tuple[int, int]
) -> None:
    refined, whole = refine_guided(random_scores(number, *cells), covered, random_photo(*pixels))
    assert refined.shape[1:] == whole
    assert refined.numel() <= 1.02 * MAX_VALUES
    assert refined[0].numel() <= 1.02 * pixels[0] * pixels[1]
    assert refined.isfinite().all()
