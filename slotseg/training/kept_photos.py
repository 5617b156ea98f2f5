"""Photos that the frozen backbone has looked at once, kept in memory for the decoder's training.

Letters: B windows, C channels, U prototypes in use, H W pixels, h w feature cells, p points along a cell's side.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slotseg.config import BackboneConfig, TrainConfig
from slotseg.data.reading.photos import REDUCTIONS, Photo
from slotseg.data.views.augment import normalize
from slotseg.data.views.sources import Source
from slotseg.data.views.validity import NoPictureError, parted
from slotseg.errors import DataError
from slotseg.method.model import Encoder
from slotseg.networks.backbones import Backbone
from slotseg.networks.decoder import Decoder
from slotseg.networks.validity import LEAST, valid_cells
from slotseg.segmenting.looks import default_size, padded, scaled, working_size


@dataclass(frozen=True, kw_only=True)
class KeptPhoto:
    """A photo at the working size, and what the teacher makes of it."""

    image: NDArray[np.uint8]
    """RGB pixels, ``(H, W, 3)``."""
    pixels: Tensor
    """The same padded to whole cells, uint8, ``(3, H', W')``, on the device."""
    levels: list[Tensor]
    """Maps of ``Backbone.pyramid``, float16, ``(C, h', w')`` each, on the device."""
    scores: Tensor
    """Cosines to prototypes, float16, ``(P, h, w)``, on the device; ``(U, h, w)`` after ``of``."""
    valid: Tensor | None = None
    """Which of ``pixels`` are valid, boolean, ``(H', W')``, on the device; None if all are."""

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width in cells, h and w."""
        return self.scores.shape[1], self.scores.shape[2]

    def valid_at(self, grid: tuple[int, int]) -> Tensor:
        """Which cells or points of a grid over ``pixels`` are valid, by half at least, boolean."""
        if self.valid is None:
            return torch.ones(grid, dtype=torch.bool, device=self.pixels.device)
        return valid_cells(self.valid[None], grid)[0]

    def of(self, used: Tensor) -> "KeptPhoto":
        """The photo with the scores of the prototypes in use alone, whose indices are ``(U,)``."""
        return replace(self, scores=self.scores[used])


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A batch of windows of kept photos, as a decoder reads them."""

    images: Tensor
    """Normalised pixels, ``(B, 3, H, W)``."""
    levels: list[Tensor]
    """Maps of the levels, float32, ``(B, C, h', w')`` each."""
    scores: Tensor
    """Cosines to the prototypes in use, float32, ``(B, U, h, w)``."""


@dataclass(frozen=True)
class Place:
    """A window of a photo."""

    photo: int
    """Index of the photo."""
    top: int
    """First row of cells."""
    left: int
    """First column of cells."""
    side: tuple[int, int]
    """Rows and columns of cells."""
    mirrored: bool = False
    """Whether the window is mirrored left-right."""

    def cut(self, tensor: Tensor, cells: tuple[int, int]) -> Tensor:
        """The window of a map ``(C, ...)`` of a photo of ``cells``, which has whole points to a cell."""
        points = tensor.shape[1] // cells[0]
        rows = slice(points * self.top, points * (self.top + self.side[0]))
        part = tensor[:, rows, points * self.left : points * (self.left + self.side[1])]
        return part.flip(2) if self.mirrored else part


def keep_photos(
    teacher: Encoder, source: Source, config: TrainConfig, device: torch.device, stop: Callable[[], bool]
) -> list[KeptPhoto]:
    """Look at some photos of a source, spread over it.

    Those that cannot be read, or have no valid cell, are left out. If that is all of them, the first of the others
    with which it is not so is the only one.

    Args:
        teacher: Encoder whose backbone and heads are not trained any more. It stays as it is.
        source: Photos of the run.
        config: Settings of the run.
        device: Device to compute on, and to keep the maps on.
        stop: Function that says whether to end early, asked after each photo.
    """
    encoder = copy.deepcopy(teacher).eval()
    number, kept = config.decoder.photos, list[KeptPhoto]()
    chosen = spread(len(source), number)
    for i, index in enumerate((*chosen, *range(len(source)))):
        if stop() or (kept and i >= len(chosen)):
            break
        with suppress(DataError):  # training has named it
            photo = _keep(encoder, *read_scaled(source.open(index), config, device), config)
            if photo.valid is None or photo.valid_at(photo.cells).any():
                kept.append(photo)
    return kept


def spread(number: int, most: int) -> list[int]:
    """Indices of up to ``most`` of so many photos, spread over them."""
    return sorted({i * number // most for i in range(most)})


@torch.no_grad()
def _keep(encoder: Encoder, seen: Tensor, valid: Tensor | None, config: TrainConfig) -> KeptPhoto:
    backbone = encoder.backbone
    assert isinstance(backbone, Backbone)
    pixels = padded(seen, backbone.stride)
    levels = backbone.pyramid(_normalised(pixels, config.backbone))
    return KeptPhoto(
        image=_bytes(seen[0]).permute(1, 2, 0).cpu().numpy(),
        pixels=_bytes(pixels[0]),
        levels=[level[0].half() for level in levels],
        scores=encoder.prototypes(encoder.projector(levels[-1]))[0].half(),
        valid=None if valid is None else padded(valid[None, None].float(), backbone.stride)[0, 0] > 0,
    )


def windows(photos: Sequence[KeptPhoto], places: Sequence[Place], config: BackboneConfig) -> Windows:
    """Windows of some photos, stacked. All have the same side."""

    def stacked(maps: Sequence[Tensor]) -> Tensor:
        parts = [place.cut(m, photos[place.photo].cells) for m, place in zip(maps, places, strict=True)]
        return torch.stack(parts).contiguous(memory_format=torch.channels_last)

    chosen = [photos[place.photo] for place in places]
    return Windows(
        images=_normalised(stacked([p.pixels for p in chosen]).float() / 255, config),
        levels=[stacked([p.levels[i] for p in chosen]).float() for i in range(len(chosen[0].levels))],
        scores=stacked([p.scores for p in chosen]).float(),
    )


@torch.no_grad()
def logits_of(decoder: Decoder, photo: KeptPhoto, config: BackboneConfig) -> Tensor:
    """Logits ``(U, p h, p w)`` of a whole photo."""
    whole = windows([photo], [Place(0, 0, 0, photo.cells)], config)
    logits: Tensor = decoder(whole.images, whole.levels, whole.scores)[0]
    return logits


def read_scaled(photo: Photo, config: TrainConfig, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """A photo at the working size of a run, decoded no larger than that needs.

    Returns:
        RGB in [0, 1], ``(1, 3, H, W)``, on the device, and which of these pixels are valid, boolean, ``(H, W)``; None
        if all are.

    Raises:
        DataError: If it cannot be decoded, or all of it is missing.
    """
    size = default_size(config)
    image, valid = parted(photo.pixels(next((r for r in REDUCTIONS if min(photo.size_hw) // r >= size), 1)))
    size_hw = working_size((image.shape[0], image.shape[1]), size)
    return scaled([image], size_hw, device), None if valid is None else scaled_validity(valid, size_hw, device)


def scaled_validity(valid: NDArray[np.bool_], size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """Which pixels of a scaled photo come from valid ones, ``(H, W)``, by half at least, boolean, ``(*size_hw)``."""
    return scaled([np.uint8(255) * valid[:, :, None]], size_hw, device)[0, 0] >= LEAST


def cells_of(valid: Tensor, stride: int) -> Tensor:
    """Which cells of a photo are valid, boolean, ``(h, w)``, from which of its pixels are, ``(H, W)``.

    Raises:
        NoPictureError: If none is.
    """
    whole = padded(valid[None, None].float(), stride)[0]
    cells = valid_cells(whole, (whole.shape[1] // stride, whole.shape[2] // stride))[0]
    if not cells.any():
        raise NoPictureError
    return cells


def _normalised(pixels: Tensor, config: BackboneConfig) -> Tensor:
    return normalize(pixels, config.mean, config.std).contiguous(memory_format=torch.channels_last)


def _bytes(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as the bytes that they were made of."""
    return (255 * pixels).round().to(torch.uint8)
