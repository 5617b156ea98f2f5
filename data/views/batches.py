"""The stream of view pairs that training draws from a source of photos.

Every random choice is a pure function of seed, epoch and photo. So neither the number of workers nor an interruption
changes the batches of a run. Letters: B photos of a batch, S side of a view in pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from slotseg.config import ViewsConfig
from slotseg.data.views.crops import ViewPair, make_views
from slotseg.data.views.loading import Readings, Sample, load
from slotseg.data.views.sources import Source
from slotseg.data.views.validity import stacked
from slotseg.errors import DataError

WHOLE = slice(None)


@dataclass(frozen=True, kw_only=True)
class ViewBatch:
    """A batch of view pairs. Index 0 is view 1."""

    images: tuple[Tensor, Tensor]
    """RGB views, uint8, each ``(B, 3, S, S)``; where ``mapped``, a backbone's maps of them instead."""
    overlap_boxes: tuple[Tensor, Tensor]
    """Overlap boxes, xyxy in [0, 1] of the view, each ``(B, 4)``."""
    flips: tuple[Tensor, Tensor]
    """Whether the view is mirrored left-right, boolean, each ``(B,)``."""
    valid: tuple[Tensor, Tensor] | None = None
    """Which pixels are valid, boolean, each ``(B, S, S)``; where ``mapped``, which cells, ``(B, h, w)``. None: all."""
    unreadable: tuple[str, ...] = ()
    """Messages of unreadable photos, which other photos replaced."""
    mapped: bool = False
    """Whether ``images`` are maps, ``(B, channels, h, w)``."""

    def pin_memory(self) -> "ViewBatch":
        """Copy of the batch in pinned memory. The loader calls this."""
        return self._map(Tensor.pin_memory)

    def to(self, device: torch.device) -> "ViewBatch":
        """Copy of the batch on a device."""
        return self._map(lambda t: t.to(device, non_blocking=True))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "ViewBatch":
        def both(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return function(pair[0]), function(pair[1])

        return replace(
            self,
            images=both(self.images),
            overlap_boxes=both(self.overlap_boxes),
            flips=both(self.flips),
            valid=both(self.valid) if self.valid else None,
        )


class ViewPairs(Readings):
    """View pairs of a source, by keys (epoch, photo)."""

    def __init__(self, source: Source, config: ViewsConfig, seed: int, workers: int = 0) -> None:
        super().__init__(source, workers)
        self.config, self.seed = config, seed

    def __getitem__(self, key: tuple[int, int]) -> Sample[ViewPair] | DataError:
        """View pair of a photo in an epoch. The next readable photo replaces an unreadable one.

        ``index`` and ``index + len(source)`` are different crops of one photo.
        """
        epoch, index = key
        return self.read(
            index, lambda photo: make_views(photo, self.config, np.random.default_rng([self.seed, epoch, index]))
        )


class Batches(Sampler[list[tuple[int, int]]]):
    """Keys (epoch, photo) of every batch from ``first_step`` to ``total_steps``.

    Each epoch is a permutation that depends on seed and epoch only. Photos that do not fill a batch are left out. If
    there are fewer photos than a batch holds, photos repeat: they are counted on from ``num_photos``, so that each
    time they are cropped differently.

    ``part`` is the slice of every batch that this process takes. Several processes together draw the batches of one.
    """

    def __init__(
        self,
        num_photos: int,
        batch_size: int,
        seed: int,
        first_step: int,
        total_steps: int,
        part: slice = WHOLE,
    ) -> None:
        self.num_photos, self.batch_size, self.seed, self.part = num_photos, batch_size, seed, part
        self.first_step, self.total_steps = first_step, total_steps

    def __len__(self) -> int:
        return self.total_steps - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = steps_per_epoch(self.num_photos, self.batch_size)
        order, ordered_epoch = np.empty(0, np.int64), -1
        for step in range(self.first_step, self.total_steps):
            epoch, batch = divmod(step, per_epoch)
            if epoch != ordered_epoch:
                rng = np.random.default_rng([self.seed, epoch])
                order, ordered_epoch = epoch_order(self.num_photos, self.batch_size, rng), epoch
            start = batch * self.batch_size
            yield [(epoch, int(i)) for i in order[start : start + self.batch_size][self.part]]


def epoch_order(num_photos: int, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Order of the photos in an epoch. Where a batch holds more photos than there are, they repeat, counted on."""
    rounds = -(-batch_size // num_photos)
    return np.concatenate([rng.permutation(num_photos) + r * num_photos for r in range(rounds)])


def steps_per_epoch(num_photos: int, batch_size: int) -> int:
    """Number of whole batches in a pass over the photos, at least one."""
    return max(1, num_photos // batch_size)


def view_batches(
    source: Source,
    config: ViewsConfig,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    total_steps: int,
    workers: int,
    part: slice = WHOLE,
    pin_memory: bool = False,
) -> Iterator[ViewBatch]:
    """Stream the batches of a run from ``first_step`` on, or the slice ``part`` of each.

    Raises:
        DataError: If none of many photos in a row can be read, or a loader process dies.
    """
    return load(
        ViewPairs(source, config, seed, workers),
        Batches(len(source), batch_size, seed, first_step, total_steps, part),
        _collate,
        workers=workers,
        pin_memory=pin_memory,
    )


def _collate(samples: Sequence[Sample[ViewPair]]) -> ViewBatch:
    def both(name: str) -> tuple[Tensor, Tensor]:
        views = torch.stack([getattr(s.views, name) for s in samples], dim=1)
        return views[0], views[1]

    valid = stacked([s.views.valid for s in samples], dim=1)
    return ViewBatch(
        images=both("images"),
        overlap_boxes=both("overlap_boxes"),
        flips=both("flips"),
        valid=None if valid is None else (valid[0], valid[1]),
        unreadable=tuple(message for s in samples for message in s.unreadable),
    )
