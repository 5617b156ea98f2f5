"""Alignment on maps whose cells hold their own position in the photo."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from slotseg.method.alignment import align, align_valid

H, W = 6, 8
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def positions(crop: tuple[float, float, float, float], flip: bool) -> Tensor:
    """Centres (x, y) in the photo of the cells of a view, ``(1, 2, H, W)``."""
    x0, y0, x1, y1 = crop
    x = x0 + (torch.arange(W, dtype=torch.float64) + 0.5) / W * (x1 - x0)
    y = y0 + (torch.arange(H, dtype=torch.float64) + 0.5) / H * (y1 - y0)
    grid = torch.stack([x.expand(H, W), y[:, None].expand(H, W)])[None]
    return grid.flip(3) if flip else grid


def box_in(crop: tuple[float, ...], box: tuple[float, ...], flip: bool) -> Tensor:
    """A box of the photo in a view's own coordinates."""
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    x0, x1 = ((x - crop[0]) / width for x in (box[0], box[2]))
    y0, y1 = ((y - crop[1]) / height for y in (box[1], box[3]))
    return torch.tensor([[1 - x1, y0, 1 - x0, y1] if flip else [x0, y0, x1, y1]])


@pytest.mark.parametrize("flip", [False, True])
def test_the_whole_view_is_itself_upright(flip: bool) -> None:
    maps = torch.randn(1, 3, H, W)
    seen = maps.flip(3) if flip else maps
    torch.testing.assert_close(align(seen, WHOLE, torch.tensor([flip])), maps)


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_both_views_show_the_same_places(flips: tuple[bool, bool]) -> None:
    crops = (0.0, 0.1, 0.8, 0.7), (0.2, 0.0, 1.0, 0.9)
    inner = (0.35, 0.25, 0.65, 0.55)  # a cell away from any border, where ROI-align repeats the edge
    expected = positions(inner, flip=False)
    for crop, flip in zip(crops, flips, strict=True):
        aligned = align(positions(crop, flip), box_in(crop, inner, flip), torch.tensor([flip]))
        torch.testing.assert_close(aligned, expected)


def test_every_image_has_its_own_box_and_flip() -> None:
    maps = torch.randn(3, 2, H, W, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.7, 0.9], [0.5, 0.5, 1.0, 1.0]])
    flips = torch.tensor([True, False, True])
    together = align(maps, boxes, flips)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], align(maps[i : i + 1], boxes[i : i + 1], flips[i : i + 1]))
    assert not torch.allclose(together[1], maps[1])


def test_float32_under_autocast_and_with_gradient() -> None:
    maps = torch.randn(1, 3, H, W, requires_grad=True)
    box, flip = torch.tensor([[0.1, 0.2, 0.8, 0.9]]), torch.tensor([True])
    with torch.autocast("cpu", torch.bfloat16):
        aligned = align(maps, box, flip)
    assert torch.equal(aligned, align(maps, box, flip))
    aligned.sum().backward()
    assert maps.grad is not None
    assert maps.grad.sum().item() == pytest.approx(3 * H * W, rel=1e-5)


def test_it_is_the_published_operation() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(20, 3, H, W, generator=generator, dtype=torch.float64)
    low, high = torch.rand(2, 20, 2, generator=generator, dtype=torch.float64).sort(dim=0).values
    boxes, flips = torch.cat([low, high], dim=1), torch.arange(20) % 2 == 0
    places = torch.cat([torch.arange(20.0)[:, None], boxes * torch.tensor([W, H, W, H])], dim=1).to(maps)
    published = roi_align(maps, places, output_size=(H, W), aligned=True)
    published = torch.where(flips[:, None, None, None], published.flip(3), published)
    torch.testing.assert_close(align(maps, boxes, flips), published)


def test_aligned_cells_are_means_of_valid_ones() -> None:
    """Whatever is in the others; a cell counts where half of what it comes from is valid."""
    g = torch.Generator().manual_seed(0)
    maps, valid = torch.randn(3, 2, H, W, generator=g), torch.rand(3, H, W, generator=g) < 0.7
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.7, 0.9], [0.5, 0.5, 1.0, 1.0]])
    flips = torch.tensor([True, False, True])
    aligned, counts = align_valid(maps, boxes, flips, valid)
    assert counts is not None
    each = torch.eye(H * W).view(H * W, 1, H, W)  # weight of each cell in the result
    for b in range(3):
        weight = align(each, boxes[b].expand(H * W, 4), flips[b].expand(H * W))[:, 0].flatten(1)
        weight = weight * valid[b].flatten()[:, None]
        assert torch.equal(counts[b].flatten(), weight.sum(dim=0) >= 0.5)
        expected = (maps[b].flatten(1) @ weight) / weight.sum(dim=0)
        torch.testing.assert_close(aligned[b].flatten(1)[:, counts[b].flatten()], expected[:, counts[b].flatten()])
    assert counts.any()
    assert not counts.all()
    spoiled = align_valid(maps.where(valid[:, None], 1e6), boxes, flips, valid)
    assert torch.equal(spoiled[0], aligned)
