"""Tiles: that they cover, that their weights sum to one, that blending gives back what each tile sees."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from slotseg.segmenting.tiles import TileAxis, blended

Pixels = NDArray[np.uint8]
STRIDE = 4


@pytest.mark.parametrize(("num_cells", "side"), [(1, 8), (8, 8), (9, 8), (13, 8), (40, 8), (41, 8), (1000, 64)])
@pytest.mark.parametrize("points", [1, 3])
def test_tiles_cover_and_weights_sum_to_one(num_cells: int, side: int, points: int) -> None:
    axis = TileAxis.of(num_cells, side)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.side == num_cells
    overlaps = [one + axis.side - two for one, two in zip(axis.starts, axis.starts[1:], strict=False)]
    assert min(overlaps, default=side) >= side // 4
    total = torch.zeros(num_cells * points)
    for start, weights in zip(axis.starts, axis.weights(points), strict=True):
        total[start * points : (start + axis.side) * points] += weights
    torch.testing.assert_close(total, torch.ones_like(total))
    if len(axis.starts) > 1:
        assert axis.weights(points)[0, -1] < 0.15


def means(tiles: Sequence[Pixels], points: int = 1) -> Tensor:
    """What a network would see that looks at each cell alone: its colours, some points to a cell."""
    images = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float()
    return torch.nn.functional.avg_pool2d(images, STRIDE // points)


def strips(image: Pixels, rows: int) -> Iterator[Pixels]:
    for top in range(0, len(image), rows):
        yield image[top : top + rows]


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("size", [(80, 120), (81, 119), (20, 130), (130, 20), (10, 10)])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_blending_gives_back_what_every_tile_sees_alike(size: tuple[int, int], rows: int, points: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    down, across = (TileAxis.of(-(-n // STRIDE), 8) for n in size)
    batches: list[int] = []

    def see(tiles: Sequence[Pixels]) -> Tensor:
        batches.append(len(tiles))
        return means(tiles, points)

    stripes = list(blended(strips(image, rows), down, across, STRIDE, see, 3))
    padded = np.pad(image, ((0, -size[0] % STRIDE), (0, -size[1] % STRIDE), (0, 0)), mode="edge")
    torch.testing.assert_close(torch.cat(stripes, dim=1), means([padded], points)[0], atol=1e-3, rtol=1e-5)
    assert sum(batches) == len(down.starts) * len(across.starts)
    assert max(batches) <= 3


def test_memory_is_a_row_of_tiles() -> None:
    """Stripes come as soon as a row of tiles is done, before the photo's end is read."""
    read = 0

    def endless() -> Iterator[Pixels]:
        nonlocal read
        while True:
            read += 1
            yield np.zeros((STRIDE, 64, 3), np.uint8)

    stripes = blended(endless(), TileAxis.of(10_000, 8), TileAxis.of(16, 8), STRIDE, means, 3)
    assert next(stripes).shape[2] == 16
    assert read == 8


def test_the_seam_is_smooth() -> None:
    """Two tiles that disagree are blended from one to the other without a step."""

    values = iter((0.0, 1.0))

    def see(tiles: Sequence[Pixels]) -> Tensor:
        return torch.stack([torch.full((1, 8, 8), next(values)) for _ in tiles])

    image = np.zeros((8 * STRIDE, 14 * STRIDE, 3), np.uint8)
    (stripe,) = blended([image], TileAxis.of(8, 8), TileAxis.of(14, 8), STRIDE, see, 1)
    steps = stripe[0, 0].diff()
    assert stripe[0, 0, 0] == 0
    assert stripe[0, 0, -1] == 1
    assert (steps >= 0).all()
    assert steps.max() < 0.9
