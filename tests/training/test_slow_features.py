"""Axes that tell things apart, from neighbours and looks alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.training.slow_features import SHRINKAGE, Looked, slow_axes


def photos_of_things(*, position: float = 0.0) -> list[Looked]:
    """Photos whose halves differ in channel 0, by little. Every cell differs in channel 1, by much.

    Channel 2 says how far to the right a cell lies in the look, ``position`` times.
    """
    g = torch.Generator().manual_seed(0)
    things = torch.randn(20, 2, generator=g).repeat_interleave(4, dim=1)
    columns = torch.linspace(-1, 1, 8)

    def look(cells: Tensor, places: Tensor) -> Tensor:
        noise = 0.1 * torch.randn(3, 8, 8, generator=g)
        noise[1] *= 30
        noise[0] += cells
        noise[2] += position * places
        return noise + 5

    return [Looked(look(t, columns), look(t, columns), look(t, columns.flip(0))) for t in things]


def test_the_first_axis_is_that_of_things_and_not_the_one_of_the_largest_spread() -> None:
    photos = photos_of_things()
    assert slow_axes(photos, 3).abs().argmax(dim=1)[0] == 0
    assert torch.cat([photo.cells.flatten(1) for photo in photos], dim=1).var(dim=1).argmax() == 1


def test_a_place_in_the_picture_is_no_thing() -> None:
    """As transformers tell it, it differs little between neighbours. A mirrored look gives it away."""
    photos = photos_of_things(position=3.0)
    assert slow_axes(photos, 3).abs().argmax(dim=1)[0] == 0
    blind = [photo._replace(again=photo.some) for photo in photos]
    assert slow_axes(blind, 3).abs().argmax(dim=1)[0] == 2


def test_the_axes_solve_the_equation() -> None:
    """S v = r R v, and the products of projections are those of x' R^-1 S R^-1 y, but for their scale."""
    g = torch.Generator().manual_seed(0)
    maps = [torch.randn(5, 6, 7, generator=g).cumsum(dim=2) for _ in range(9)]
    again = [photo[:, :4, :5] + torch.randn(5, 4, 5, generator=g) for photo in maps]
    mean = torch.cat([photo.flatten(1) for photo in maps], dim=1).mean(dim=1)[:, None, None]

    def directions(photo: Tensor) -> Tensor:
        return F.normalize(photo - mean, dim=0)

    def covariance(parts: list[Tensor]) -> Tensor:
        x = torch.cat([part.flatten(1) for part in parts], dim=1).double()
        return x @ x.T / x.shape[1]

    every = [directions(photo) for photo in maps]
    spread = covariance(every)
    noise = covariance([p for d in every for p in (d[:, 1:] - d[:, :-1], d[:, :, 1:] - d[:, :, :-1])]) / 2
    noise += covariance([d[:, :4, :5] - directions(other) for d, other in zip(every, again, strict=True)]) / 2
    noise += SHRINKAGE * noise.trace() / 5 * torch.eye(5)
    axes = slow_axes([Looked(m, m[:, :4, :5], a) for m, a in zip(maps, again, strict=True)], 5).double()
    ratios = [float((axis @ spread @ axis) / (axis @ noise @ axis)) for axis in axes]
    assert ratios == sorted(ratios, reverse=True)
    for axis, ratio in zip(axes, ratios, strict=True):
        torch.testing.assert_close(spread @ axis, ratio * noise @ axis, atol=1e-6, rtol=1e-4)
    metric = noise.inverse() @ spread @ noise.inverse()
    torch.testing.assert_close(axes.T @ axes / (axes**2).sum(), metric / metric.trace(), atol=1e-6, rtol=1e-4)
    assert float((axes @ spread @ axes.T).trace()) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("shape", [(4, 1, 1), (4, 1, 6), (4, 2, 2)])
def test_few_cells_and_equal_ones_give_finite_axes(shape: tuple[int, int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    for maps in ([torch.randn(shape, generator=g) for _ in range(3)], [torch.ones(shape)]):
        axes = slow_axes([Looked(photo, photo, photo) for photo in maps], 9)
        assert axes.shape == (4, 4)
        assert axes.isfinite().all()


def test_missing_cells_have_no_part_in_the_axes() -> None:
    """Against photos that end where the missing cells begin."""
    g = torch.Generator().manual_seed(0)
    maps = [torch.randn(5, 6, 7, generator=g).cumsum(dim=2) for _ in range(9)]
    valid = torch.ones(6, 7, dtype=torch.bool)
    valid[4:], valid[:, 5:] = False, False
    cut = [Looked(m[:, :4, :5], m[:, :4, :5], m[:, :4, :5] + 1) for m in maps]
    spoiled = [torch.where(valid, m, 1e3) for m in maps]
    whole = [Looked(m, m, m + 1, valid, valid) for m in spoiled]
    torch.testing.assert_close(slow_axes(whole, 5), slow_axes(cut, 5), atol=1e-4, rtol=1e-4)
