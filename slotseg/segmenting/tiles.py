"""Photos that are too large to be seen at once: in tiles that overlap, whose scores are blended.

The photo comes in strips of rows and its scores go on in stripes, so that no more is held than a row
of tiles, however high the photo is. A tile's scores may be finer than the cells, with the same number
of points along each. Letters: B tiles, K prototypes, h w feature cells of the photo.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

OVERLAP = 0.25
"""Least part of a tile's side that it shares with the next."""


class TileAxis(NamedTuple):
    """One axis of a photo of ``num_cells`` cells: tiles of ``side`` cells each from ``starts`` on."""

    num_cells: int
    side: int
    starts: tuple[int, ...]

    @classmethod
    def of(cls, num_cells: int, side: int, overlap: float = OVERLAP) -> "TileAxis":
        """Spread tiles evenly, so that the last ends where the photo does. There is one if it covers all."""
        if num_cells <= side:
            return cls(num_cells, num_cells, (0,))
        shared = round(overlap * side)
        count = math.ceil((num_cells - shared) / (side - shared))
        return cls(num_cells, side, tuple(round(i * (num_cells - side) / (count - 1)) for i in range(count)))

    def weights(self, points: int = 1) -> Tensor:
        """Weight of each tile at each of its points, ``points`` a cell; the weights sum to 1 everywhere.

        Towards the border of a tile, where it sees less around it, its weight falls to nothing as a squared sine.
        """
        side = self.side * points
        ramp = torch.sin((torch.arange(side) + 0.5) / side * torch.pi).square()
        total = torch.zeros(self.num_cells * points)
        for start in self.starts:
            total[start * points :][:side] += ramp
        return torch.stack([ramp / total[start * points :][:side] for start in self.starts])


def blended(
    strips: Iterable[Pixels],
    rows: TileAxis,
    cols: TileAxis,
    stride: int,
    see: Callable[[Sequence[Pixels]], Tensor],
    batch_size: int,
) -> Iterator[Tensor]:
    """Score a photo tile by tile and blend the scores.

    Args:
        strips: The photo from the top down, RGB, ``(rows, W, 3)`` each. Its right and bottom edge are
            repeated up to whole cells.
        rows: Tiles from the top down.
        cols: Tiles from left to right.
        stride: Pixels along a cell's side.
        see: Function from tiles ``(H, W, 3)`` of one size to scores ``(B, K, h, w)`` of one size, whole points a cell.
        batch_size: Most tiles that ``see`` is given at once.

    Yields:
        Scores ``(K, r, w)`` from the top down, on the CPU, h in all.
    """
    held: Tensor | None = None
    for row, band in enumerate(_bands(strips, rows, cols.num_cells * stride, stride)):
        tiles = [band[:, start * stride : (start + cols.side) * stride] for start in cols.starts]
        for first in range(0, len(tiles), batch_size):
            for column, scores in enumerate(see(tiles[first : first + batch_size]), first):
                points = scores.shape[1] // rows.side
                down, across = rows.weights(points)[row], cols.weights(points)[column]
                if held is None:
                    held = torch.zeros(len(scores), rows.side * points, cols.num_cells * points)
                place = held[:, :, cols.starts[column] * points :][:, :, : cols.side * points]
                place += scores.float().cpu() * down[:, None] * across
        assert held is not None
        if row + 1 == len(rows.starts):
            yield held
        else:
            done = (rows.starts[row + 1] - rows.starts[row]) * points
            yield held[:, :done].clone()
            held = torch.cat([held[:, done:], torch.zeros_like(held[:, :done])], dim=1)


def _bands(strips: Iterable[Pixels], rows: TileAxis, width: int, stride: int) -> Iterator[Pixels]:
    """The pixels of each row of tiles."""
    waiting = iter(strips)
    held, first = next(waiting), 0
    for start in rows.starts:
        top, height = start * stride, rows.side * stride
        parts = [held[top - first :]]
        while sum(map(len, parts)) < height and (strip := next(waiting, None)) is not None:
            parts.append(strip)
        held, first = np.concatenate(parts), top
        band = held[:height]
        yield np.pad(band, ((0, height - len(band)), (0, width - band.shape[1]), (0, 0)), mode="edge")
