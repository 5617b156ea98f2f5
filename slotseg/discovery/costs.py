"""Expected costs of a discovery's stages, measured in memory on a few training steps and a few painted photos."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from slotseg.config import TrainConfig
from slotseg.data.finding.inputs import Input
from slotseg.devices import resolve_device
from slotseg.method.building import add_decoder, build_model
from slotseg.painting.render import mask_png, overlay, save_picture
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.decoder_trial import TYPICAL_IN_USE
from slotseg.training.launch import Plan
from slotseg.training.prototypes import CORNER, COUNTED_PHOTOS
from slotseg.training.trial import measure_cost, peak_memory

SECONDS = 6.0
"""Seconds for which photos are painted. The first photo warms up and comes on top."""
MAX_PAINTED = 24
"""Most photos that are painted."""
CPU = torch.device("cpu")
TYPICAL_CONCEPTS = 50
"""Concepts with which painting is measured: more take longer, and in docs/experiments.md 23 to 52 stay distinct."""


@dataclass(frozen=True, kw_only=True)
class StageCosts:
    """Costs of the stages, as measured or expected."""

    steps: int
    """Training steps."""
    photos_per_second: float
    """Photos that the training uses per second."""
    training: float
    """Seconds that the training will take, with clustering before the first step and counting after the last."""
    decoder: float = 0.0
    """Seconds that its second stage will take on top; 0 where there is none."""
    concepts: float
    """Seconds that it will take to look at every photo."""
    masks: float
    """Seconds that it will take to look at every photo and to write its mask and its overlay."""
    memory: int
    """Peak memory of the process, or of the GPU, bytes."""

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, as in ``slotseg.discovery.record.STAGES``."""
        decoder = {"decoder": self.decoder} if self.decoder else {}
        return {"training": self.training, **decoder, "concepts": self.concepts, "masks": self.masks}


@dataclass(frozen=True, kw_only=True)
class _Painting:
    """Seconds per photo."""

    looking: float
    writing: float


def measure_stages(
    plan: Plan, sample: Sequence[Input], num_photos: int, *, device: str = "auto", workers: int | None = None
) -> StageCosts:
    """Try the stages out, in memory. This takes about half a minute.

    Args:
        plan: Plan of the training.
        sample: Photos to try, up to ``MAX_PAINTED``, spread over those that will be painted.
        num_photos: Number of photos that will be painted.
        device: Device, as in ``slotseg.devices.resolve_device``.
        workers: Number of loader processes; None chooses.

    Raises:
        ConfigError: As in ``slotseg.training.trial.measure_cost``.
        DataError: If a photo that is tried cannot be read.
    """
    config, before = plan.config, peak_memory(CPU)
    cost = measure_cost(config, plan.source, device=device, workers=workers)
    painting = _measure_painting(config, sample, device)
    steps = cost.num_photos // config.batch_size
    merged = config.model.trained_prototypes is not None and not config.decoder.steps
    looks = (1 + CORNER**2) * (config.model.prototype_init == "kmeans") + merged
    counted = looks * min(COUNTED_PHOTOS, len(plan.source))
    memory = cost.memory
    if resolve_device(device).type == "cpu":  # where the trial's batches may have been smaller
        of_steps = (cost.memory - cost.kept_bytes - before) * config.batch_size // cost.batch
        memory = max(peak_memory(CPU), before + of_steps) + cost.kept_bytes
    return StageCosts(
        steps=steps,
        photos_per_second=cost.photos_per_second,
        training=cost.num_photos / cost.photos_per_second + counted * painting.looking,
        decoder=cost.decoder.seconds if cost.decoder else 0.0,
        concepts=num_photos * painting.looking,
        masks=num_photos * (painting.looking + painting.writing),
        memory=memory,
    )


def _measure_painting(config: TrainConfig, sample: Sequence[Input], device: str) -> _Painting:
    """Measure painting with random weights, which cost the same as trained ones."""
    teacher = build_model(config).teacher
    if teacher.confusion is not None:
        teacher.merge(config.model.num_prototypes or min(TYPICAL_CONCEPTS, config.model.num_trained))
    if config.decoder.steps:
        add_decoder(teacher, torch.arange(min(TYPICAL_IN_USE, config.model.num_trained)))
    segmenter = Segmenter(teacher, config, device=device, precision="auto")
    start = time.perf_counter()
    _paint(segmenter, sample[:1])
    number = min(len(sample), max(2, round(SECONDS / (time.perf_counter() - start))))
    return _paint(segmenter, [sample[i * len(sample) // number] for i in range(number)])


def _paint(segmenter: Segmenter, photos: Sequence[Input]) -> _Painting:
    start, writing = time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for result in segmenter.stream(photos):
            if result.segmentation is None or result.image is None:  # unreadable, or huge
                continue
            began = time.perf_counter()
            class_map, labels = result.segmentation.class_map, result.segmentation.labels
            mask_png(class_map, labels)
            save_picture(Path(folder) / "overlay.jpg", overlay(result.image, class_map, labels))
            writing += time.perf_counter() - began
    looking = time.perf_counter() - start - writing
    return _Painting(looking=looking / len(photos), writing=writing / len(photos))
