"""Scores of photos of any size, by a trained teacher: whole, in tiles, or read in windows. No label map is needed.

Letters: B images, K prototypes, H W pixels, h w feature cells.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slotseg.config import TrainConfig
from slotseg.data.reading.scaling import scaled_photo
from slotseg.data.reading.strips import scaled_strips
from slotseg.data.reading.windows import ArrayWindows, Windows
from slotseg.devices import autocast, resolve_device, resolve_precision
from slotseg.errors import ConfigError
from slotseg.method.building import compile_encoder
from slotseg.method.model import Encoder
from slotseg.networks.backbones import Backbone
from slotseg.segmenting.looks import MAX_WORKING_PIXELS, Looks, Size, default_size, resample, scaled
from slotseg.segmenting.refinement import TEMPERATURE, refined
from slotseg.segmenting.tiles import TileAxis, blended

TILE = 1024
"""Side of a tile where none is given, in pixels of the working image."""
MIN_TILE_CELLS = 4
"""Fewest cells along a side of a tile."""
PIXELS_AT_ONCE = 1 << 20
"""Most pixels of tiles that go through the network together on a CPU; eight times as many on others."""
LEAST = 1e-6
"""Added to assignments before they are made scores again, which edges are found from."""
GUIDE = 2048
"""Longer side of the reduced photo whose colours refinement follows where the photo is read in windows."""


class ScorerOptions(TypedDict, total=False):
    """Options that a ``Scorer`` takes by keyword; it explains them."""

    size: Size | None
    tile: int | None
    device: str
    precision: str
    compiled: bool


class Stripes(NamedTuple):
    """Scores of an image from its top down, or assignments that follow its edges, to be painted."""

    scores: Iterable[Tensor]
    """Scores ``(K, r, w)`` of some rows of cells each."""
    num_rows: int
    """Rows of cells in all of them."""
    covered: tuple[float, float]
    """Number of cells, (h, w), that the image covers."""


class Scorer:
    """A trained teacher, ready to score images.

    Args:
        encoder: Backbone, projector and prototypes. It is taken over: moved to the device, laid out channels last,
            put into evaluation mode, and its parameters need no gradient any more. Give a copy of one in training.
        config: The configuration that the encoder was trained with.
        size: Short side that images are scaled to before the network sees them, or ``"full"`` for their own size. By
            default things look as large as they did in training.
        tile: Side of a tile in pixels of the scaled image; larger images are seen in tiles. By default those of more
            than ``MAX_WORKING_PIXELS`` are, in tiles of ``TILE``.
        device: Name of the device; see ``slotseg.devices.resolve_device``.
        precision: Name of the precision; see ``slotseg.devices.resolve_precision``.
        compiled: Whether the network goes through ``torch.compile``. The first photo of each size then takes longer.

    Raises:
        ConfigError: If size or tile is too small for the network, or there is no such device or precision.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: TrainConfig,
        *,
        size: Size | None = None,
        tile: int | None = None,
        device: str = "auto",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        assert isinstance(encoder.backbone, Backbone)
        self.config, self.stride = config, encoder.backbone.stride
        self.size: Size = size or default_size(config)
        self.tile = tile
        if self.size != "full" and self.size < self.stride:
            raise ConfigError(f"size is {self.size}; expected at least the backbone's stride, {self.stride}")
        if tile is not None and tile < MIN_TILE_CELLS * self.stride:
            raise ConfigError(
                f"tile is {tile}; expected at least {MIN_TILE_CELLS} times the backbone's stride, {self.stride}"
            )
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.encoder = encoder.to(self.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        if compiled:
            compile_encoder(self.encoder)
        self.looks = Looks(partial(_scores, self.encoder, self.device, self.precision), config, self.stride)

    @property
    def assigns(self) -> bool:
        """Whether what is painted are assignments, which sum to 1 over K, and not cosines."""
        return self.encoder.decoder is not None or self.config.segment.follows_edges

    def scores(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        """Scores ``(K, h, w)`` of an RGB image ``(H, W, 3)``, and how many cells, (h, w), it covers.

        If the encoder has a decoder, they are assignments, and ``Encoder.points`` take the place of cells.
        """
        scores, covered = self.batch_scores([image])
        return scores[0], covered

    @torch.inference_mode()
    def batch_scores(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, tuple[float, float]]:
        """Scores ``(B, K, h, w)`` of RGB images ``(H, W, 3)`` of one size, and how many cells, (h, w), each covers.

        Images are seen whole, and padded at the bottom and right to whole cells by repeating their edge, so the
        last cells may lie partly beyond them. Several looks (``SegmentConfig``) are averaged on the
        grid of the finest.
        """
        size_hw = rgb_size(images[0])
        for image in images:
            if rgb_size(image) != size_hw:
                raise ValueError(f"images have shapes {images[0].shape} and {image.shape}; expected one size")
        sizes = self.looks.sizes(size_hw, self.size)
        return self.looks.scores(scaled(images, its_size, self.device) for its_size in sizes)

    def tiled(self, size_hw: tuple[int, int]) -> bool:
        """Whether an image of that size is seen in tiles."""
        height, width = self.looks.sizes(size_hw, self.size)[0]
        if self.tile is None:
            return height * width > MAX_WORKING_PIXELS
        return max(height, width) > self._tile_cells * self.stride

    def follow_edges(self, image: NDArray[np.uint8], scores: Tensor, covered: tuple[float, float]) -> Stripes:
        """Stripes of an image's own ``scores``, which follow its edges if the run's settings say so."""
        scores, covered = self._refined(image, scores, covered)
        return Stripes([scores], scores.shape[1], covered)

    def stripes(self, image: NDArray[np.uint8]) -> Stripes:
        """Stripes of an RGB image ``(H, W, 3)``, seen whole, or in tiles where it is large."""
        if self.tiled(rgb_size(image)):
            return self._tiled_stripes(ArrayWindows(image))
        return self.follow_edges(image, *self.scores(image))

    def window_stripes(self, windows: Windows) -> Stripes:
        """Stripes of a photo that is read in bands of rows, or reduced where it is not seen in tiles.

        Raises:
            DataError: If it cannot be decoded.
        """
        if self.tiled(windows.size_hw):
            return self._tiled_stripes(windows)
        sizes = self.looks.sizes(windows.size_hw, self.size)
        looks = [pixels[None].to(self.device) for pixels in scaled_photo(windows, sizes)]
        scores, covered = self.looks.scores(looks)
        guide = windows.reduced(GUIDE) if self.config.segment.follows_edges else np.empty((0, 0, 3), np.uint8)
        return self.follow_edges(guide, scores[0], covered)

    def _refined(
        self, image: NDArray[np.uint8], scores: Tensor, covered: tuple[float, float]
    ) -> tuple[Tensor, tuple[float, float]]:
        """Scores as they are, or assignments that follow the image's edges."""
        points = self.encoder.points
        if self.config.segment.follows_edges and self.encoder.decoder is not None:
            scores = TEMPERATURE * (scores + LEAST).log()
        return refined(scores, covered, image, self.config.segment, points)

    @property
    def _tile_cells(self) -> int:
        """Cells along a side of a tile, as the finest look has them."""
        return round((self.tile or TILE) * self.looks.scales[0] / self.stride)

    def _tiled_stripes(self, windows: Windows) -> Stripes:
        """Stripes of a photo that is seen in tiles. A tile's scores follow the edges in it."""
        size_hw = self.looks.sizes(windows.size_hw, self.size)[0]
        rows, cols = (TileAxis.of(-(-pixels // self.stride), self._tile_cells) for pixels in size_hw)
        at_once = PIXELS_AT_ONCE if self.device.type == "cpu" else 8 * PIXELS_AT_ONCE
        batch_size = max(1, at_once // (rows.side * cols.side * self.stride**2))
        stripes = blended(scaled_strips(windows, size_hw), rows, cols, self.stride, self._tile_scores, batch_size)
        first = next(stripes)
        points = first.shape[2] // cols.num_cells
        covered = (points * size_hw[0] / self.stride, points * size_hw[1] / self.stride)
        return Stripes(chain([first], stripes), points * rows.num_cells, covered)

    @torch.inference_mode()
    def _tile_scores(self, tiles: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Scores ``(B, K, h, w)`` of tiles as the finest look sees them, whole points a cell."""
        height, width, _ = tiles[0].shape
        shares = [scale / self.looks.scales[0] for scale in self.looks.scales]
        sizes = [(round(height * share), round(width * share)) for share in shares]
        scores, covered = self.looks.scores(scaled(tiles, its_size, self.device) for its_size in sizes)
        if not self.config.segment.follows_edges:
            return scores
        followed = []
        for image, its_scores in zip(tiles, scores, strict=True):
            assignments, its_covered = self._refined(image, its_scores, covered)
            points = max(1, assignments.shape[1] * self.stride // height)
            grid = (points * height // self.stride, points * width // self.stride)
            followed.append(resample(assignments, its_covered, grid, grid))
        return torch.stack(followed)


def rgb_size(image: NDArray[Any]) -> tuple[int, int]:
    """Height and width of a photo, an array ``(H, W, 3)``.

    Raises:
        ValueError: If it is not RGB in 8 bits.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image has shape {image.shape} and type {image.dtype}; expected (H, W, 3) of uint8")
    return image.shape[0], image.shape[1]


def _scores(encoder: Encoder, device: torch.device, dtype: torch.dtype | None, images: Tensor) -> Tensor:
    with autocast(device, dtype):
        scores: Tensor = encoder(images)
        return scores
