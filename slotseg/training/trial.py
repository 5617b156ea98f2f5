"""The cost of a training on this machine, measured on a few steps: photos a second, memory, hours.

Where maps are kept, the trial looks at a few photos once, and its steps draw from their maps. The second stage is
measured in ``slotseg.training.decoder_trial``.
"""

import resource
import statistics
import sys
import time
from dataclasses import dataclass, replace
from functools import partial

import torch

from slotseg.config import TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.views.batches import ViewPairs
from slotseg.data.views.kept_views import KeptViews
from slotseg.data.views.sources import Source
from slotseg.devices import precision_name, resolve_device, timed
from slotseg.errors import ConfigError, DataError
from slotseg.training.decoder_trial import DecoderCost, measure_decoder
from slotseg.training.kept_maps import KeptMaps, photos_of_block
from slotseg.training.learner import Learner, total_steps

READ_PHOTOS = 50
"""Photos, spread over the source, that are read to time the reading."""
WARM_UP = 2
MEASURED_STEPS = 10
SECONDS = 15.0
"""Seconds after which no further step is measured; at least three are."""
KEPT_BLOCKS = 3
"""Blocks of photos, spread over the source, whose maps a trial keeps."""
LARGEST_ON_CPU = 8
"""Most photos in a step of a trial on a CPU; from a few on, time grows with their number."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured cost of a training, in seconds a photo, and what follows for the whole run.

    Where maps are kept, photos are read and looked at, and steps draw from the maps.
    """

    reading: float
    """Seconds to decode and crop a photo on one core; ``workers`` processes do it beside the steps, or the looking."""
    copying: float
    """Seconds to copy the views of a photo to the device."""
    coloring: float
    """Seconds to augment and normalise them on the device."""
    computing: float
    """Seconds of everything else in a step: networks, losses, optimiser."""
    batch: int
    """Photos in a step of the trial."""
    precision: str
    """Precision: ``fp32``, ``bf16`` or ``fp16``."""
    workers: int
    """Loader processes."""
    memory: int
    """Peak of memory in bytes, of the GPU or else of the process, with all that is kept."""
    num_photos: int
    """Photos in all steps of the whole run, counted each time."""
    looking: float = 0.0
    """Seconds to look at a photo whose maps are kept: copy, colours and backbone, all of its views."""
    num_looked: int = 0
    """Photos that are looked at, counted each time, where maps are kept."""
    kept_memory: int = 0
    """Bytes of the maps that are kept."""
    decoder: DecoderCost | None = None
    """Cost of the second stage, where there is one."""

    @property
    def step(self) -> float:
        """Seconds of a step for each photo: all that the loader does not do."""
        return self.copying + self.coloring + self.computing

    @property
    def by_loader(self) -> bool:
        """Whether reading takes longer than what it is done beside."""
        return self.reading / max(self.workers, 1) > (self.looking if self.num_looked else self.step)

    @property
    def photos_per_second(self) -> float:
        """Photos a second of the whole loop, the looking included; the slower of loader and step sets the pace.

        The second stage is no part of it.
        """
        return self.num_photos / self.first_stage

    @property
    def seconds(self) -> float:
        """Seconds that the whole run will take at this rate."""
        return self.first_stage + (self.decoder.seconds if self.decoder else 0.0)

    @property
    def kept_bytes(self) -> int:
        """Most bytes that are kept at once, part of ``memory``: maps, or then the photos of the second stage."""
        return max(self.kept_memory, self.decoder.memory if self.decoder else 0)

    @property
    def first_stage(self) -> float:
        """Seconds that the first stage will take at this rate: all but the decoder."""
        reading = self.reading / max(self.workers, 1)
        if not self.num_looked:
            return self.num_photos * max(self.step, reading)
        return self.num_looked * max(self.looking, reading) + self.num_photos * self.step


