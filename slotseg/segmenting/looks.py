"""Looks at images: sizes at which the network sees them, and scores that are averaged over several looks.

Several looks, at other sizes or at the mirrored image, are what the field calls test-time augmentation (``--tta``).

Letters: B images, K prototypes, H W pixels, h w feature cells.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from slotseg.config import BackboneConfig, TrainConfig
from slotseg.data.views.augment import normalize

Size = int | Literal["full"]
"""Short side that images are scaled to before the network sees them, or ``full`` for their own size."""

MAX_WORKING_PIXELS = 1 << 22
"""Most pixels of a working image seen whole; larger ones are seen in tiles, and none is enlarged beyond it."""


class Looks:
    """The looks that a run's ``SegmentConfig`` asks for.

    Args:
        network: Network from normalised images ``(B, 3, H, W)`` to scores ``(B, K, h, w)``.
        config: The run's configuration.
        stride: Pixels along a cell's side.

    Attributes:
        scales: Sizes of the looks relative to the working size, the finest first.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], config: TrainConfig, stride: int) -> None:
        self.network, self.stride = network, stride
        self.backbone, self.mirror = config.backbone, config.segment.mirror
        self.scales = sorted(config.segment.scales, reverse=True)

    def sizes(self, size_hw: tuple[int, int], size: Size) -> list[tuple[int, int]]:
        """Height and width at which each look sees an image; see ``working_size``."""
        return [working_size(size_hw, size, scale) for scale in self.scales]

    @torch.inference_mode()
    def scores(self, looks: Iterable[Tensor]) -> tuple[Tensor, tuple[float, float]]:
        """Scores of some images, averaged on the grid of the finest look.

        Args:
            looks: The images as each look sees them, RGB in [0, 1], ``(B, 3, H, W)``, the finest first.

        Returns:
            Scores ``(B, K, h, w)``, and the number of cells, (h, w), that each image covers.
        """
        finest: Tensor | None = None
        covered = (0.0, 0.0)
        for pixels in looks:
            for mirrored in (False, True) if self.mirror else (False,):
                seen = pixels.flip(3) if mirrored else pixels
                scores, its_covered = dense_maps(self.network, seen, self.backbone, self.stride)
                if finest is None:
                    finest, covered = scores, its_covered
                else:
                    grid = (finest.shape[2], finest.shape[3])
                    finest = finest + torch.stack([resample(s, its_covered, grid, covered, mirrored) for s in scores])
        assert finest is not None
        return finest / (len(self.scales) * (1 + self.mirror)), covered


def dense_maps(
    network: Callable[[Tensor], Tensor], pixels: Tensor, config: BackboneConfig, stride: int
) -> tuple[Tensor, tuple[float, float]]:
    """Pad images to whole cells, at the bottom and right by repeating their edge, and run a network on them.

    Args:
        network: Network from normalised images to a dense map.
        pixels: RGB in [0, 1], ``(B, 3, H, W)``.
        config: Settings with the mean and standard deviation to normalise by.
        stride: Pixels along a cell's side.

    Returns:
        The network's output ``(B, channels, h, w)`` and the number of cells, (h, w), that each image
        covers. It may be fractional, as the last cells may be partly padding.
    """
    whole = padded(pixels, stride)
    maps = network(normalize(whole, config.mean, config.std))
    covered = [maps.shape[i] * pixels.shape[i] / whole.shape[i] for i in (2, 3)]
    return maps, (covered[0], covered[1])


def padded(pixels: Tensor, stride: int) -> Tensor:
    """Images ``(B, 3, H, W)`` with their bottom and right edge repeated up to whole cells."""
    height, width = pixels.shape[2:]
    return F.pad(pixels, (0, -width % stride, 0, -height % stride), mode="replicate")


def resample(
    scores: Tensor,
    covered: tuple[float, float],
    grid: tuple[int, int],
    grid_covered: tuple[float, float],
    mirrored: bool = False,
) -> Tensor:
    """Bring one look's scores to the cells of another, or to any grid.

    Args:
        scores: Scores of the look, ``(K, h, w)``.
        covered: Cells, (h, w), of ``scores`` that the image covers.
        grid: Cells of the other look, (h, w).
        grid_covered: Cells, (h, w), of ``grid`` that the image covers.
        mirrored: Whether ``scores`` are of the left-right mirrored image.

    Returns:
        Bilinear samples at the centres of the other look's cells, ``(K, *grid)``.
    """
    axes = []
    for axis in (0, 1):
        place = (torch.arange(grid[axis], device=scores.device) + 0.5) / grid_covered[axis]  # 0..1 in the image
        place = 1 - place if mirrored and axis == 1 else place
        axes.append(2 * place * covered[axis] / scores.shape[axis + 1] - 1)
    y, x = torch.meshgrid(*axes, indexing="ij")
    where = torch.stack([x, y], dim=2)[None].to(scores.dtype)
    sampled: Tensor = F.grid_sample(scores[None], where, padding_mode="border", align_corners=False)[0]
    return sampled


def scaled(images: Sequence[NDArray[np.uint8]], size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """Scale RGB images ``(H, W, 3)`` of one size to another, bilinear and antialiased, in 8 bits on the CPU.

    Returns:
        RGB in [0, 1], ``(B, 3, *size_hw)``, on ``device``.
    """
    batch = np.stack(images) if len(images) > 1 else np.require(images[0][None], requirements=["C", "W"])
    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2)
    if pixels.shape[2:] != size_hw:
        pixels = F.interpolate(pixels, size_hw, mode="bilinear", antialias=True)
    return pixels.to(device).float() / 255


def working_size(size_hw: tuple[int, int], size: Size, scale: float = 1.0) -> tuple[int, int]:
    """Height and width at which a look sees an image.

    Args:
        size_hw: Height and width of the image.
        size: Wanted short side. An image is not enlarged to more than ``MAX_WORKING_PIXELS`` for it.
        scale: Size of the look relative to the wanted one.
    """
    height, width = size_hw
    short_side = min(size_hw) if size == "full" else size
    factor = round(short_side * scale) / min(size_hw)
    factor = min(factor, scale * max(1.0, math.sqrt(MAX_WORKING_PIXELS / (height * width))))
    return max(1, round(height * factor)), max(1, round(width * factor))


def default_size(config: TrainConfig) -> int:
    """Working size that shows things about as large as training did: side of a view / side of its mean crop."""
    side = math.sqrt(sum(config.views.area) / 2)
    return round(config.views.image_size / side)
