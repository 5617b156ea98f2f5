"""Views that are looked at once: several crops of each photo of a round, streamed in fixed blocks of photos.

Crops and flips are a pure function of seed, round and photo. Letters: M photos of a block, V views of each, S side of a
view in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from slotseg.config import ViewsConfig
from slotseg.data.views.crops import BoxXYXY, Views, cut_views, overlap_box
from slotseg.data.views.loading import Readings, Sample, load
from slotseg.data.views.sources import Source
from slotseg.data.views.validity import stacked
from slotseg.errors import DataError

_KEPT = 1  # last number of a seed, so that no pair of views shares it

Key = tuple[int, int]
"""Round and photo."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """All kept views of some photos."""

    images: Tensor
    """RGB views, uint8, ``(M, V, 3, S, S)``."""
    places: Tensor
    """Crop box of each view in pixels of the photo, and whether it is mirrored, int64, ``(M, V, 5)``."""
    valid: Tensor | None = None
    """Which pixels of the views are valid, boolean, ``(M, V, S, S)``; None if all are."""
    unreadable: tuple[str, ...] = ()
    """Messages of unreadable photos, which other photos replaced."""

    def pin_memory(self) -> "Block":
        """Copy of the block with images in pinned memory. The loader calls this."""
        return replace(self, images=self.images.pin_memory())


class KeptViews(Readings):
    """The views of a source's photos, by keys (round, photo)."""

    def __init__(self, source: Source, config: ViewsConfig, num_views: int, seed: int, workers: int = 0) -> None:
        super().__init__(source, workers)
        self.config, self.num_views, self.seed = config, num_views, seed

    def __getitem__(self, key: Key) -> Sample[Views] | DataError:
        """Views of a photo in a round. The next readable photo replaces an unreadable one."""
        number, index = key
        seeds = [self.seed, number, index, _KEPT]
        return self.read(
            index, lambda photo: cut_views(photo, self.config, np.random.default_rng(seeds), self.num_views)
        )


class Blocks(Sampler[list[Key]]):
    """Keys of the blocks of a round that one of several processes looks at: every so many-th.

    Args:
        number: Number of the round.
        photos: Its photos.
        size: Photos of a block.
        rank: Number of the process.
        world_size: Number of processes.
    """

    def __init__(self, number: int, photos: NDArray[np.int64], size: int, rank: int = 0, world_size: int = 1) -> None:
        blocks = [photos[i : i + size] for i in range(0, len(photos), size)][rank::world_size]
        self.keys = [[(number, int(photo)) for photo in block] for block in blocks]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.keys)


def load_blocks(views: KeptViews, blocks: Blocks, *, workers: int, pin_memory: bool = False) -> Iterator[Block]:
    """Stream the blocks of a round.

    Raises:
        DataError: If none of many photos in a row can be read, or a loader process dies.
    """
    return load(views, blocks, _collate, workers=workers, pin_memory=pin_memory)


def overlap_boxes(places: Tensor, others: Tensor) -> Tensor:
    """Overlap boxes of views with other views of their photos, float32, ``(B, 4)``; both are ``(B, 5)``."""
    pairs = zip(places.tolist(), others.tolist(), strict=True)
    boxes = [overlap_box(_box(place), _box(other), bool(place[4])) for place, other in pairs]
    return torch.from_numpy(np.stack(boxes))


def _box(place: Sequence[int]) -> BoxXYXY:
    left, top, right, bottom = place[:4]
    return left, top, right, bottom


def _collate(samples: Sequence[Sample[Views]]) -> Block:
    places = [[(*crop, int(flip)) for crop, flip in zip(s.views.crops, s.views.flips, strict=True)] for s in samples]
    return Block(
        images=torch.stack([s.views.images for s in samples]),
        places=torch.tensor(places),
        valid=stacked([s.views.valid for s in samples]),
        unreadable=tuple(message for s in samples for message in s.unreadable),
    )
