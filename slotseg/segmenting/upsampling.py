"""From scores of feature cells to the best prototype of each pixel, without upsampled scores.

Between four neighbouring cell centres (a block) a bilinear score is a convex combination of the
scores at the four corners. So a prototype that is best at all corners is best throughout, and one
that some other beats at every corner is best nowhere. Blocks with one best prototype are filled; in
the others the few contenders are interpolated on a coarse grid, between whose knots (a part) the
same two rules hold; only in parts still undecided are the contenders interpolated pixel by pixel.

    o-----+-----+-----o-----+-----+-----o   o      centre of a feature cell, where scores are known
    |     :     :     |     :     :     |   +      knot, where contenders are interpolated first, as in every o
    +.....+.....+.....+.....+.....+.....+   part   between four knots, up to PART x PART pixels
    |     :     :     |     :     :     |   block  between four o, here 3 x 2 parts; beyond MOST_PARTS cut into pieces
    o-----+-----+-----o-----+-----+-----o   band   some rows of blocks, as wide as the image

All of it is NumPy on the CPU: the arrays are so small that waking torch's threads for each of many
steps gains nothing on idle cores and costs much on busy ones.

The image is painted in bands of rows, as soon as the cells that a band lies between are known, so that
neither all scores nor more than a band of labels need be held.

Letters: K prototypes, H W pixels, h w feature cells; M blocks or parts worked on at once, C contenders.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

CHUNK = 1 << 17
"""Scores that are interpolated or compared at once; they stay in cache."""
PART = 8
"""Most pixels along a side of a part."""
FEW = PART + 1
"""Most pixels of a block that is not searched for contenders; it has one part."""
MOST_PARTS = 16
"""Most parts along a side of a block; larger ones are cut, so that a band is no higher."""
BAND = 1 << 21
"""Pixels of a band, or those of one row of blocks where that is more."""


class Band(NamedTuple):
    """Some rows of an image, and the scores that they were painted from."""

    top: int
    """First of these rows in the image."""
    prototypes: NDArray[np.uint16]
    """The best prototype of each pixel, ``(rows, W)``."""
    scores: Floats
    """Scores of the cells that these pixels lie between, ``(K, r, w)``."""
    rows: "Axis"
    """Place of each row of pixels among the rows of ``scores``."""
    cols: "Axis"
    """Place of each column of pixels among the columns of ``scores``."""

    @property
    def span(self) -> slice:
        """These rows in the image."""
        return slice(self.top, self.top + len(self.prototypes))


def upsampled_argmax(scores: Tensor, covered: tuple[float, float], size_hw: tuple[int, int]) -> NDArray[np.uint16]:
    """Upsample scores bilinearly to ``size_hw`` and take the best prototype, the first of equal ones.

    Args:
        scores: Scores ``(K, h, w)``, finite, on any device; compared in float32. K is at most 65536.
        covered: Number of cells, (h, w), that the image covers from the top left.
        size_hw: Size of the image.

    Returns:
        Prototype map, shape ``(H, W)``.
    """
    return best_prototypes([scores], scores.shape[1], covered, size_hw)


def best_prototypes(
    stripes: Iterable[Tensor], num_rows: int, covered: tuple[float, float], size_hw: tuple[int, int]
) -> NDArray[np.uint16]:
    """The prototype map ``(H, W)`` of an image whose scores come as for ``bands``."""
    result = np.empty(size_hw, np.uint16)
    for band in bands(stripes, num_rows, covered, size_hw):
        result[band.span] = band.prototypes
    return result


def bands(
    stripes: Iterable[Tensor], num_rows: int, covered: tuple[float, float], size_hw: tuple[int, int]
) -> Iterator[Band]:
    """Paint an image from its top down, as its scores come.

    Args:
        stripes: Scores ``(K, r, w)`` of some rows of cells each, as for ``upsampled_argmax``, from the top down.
        num_rows: Rows of cells, h, in all of them.
        covered: Number of cells, (h, w), that the image covers from the top left.
        size_hw: Size of the image.

    Yields:
        Bands that make up the image. Its pixels are the same, however the rows of cells come in stripes.
    """
    rows, block, first = Axis.of(size_hw[0], covered[0], num_rows), 0, 0
    held: Floats | None = None  # the rows of cells from ``first`` on that are still needed
    for stripe in stripes:
        scores = stripe.detach().float().cpu().numpy()
        held = scores if held is None else np.concatenate([held, scores], axis=1)
        known = int(np.searchsorted(rows.cells[1], first + held.shape[1]))
        cols = Axis.of(size_hw[1], covered[1], held.shape[2])
        step = max(1, BAND // (rows.length * size_hw[1]))
        while block < known:
            stop = min(block + step, known)
            top, part = rows.part(block, stop)
            cells = held[:, rows.cells[0, block] - first : rows.cells[1, stop - 1] - first + 1]
            yield Band(top, _Painter(cells, part, cols).paint(), cells, part, cols)
            block = stop
        if block < rows.cells.shape[1]:
            held, first = held[:, rows.cells[0, block] - first :], int(rows.cells[0, block])


class Axis(NamedTuple):
    """One axis: N pixels in B blocks, which are padded to ``parts`` parts of ``side`` pixels each."""

    cells: Ints
    """The two cells that a block lies between, clamped at the border, ``(2, B)``."""
    weight: Floats
    """Weight of the second cell at each padded pixel of a block and the one after, ``(parts * side + 1, B)``."""
    place: Ints
    """Index of each pixel among the padded ones, ``(N,)``."""
    parts: int
    side: int

    @classmethod
    def of(cls, num_pixels: int, covered: float, num_cells: int) -> "Axis":
        """The axis of pixels that cover ``covered`` of the cells. No block has more than ``MOST_PARTS`` parts."""

        def position(pixel: Ints) -> Floats:  # in cells, rounded as by F.interpolate
            return (pixel.astype(np.float32) + np.float32(0.5)) * np.float32(covered / num_pixels) - np.float32(0.5)

        pixels = np.arange(num_pixels)
        first, starts, counts = np.unique(np.floor(position(pixels)), return_index=True, return_counts=True)
        parts = -(-int(counts.max()) // PART)
        side = -(-int(counts.max()) // parts)
        pieces = -(-parts // MOST_PARTS)
        parts = -(-parts // pieces)
        length = parts * side
        block, piece = (np.arange(pieces) * length < counts[:, None]).nonzero()
        first, starts = first[block], starts[block] + piece * length
        weight = (position(starts + np.arange(length + 1)[:, None]) - first).clip(0, 1)
        cells = np.stack([first, first + 1]).clip(0, num_cells - 1).astype(np.int64)
        counts = np.diff(starts, append=num_pixels)
        return cls(cells, weight, pixels + (np.arange(len(first)) * length - starts).repeat(counts), parts, side)

    @property
    def length(self) -> int:
        """Padded pixels of a block."""
        return self.parts * self.side

    def part(self, start: int, stop: int) -> tuple[int, "Axis"]:
        """Index of the first pixel of some blocks, and their own axis, whose cells are counted from their first."""
        top, bottom = np.searchsorted(self.place, [start * self.length, stop * self.length])
        cells = self.cells[:, start:stop] - self.cells[0, start]
        place = self.place[top:bottom] - start * self.length
        return int(top), self._replace(cells=cells, weight=self.weight[:, start:stop], place=place)

    def pixels(self) -> tuple[Ints, Floats]:
        """The two cells that each pixel lies between, ``(2, N)``, and the weight of the second, ``(N,)``."""
        block, offset = np.divmod(self.place, self.length)
        return self.cells[:, block], self.weight[offset, block]


class _Painter:
    """Labels of all blocks, ``(blocks, parts, pixels of a part)``, from coarse to fine."""

    def __init__(self, scores: Floats, rows: Axis, cols: Axis) -> None:
        self.rows, self.cols, self.shape = rows, cols, (rows.cells.shape[1], cols.cells.shape[1])
        self.corners = (rows.cells[:, None, :, None] * scores.shape[2] + cols.cells[:, None]).reshape(4, -1)
        self.scores = np.ascontiguousarray(scores.reshape(len(scores), -1).T)  # (h * w, K)
        self.labels = np.empty((self.corners.shape[1], rows.parts * cols.parts, rows.side * cols.side), np.uint16)

    def paint(self) -> NDArray[np.uint16]:
        """The prototype map ``(H, W)``."""
        best = self.scores.argmax(axis=1)[self.corners]
        self.labels[:] = best[0][:, None, None]
        undecided = np.flatnonzero((best != best[0]).any(axis=0))
        step = max(1, CHUNK // self.scores.shape[1])
        for start in range(0, len(undecided), step):
            self._paint_blocks(undecided[start : start + step])
        return self._image()

    def _paint_blocks(self, blocks: Ints) -> None:
        """Label blocks ``(M,)``."""
        rows, cols = self.rows, self.cols
        corners = self.scores[self.corners[:, blocks]]
        if self.labels[0].size <= FEW:
            self._paint_few(blocks, corners)
            return
        ids, counts = contenders(corners)
        for some, few in _by_count(ids, counts, (rows.parts + 1) * (cols.parts + 1)):
            if rows.parts * cols.parts == 1:
                self._paint_pixels(blocks[some], np.zeros_like(some), np.zeros_like(some), few)
            else:
                self._paint_parts(blocks[some], few)

    def _paint_few(self, blocks: Ints, corners: Floats) -> None:
        """Label blocks of so few pixels that comparing all K there is less work than finding contenders."""
        top_left, top_right, low_left, low_right = corners
        for pixel in range(self.labels[0].size):
            down, across = self._weights(blocks, *divmod(pixel, self.cols.side))
            top = _lerp(top_left, top_right, across[:, None])
            low = _lerp(low_left, low_right, across[:, None])
            self.labels[blocks, 0, pixel] = _lerp(top, low, down[:, None]).argmax(axis=1)

    def _paint_parts(self, blocks: Ints, ids: Ints) -> None:
        """Label the parts of blocks ``(M,)`` with contenders ``(C, M)``."""
        y, x = (np.arange(axis.parts + 1)[:, None] * axis.side for axis in (self.rows, self.cols))
        values = self._interpolate(blocks, ids, y, x)
        best = _best(values, ids)
        best = np.stack([best[:-1, :-1], best[:-1, 1:], best[1:, :-1], best[1:, 1:]])
        self.labels[blocks] = best[0].reshape(-1, len(blocks)).T[:, :, None]
        y, x, block = (best != best[0]).any(axis=0).nonzero()
        knots = np.stack([(y + i) * (self.cols.parts + 1) + x + j for i in (0, 1) for j in (0, 1)])
        ranks, counts = contenders(values.reshape(len(ids), -1).T[knots * len(blocks) + block])
        ids = np.take_along_axis(ids[:, block], ranks, axis=0)
        for some, few in _by_count(ids, counts, self.rows.side * self.cols.side):
            self._paint_pixels(blocks[block[some]], y[some], x[some], few)

    def _paint_pixels(self, blocks: Ints, part_y: Ints, part_x: Ints, ids: Ints) -> None:
        """Label the pixels of parts, each given by its block and its place there, all ``(M,)``."""
        y = np.arange(self.rows.side)[:, None] + part_y * self.rows.side
        x = np.arange(self.cols.side)[:, None] + part_x * self.cols.side
        best = _best(self._interpolate(blocks, ids, y, x), ids)
        self.labels[blocks, part_y * self.cols.parts + part_x] = best.reshape(-1, len(blocks)).T

    def _interpolate(self, blocks: Ints, ids: Ints, y: Ints, x: Ints) -> Floats:
        """Scores ``(C, Y, X, M)`` at pixels ``(Y, M or 1)`` and ``(X, M or 1)`` of blocks ``(M,)``."""
        down, across = self._weights(blocks, y, x)
        top_left, top_right, low_left, low_right = self.scores[self.corners[:, None, blocks], ids][:, :, None]
        top, low = _lerp(top_left, top_right, across), _lerp(low_left, low_right, across)
        return _lerp(top[:, None], low[:, None], down[:, None])

    def _weights(self, blocks: Ints, y: Ints | int, x: Ints | int) -> tuple[Floats, Floats]:
        return self.rows.weight[y, blocks // self.shape[1]], self.cols.weight[x, blocks % self.shape[1]]

    def _image(self) -> NDArray[np.uint16]:
        rows, cols = self.rows, self.cols
        labels = self.labels.reshape(*self.shape, rows.parts, cols.parts, rows.side, cols.side)
        image = labels.transpose(0, 2, 4, 1, 3, 5).reshape(self.shape[0] * rows.parts * rows.side, -1)
        return image[rows.place].take(cols.place, axis=1)


def _lerp(one: Floats, two: Floats, weight: Floats) -> Floats:
    between: Floats = weight * (two - one)
    between += one
    return between


def contenders(corners: Floats) -> tuple[Ints, Ints]:
    """Prototypes that may be best somewhere between four corners.

    A prototype drops out if the one whose lowest score is the highest beats it at every corner.

    Args:
        corners: Scores at the corners, ``(4, M, K)``.

    Returns:
        Indices ``(C, M)``, ascending, then filled up with one that occurs, and the number of contenders, ``(M,)``.
    """
    pivot = corners.min(axis=0).argmax(axis=1)
    lead = (corners - np.take_along_axis(corners, pivot[None, :, None], axis=2)).max(axis=0)
    later = np.arange(corners.shape[2]) > pivot[:, None]
    alive = ~((lead < 0) | ((lead == 0) & later))  # of equal ones the first is best
    counts = alive.sum(axis=1)
    item, index = alive.nonzero()
    table = np.tile(pivot, (int(counts.max(initial=1)), 1))
    table[np.arange(len(item)) - (counts.cumsum() - counts)[item], item] = index
    return table, counts


def _by_count(ids: Ints, counts: Ints, area: int) -> Iterator[tuple[Ints, Ints]]:
    """Chunks of the columns of ``ids`` ``(C, M)`` by falling number of contenders: which, and their contenders."""
    order = np.argsort(-counts, kind="stable")
    start = 0
    while start < len(order):
        most = counts[order[start]]
        which = order[start : start + max(1, CHUNK // int(most * area))]
        yield which, ids[:most, which]
        start += len(which)


def _best(values: Floats, ids: Ints) -> NDArray[np.uint16]:
    """The first of ``ids`` ``(C, M)`` whose value ``(C, Y, X, M)`` is the highest, ``(Y, X, M)``."""
    highest = values[0].copy()
    best = np.broadcast_to(ids[0].astype(np.uint16), highest.shape).copy()
    for challenger, index in zip(values[1:], ids[1:].astype(np.uint16), strict=True):
        np.copyto(best, index, where=challenger > highest)
        np.maximum(highest, challenger, out=highest)
    return best
