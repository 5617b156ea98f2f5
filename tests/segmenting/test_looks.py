"""Looks: the size at which images are seen, and how several are averaged."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.segmenting.looks import MAX_WORKING_PIXELS, default_size, resample, working_size
from slotseg.segmenting.segmenter import Segmenter

Make = Callable[..., Segmenter]
LOOKS = {"segment.scales": (0.5, 1.0), "segment.mirror": True}


def photo(height: int, width: int) -> NDArray[np.uint8]:
    """Part of a built-in scene."""
    return draw_scene(3)[0][:height, :width]


@pytest.mark.parametrize(
    ("size_hw", "short_side", "expected"),
    [
        ((480, 640), 240, (240, 320)),
        ((640, 480), 240, (320, 240)),
        ((10, 15), 20, (20, 30)),
        ((1, 1), 64, (64, 64)),
        ((3, 1), 64, (192, 64)),
    ],
)
def test_working_size(size_hw: tuple[int, int], short_side: int, expected: tuple[int, int]) -> None:
    assert working_size(size_hw, short_side) == expected


@pytest.mark.parametrize("size_hw", [(100, 100_000), (1, 1_000_000), (30_000, 20_000)])
def test_no_image_is_enlarged_without_bound(size_hw: tuple[int, int]) -> None:
    height, width = working_size(size_hw, 4096)
    assert height * width <= 1.01 * max(MAX_WORKING_PIXELS, size_hw[0] * size_hw[1])
    assert min(height, width) >= 1
    if min(size_hw) > 50:
        assert height / width == pytest.approx(size_hw[0] / size_hw[1], rel=0.05)


def test_default_size_shows_things_as_large_as_training_did(tiny_config: Callable[..., TrainConfig]) -> None:
    assert default_size(tiny_config({"views.area": (1.0, 1.0)})) == 64
    assert default_size(tiny_config({"views.area": (0.25, 0.25)})) == 128


def test_looks_are_averaged_on_the_grid_of_the_finest(make_segmenter: Make) -> None:
    """With sizes of whole cells, resampling is torch's bilinear interpolation and mirroring is exact."""
    image = photo(64, 96)
    scores, covered = make_segmenter(LOOKS, size=64).scores(image)
    single = {size: make_segmenter(size=size) for size in (32, 64)}
    expected = []
    for size, segmenter in single.items():
        for mirrored in (False, True):
            seen = segmenter.scores(image[:, ::-1] if mirrored else image)[0]
            seen = seen.flip(2) if mirrored else seen
            expected.append(F.interpolate(seen[None], (8, 12), mode="bilinear")[0] if size == 32 else seen)
    assert covered == (8, 12)
    torch.testing.assert_close(scores, torch.stack(expected).mean(dim=0), atol=1e-5, rtol=1e-5)


def test_a_mirrored_look_at_part_of_a_cell_lies_where_the_image_does() -> None:
    """A ramp along x survives mirroring and resampling although the last cell is half padding."""
    cells = torch.arange(6) + 0.5  # cell centres; the image covers 5.5 of the 6 cells
    ramp = cells.expand(1, 2, 6)
    there = resample(ramp, (2.0, 5.5), (2, 11), (2.0, 11.0), mirrored=False)[0, 0]
    place = (torch.arange(11) + 0.5) / 11 * 5.5
    torch.testing.assert_close(there, place.clamp(min=0.5))
    back = resample(ramp, (2.0, 5.5), (2, 11), (2.0, 11.0), mirrored=True)[0, 0]
    torch.testing.assert_close(back, there.flip(0))


def test_a_mirrored_image_gives_the_mirrored_map(make_segmenter: Make) -> None:
    ours, image = make_segmenter(LOOKS, size=48), photo(48, 64)
    one, two = ours.prototype_map(image), ours.prototype_map(image[:, ::-1])
    assert (one == two[:, ::-1]).mean() > 0.99  # up to rounding where two are equal
    assert len(np.unique(one)) > 1