def measure_cost(config: TrainConfig, source: Source, *, device: str = "auto", workers: int | None = None) -> Cost:
    """Measure some steps, in memory, and estimate the cost of the whole run.

    Args:
        config: Settings of the whole run, whose ``backbone.init`` is loaded. On a CPU the trial has smaller batches.
        source: The photos.
        device: Name of the device; see ``slotseg.devices.resolve_device``.
        workers: Loader processes; None chooses.

    Raises:
        ConfigError: As ``Learner``, or if a batch does not fit into the device's memory.
        CheckpointError: As ``Learner``.
        DataError: If there are no readable photos.
    """
    steps = total_steps(config, len(source))
    on_cpu = resolve_device(device).type == "cpu"
    trial = replace(
        config,
        batch_size=min(config.batch_size, LARGEST_ON_CPU) if on_cpu else config.batch_size,
        epochs=None,
        steps=steps,
        optimizer=replace(config.optimizer, warmup_epochs=0),
    )
    try:
        if not config.views.kept:
            return _measure(Learner(trial, source, device=device, workers=workers), source, steps * config.batch_size)
        return _measure_kept(trial, source, steps, config.batch_size, device=device, workers=workers)
    except torch.cuda.OutOfMemoryError as error:
        raise ConfigError(
            f"a batch of {config.batch_size} photos does not fit into the memory of the device; "
            "expected less: choose a smaller --batch-size, a smaller --image-size or more GPUs"
        ) from error


def _measure(learner: Learner, source: Source, num_photos: int) -> Cost:
    batch, device = learner.config.batch_size, learner.device
    reading = _reading(learner)
    copies, steps = [], []
    start = time.monotonic()
    for loaded in learner.batches(0, WARM_UP + MEASURED_STEPS):
        copied, on_device = timed(partial(loaded.to, device), device)
        copies.append(copied)
        steps.append(timed(partial(learner.train_step, on_device), device)[0])
        if len(steps) >= WARM_UP + 3 and time.monotonic() - start > SECONDS:
            break
    copying, stepping = (statistics.median(times[WARM_UP:]) / batch for times in (copies, steps))
    coloring = min(timed(partial(learner.prepare, on_device, 0), device)[0] / batch, stepping)
    decoder = measure_decoder(learner, source)
    return Cost(
        reading=reading,
        copying=copying,
        coloring=coloring,
        computing=stepping - coloring,
        batch=batch,
        precision=precision_name(learner.precision),
        workers=learner.workers,
        memory=peak_memory(device) + (decoder.memory if decoder else 0),
        num_photos=num_photos,
        decoder=decoder,
    )


def _measure_kept(
    trial: TrainConfig, source: Source, steps: int, batch_size: int, *, device: str, workers: int | None
) -> Cost:
    """Measure a learner of a few photos, and reckon with all of them."""
    number = KEPT_BLOCKS * photos_of_block(trial.batch_size, trial.views.kept)
    learner = Learner(trial, _Some(source, number), device=device, workers=workers)
    assert learner.kept is not None
    looking = [
        timed(partial(learner.kept.maps_of, block.images, 0, number), learner.device)[0] / len(block.images)
        for number, block in enumerate(learner.kept.blocks(0))
    ]
    cost = _measure(learner, source, steps * batch_size)
    whole = KeptMaps(
        replace(trial, batch_size=batch_size),
        source,
        learner.kept.backbone,
        total_steps=steps,
        device=learner.device,
        precision=learner.precision,
        workers=learner.workers,
    )
    fewer = whole.rounds.num_views / learner.kept.rounds.num_views
    kept = replace(
        cost,
        reading=cost.reading * fewer,
        looking=min(looking) * fewer,
        num_looked=whole.rounds.num_looked,
        kept_memory=whole.num_bytes,
    )
    of_steps = cost.memory - cost.kept_bytes - learner.kept.num_bytes
    return replace(kept, memory=of_steps + kept.kept_bytes)


class _Some:
    """A few photos of a source, spread over it."""

    def __init__(self, source: Source, number: int) -> None:
        self.source, self.number = source, min(number, len(source))

    def __len__(self) -> int:
        return self.number

    def name(self, index: int) -> str:
        return self.source.name(index * len(self.source) // self.number)

    def open(self, index: int) -> Photo:
        return self.source.open(index * len(self.source) // self.number)


def _reading(learner: Learner) -> float:
    views: ViewPairs | KeptViews = ViewPairs(learner.source, learner.config.views, learner.config.seed)
    if learner.kept:
        views = KeptViews(learner.source, learner.config.views, learner.kept.rounds.num_views, learner.config.seed)
    start, number = time.perf_counter(), 0
    for index in range(0, len(learner.source), -(-len(learner.source) // READ_PHOTOS)):
        read = views[0, index]
        if isinstance(read, DataError):
            raise read
        number += 1
    return (time.perf_counter() - start) / number


def peak_memory(device: torch.device) -> int:
    """Peak of memory so far in bytes, of a GPU or else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
