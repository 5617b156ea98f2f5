"""The decoder: from the levels of a frozen backbone to assignments finer than its cells. It is ours, not the paper's.

It starts from the teacher's own scores and learns what to add to them (``slotseg.training.self_training``). So one
look gives what several looks and a mean field gave before. Letters: B images, C channels, U prototypes in use, H W
pixels, h w feature cells, p points along a cell's side.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotseg.networks.backbones import Backbone, EdgeConv2d, Level

TEMPERATURE = 0.1
"""Temperature that turns scores into logits; that of the student's assignment in training."""
POINT = 4
"""Pixels along a side of a point, about: a cell has as many points a side as its stride holds."""
WIDTH = 48
"""Channels."""
COARSE_BLOCKS = 2
"""Residual blocks on the cells of the dense map, where they reach far and cost little."""
FINE_BLOCKS = 1
"""Residual blocks on the points."""


class Decoder(nn.Module):
    """Assignments to the prototypes in use, several points to a cell.

    Each level of the backbone is standardised and read by a 1x1 convolution, from the coarsest to the finest. A stem
    reads the pixels. The last layer starts at zero, so that an untrained decoder gives the teacher's own assignments.

    Args:
        backbone: Backbone whose levels are read.
        num_outputs: U.

    Attributes:
        used: Index of each prototype in use, ``(U,)``.
        points: p, points along a cell's side.
    """

    used: Tensor

    def __init__(self, backbone: Backbone, num_outputs: int) -> None:
        super().__init__()
        self.points = max(1, round(backbone.stride / POINT))
        self.register_buffer("used", torch.zeros(num_outputs, dtype=torch.int64))
        self.readers = nn.ModuleList(_Reader(level) for level in backbone.levels)
        self.scores = nn.Conv2d(num_outputs, WIDTH, 1)
        self.stem = nn.Conv2d(3, WIDTH, POINT, stride=POINT)
        self.coarse = nn.Sequential(*(_Block() for _ in range(COARSE_BLOCKS)))
        self.fine = nn.Sequential(*(_Block() for _ in range(FINE_BLOCKS)))
        self.head = nn.Conv2d(WIDTH, num_outputs, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor, levels: Sequence[Tensor], scores: Tensor) -> Tensor:
        """Logits of the assignments.

        Args:
            images: Normalised images, ``(B, 3, H, W)``.
            levels: Maps of ``Backbone.pyramid``, ``(B, C, h', w')`` each, the coarsest last.
            scores: Cosines to the prototypes in use on the cells of the coarsest level, ``(B, U, h, w)``.

        Returns:
            Logits ``(B, U, p h, p w)``; a softmax over U makes assignments of them.
        """
        logits = scores / TEMPERATURE
        *finer, coarsest = [cast(Tensor, read(level)) for read, level in zip(self.readers, levels, strict=True)]
        features = self.coarse(coarsest + self.scores(logits))
        for level in reversed(finer):
            features = _resized(features, level.shape[2:]) + level
        grid = (self.points * scores.shape[2], self.points * scores.shape[3])
        pixels = _resized(images, (POINT * grid[0], POINT * grid[1]), "bilinear")
        features = self.fine(F.relu(self.stem(pixels) + _resized(features, grid)))
        added: Tensor = self.head(features)
        return added + self.untrained(scores)

    def untrained(self, scores: Tensor) -> Tensor:
        """Logits ``(B, U, p h, p w)`` that scores ``(B, U, h, w)`` give before anything is learned."""
        grid = (self.points * scores.shape[2], self.points * scores.shape[3])
        return _resized(scores / TEMPERATURE, grid, "bilinear")

    @torch.no_grad()
    def standardise(self, levels: Sequence[Tensor]) -> None:
        """Set mean and deviation of each level from some of its cells, ``(N, C)`` each."""
        for reader, cells in zip(self.readers, levels, strict=True):
            assert isinstance(reader, _Reader)
            reader.standardise(cells)


class _Reader(nn.Module):
    """One level, standardised for each channel, through a 1x1 convolution."""

    mean: Tensor
    scale: Tensor

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(level.channels, 1, 1))
        self.register_buffer("scale", torch.ones(level.channels, 1, 1))
        self.conv = nn.Conv2d(level.channels, WIDTH, 1)

    def forward(self, level: Tensor) -> Tensor:
        read: Tensor = self.conv((level - self.mean) * self.scale)
        return read

    def standardise(self, cells: Tensor) -> None:
        deviation = cells.std(dim=0, correction=min(1, len(cells) - 1))
        floor = 0.05 * cells.std() + 1e-3  # a channel that hardly varies stays small
        self.mean.copy_(cells.mean(dim=0)[:, None, None])
        self.scale.copy_(1 / (deviation + floor)[:, None, None])


class _Block(nn.Module):
    """A 7x7 depthwise convolution and two 1x1 convolutions, added to what they read. It starts as the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = EdgeConv2d(nn.Conv2d(WIDTH, WIDTH, 7, padding=3, groups=WIDTH))
        self.widen, self.narrow = nn.Conv2d(WIDTH, 2 * WIDTH, 1), nn.Conv2d(2 * WIDTH, WIDTH, 1)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.narrow(F.relu(self.widen(self.spread(x))))
        return x + added


def _resized(x: Tensor, size: Sequence[int], mode: str = "nearest") -> Tensor:
    if x.shape[2] == size[0] and x.shape[3] == size[1]:
        return x
    return F.interpolate(x, tuple(size), mode=mode)
