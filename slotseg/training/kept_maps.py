"""Maps of a frozen backbone that are computed once and kept: the batches of all steps are drawn from them.

A frozen backbone gives the same map of a view at every step. So some views of each photo are looked at once, their maps
are kept in float16, and a step draws two of each photo. What is kept when is in ``slotseg.data.views.rounds``.
Blocks of photos are fixed: wherever a run starts, and in how many processes, the backbone gets the same batches.
Letters: N photos of a round, M of a block, V views of each, C channels, h w cells, B photos of a batch.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from slotseg import distributed
from slotseg.amounts import count, size
from slotseg.config import TrainConfig
from slotseg.data.views.augment import augment, draw_augmentation, normalize, seed_of
from slotseg.data.views.batches import WHOLE, ViewBatch
from slotseg.data.views.kept_views import Block, Blocks, KeptViews, load_blocks, overlap_boxes
from slotseg.data.views.rounds import plan_rounds
from slotseg.data.views.sources import Source
from slotseg.devices import autocast
from slotseg.networks.backbones import Backbone
from slotseg.networks.validity import valid_cells

MOST_AT_ONCE = 64
"""Most views that the backbone gets at once, if a photo has no more of them."""
_COLORS = 1  # last number of a seed, so that no step shares it
_LARGEST = torch.finfo(torch.float16).max


class KeptMaps:
    """The kept maps of one round after the other.

    Args:
        config: All settings.
        source: The photos.
        backbone: The frozen backbone, on its device.
        total_steps: Steps of the whole training.
        device: Device to compute and keep on.
        precision: Autocast type; None for plain float32.
        workers: Loader processes.
        part: This process's share of every batch.

    Attributes:
        rounds: What is kept when.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: Source,
        backbone: Backbone,
        *,
        total_steps: int,
        device: torch.device,
        precision: torch.dtype | None,
        workers: int,
        part: slice = WHOLE,
    ) -> None:
        self.config, self.source, self.backbone = config, source, backbone
        self.device, self.precision, self.workers, self.part = device, precision, workers, part
        cells = config.views.image_size // backbone.stride
        self.map_shape = cells, cells, backbone.channels
        self.num_view_bytes = 2 * cells * cells * backbone.channels
        self.rounds = plan_rounds(
            len(source),
            config.batch_size,
            total_steps,
            kept=config.views.kept,
            capacity=config.views.kept_memory * 10**6 // self.num_view_bytes,
            seed=config.seed,
        )
        self.block_size = photos_of_block(config.batch_size, self.rounds.num_views)
        self._number = -1
        self._maps = self._places = self._valid = torch.empty(0)
        self._unreadable: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Bytes of the maps of the largest round."""
        return self.rounds.largest * self.rounds.num_views * self.num_view_bytes

    @property
    def summary(self) -> str:
        """What is looked at, in a sentence without its end."""
        rounds, memory = self.rounds, size(self.num_bytes)
        times, each = ("once", "twice")[rounds.visits - 1], f"{rounds.num_views} views each"
        photos = count(rounds.num_looked // rounds.visits, "photo")
        if len(rounds) == 1:
            return f"Looking at {photos} {times}, {each}: {memory} of maps"
        return f"Looking at {photos} {times}, {each}, in {len(rounds)} rounds: {memory} of maps at a time"

    def batches(
        self, first_step: int, total_steps: int, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[ViewBatch]:
        """This process's share of the batches of some steps; maps are on the device, the rest on the CPU.

        Where a step's round is not the one that is kept, its photos are looked at first. The first batch, and that of
        each further round, has the messages of unreadable photos.

        Args:
            first_step: First step.
            total_steps: Step to end before.
            stopped: Function that says whether to end early, the same in all processes. It is asked between blocks.

        Raises:
            DataError: If none of many photos in a row can be read, or a loader process dies.
        """
        told = -1
        for step in range(first_step, total_steps):
            number = self.rounds.round_of(step)
            if number != self._number and not self._look_at(number, stopped):
                return
            yield self._batch(step, () if told == number else self._unreadable)
            told = number

    def release(self) -> None:
        """Let go of the maps. Another step has its round looked at again."""
        self._number = -1
        self._maps = self._places = self._valid = torch.empty(0)

    def blocks(self, number: int) -> Iterator[Block]:
        """This process's share of the blocks of a round, on the CPU."""
        rank, world_size = distributed.rank(), distributed.world_size()
        return load_blocks(
            KeptViews(self.source, self.config.views, self.rounds.num_views, self.config.seed, self.workers),
            Blocks(number, self.rounds.photos(number), self.block_size, rank, world_size),
            workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )

    @torch.no_grad()
    def maps_of(self, images: Tensor, number: int, block: int) -> Tensor:
        """Maps of the views of a block, ``(M, V, h, w, C)``, float16.

        Args:
            images: The views, uint8, ``(M, V, 3, S, S)``.
            number: Number of the round, and
            block: of the block in it; they decide on the colours.
        """
        backbone, views = self.config.backbone, self.config.views
        generator = torch.Generator().manual_seed(seed_of(self.config.seed, number, block, _COLORS))
        images = images.to(self.device, non_blocking=True)
        maps = self._empty(*images.shape[:2])
        for view in (0, 1):  # each other one has the colours of view 2
            some = images[:, view::2].flatten(0, 1)
            drawn = draw_augmentation(len(some), view, views, generator)
            colored = normalize(augment(some, drawn), backbone.mean, backbone.std)
            with autocast(self.device, self.precision):
                dense = self.backbone(colored.contiguous(memory_format=torch.channels_last))
            dense = dense.float().clamp(-_LARGEST, _LARGEST).movedim(1, 3)
            maps[:, view::2] = dense.unflatten(0, (len(images), -1)).half()
        return maps

    def _look_at(self, number: int, stopped: Callable[[], bool]) -> bool:
        """Compute and keep the maps of a round, processes together. False: it was stopped."""
        length, rounds = self.block_size, self.rounds
        num_photos, processes = len(rounds.photos(number)), distributed.world_size()
        num_blocks = -(-num_photos // length)
        if not len(self._maps):
            self._maps = self._empty(rounds.largest, rounds.num_views)
            self._places = torch.empty(rounds.largest, rounds.num_views, 5, dtype=torch.int64)
            self._valid = self._all_valid(rounds.largest)
        self._number = -1
        unreadable: list[str] = []
        quiet = distributed.quiet()
        with tqdm(total=num_photos, desc="looking", unit="photo", disable=quiet, leave=False) as bar:
            own = self.blocks(number)
            for start in range(0, num_blocks, processes):
                if stopped():
                    return False
                maps = self._empty(length, rounds.num_views)
                places = torch.zeros(length, rounds.num_views, 5, dtype=torch.int64)
                valid = self._all_valid(length)
                block = next(own, None)
                if block is not None:
                    found = self.maps_of(block.images, number, start + distributed.rank())
                    maps[: len(found)], places[: len(found)] = found, block.places
                    if block.valid is not None:
                        cells = valid_cells(block.valid.flatten(0, 1), self.map_shape[:2])
                        valid[: len(found)] = cells.view(*block.valid.shape[:2], *self.map_shape[:2])
                    unreadable += block.unreadable
                here = slice(start * length, min((start + processes) * length, num_photos))
                number_here = here.stop - here.start  # the last blocks may be short, or none
                self._maps[here] = distributed.gather(maps)[:number_here]
                self._places[here] = distributed.gather(places)[:number_here]
                self._valid[here] = distributed.gather(valid)[:number_here]
                bar.update(number_here)
        self._number, self._unreadable = number, tuple(unreadable)
        return True

    def _batch(self, step: int, unreadable: tuple[str, ...]) -> ViewBatch:
        drawn = self.rounds.draw(step)
        rows, views = torch.from_numpy(drawn.rows[self.part]), torch.from_numpy(drawn.views[self.part])
        one, two = (self._places[rows, views[:, view]] for view in (0, 1))
        valid = self._valid[rows, views[:, 0]], self._valid[rows, views[:, 1]]
        indices = (rows[:, None] * self.rounds.num_views + views).to(self.device, non_blocking=True)
        maps = self._maps.flatten(0, 1)
        return ViewBatch(
            images=(_picked(maps, indices[:, 0]), _picked(maps, indices[:, 1])),
            overlap_boxes=(overlap_boxes(one, two), overlap_boxes(two, one)),
            flips=(one[:, 4].bool(), two[:, 4].bool()),
            valid=None if all(cells.all() for cells in valid) else valid,
            unreadable=unreadable,
            mapped=True,
        )

    def _all_valid(self, num_photos: int) -> Tensor:
        """Which cells of all views of some photos are valid, boolean, ``(M, V, h, w)``, on the CPU: all, so far."""
        return torch.ones(num_photos, self.rounds.num_views, *self.map_shape[:2], dtype=torch.bool)

    def _empty(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, *self.map_shape, dtype=torch.float16, device=self.device)


def photos_of_block(batch_size: int, num_views: int) -> int:
    """Photos of a block. Half of their views go through the backbone at once, as many as a step would send."""
    return max(1, 2 * min(batch_size, MOST_AT_ONCE) // num_views)


def _picked(maps: Tensor, indices: Tensor) -> Tensor:
    """Some of the maps ``(…, h, w, C)``, as a network takes them: ``(B, C, h, w)``, in channels_last."""
    return maps.index_select(0, indices).movedim(3, 1)
