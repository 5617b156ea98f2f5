"""The cost of a training's second stage on this machine, measured with an untrained decoder on a few photos.

Random weights take as long as trained ones. Letters: U prototypes in use, P trained prototypes.
"""

import statistics
import time
from dataclasses import dataclass, replace
from functools import partial

import torch

from slotseg.data.views.sources import Source
from slotseg.devices import timed
from slotseg.training.counting import SECOND_SIZE
from slotseg.training.kept_photos import KeptPhoto, keep_photos, logits_of
from slotseg.training.learner import Learner
from slotseg.training.self_training import HELD_OUT, SelfTraining

TYPICAL_IN_USE = 120
"""U that is reckoned with, if P is not less: runs of the preset photos, with 128, had 126 or 127 in use."""
TRIED_PHOTOS = 6
"""Most photos whose targets are made."""
SPREAD = 50
"""Most photos, spread over the source, that are looked at while there is time."""
SECONDS = 1.0
"""Seconds after which no further photo is looked at."""
MEASURED_STEPS = 3
"""Steps that are measured, after one that warms up."""


@dataclass(frozen=True, kw_only=True)
class DecoderCost:
    """Measured cost of the second stage, in seconds, and what follows for the whole of it."""

    looking: float
    """Seconds to read a photo and to look at it once."""
    assigning: float
    """Seconds to make the targets of a photo: a look of the decoder and the mean field."""
    deciding: float
    """Seconds for a look of the decoder alone at a photo."""
    stepping: float
    """Seconds of a step."""
    num_photos: int
    """Photos that are learned from, those that are held out included."""
    steps: int
    """Steps of the decoder."""
    rounds: int
    """Times that targets are made."""
    merging: bool
    """Whether prototypes are merged by what the decoder makes of all photos."""
    photo_bytes: int
    """Bytes of a photo that is kept: its pixels twice, levels, scores and targets."""

    @property
    def seconds(self) -> float:
        """Seconds of the whole stage.

        Held-out photos are decided on before the first round and after each. Where prototypes are merged, all photos
        are decided on after the last round, and looked at again, smaller.
        """
        decided = (self.rounds + 1) / HELD_OUT + self.merging
        again = self.merging * SECOND_SIZE**2 * (self.looking + self.deciding)
        each = self.looking + self.rounds * self.assigning + decided * self.deciding + again
        return self.num_photos * each + self.steps * self.stepping

    @property
    def memory(self) -> int:
        """Bytes of all photos that are kept."""
        return self.num_photos * self.photo_bytes


def measure_decoder(learner: Learner, source: Source) -> DecoderCost | None:
    """Measure the second stage of a training, in memory.

    Args:
        learner: Learner of the training. It gets untrained decoders and is of no other use afterwards.
        source: All photos of the training.

    Returns:
        The cost; None if there is no second stage, or no photo could be read in ``SECONDS``.
    """
    decoder, device = learner.config.decoder, learner.device
    if not decoder.steps:
        return None
    endless = replace(decoder, steps=1_000_000, rounds=1, photos=SPREAD)
    learner.config = config = replace(learner.config, decoder=endless)
    used = torch.arange(min(TYPICAL_IN_USE, config.model.num_trained), device=device)
    end = time.monotonic() + SECONDS
    looks = partial(keep_photos, learner.model.teacher, source, config, device, lambda: time.monotonic() > end)
    looking, photos = timed(looks, device)
    if not photos:
        return None
    few = [photo.of(used) for photo in photos[:TRIED_PHOTOS]]
    stage = SelfTraining(learner, few, used, 0, lambda: False)
    assigning, _ = timed(stage.ready, device)
    deciding, _ = timed(lambda: [logits_of(stage.teacher, photo, config.backbone) for photo in few], device)
    steps = [timed(stage.train_step, device)[0] for _ in range(1 + MEASURED_STEPS)]
    return DecoderCost(
        looking=looking / len(photos),
        assigning=assigning / len(few),
        deciding=deciding / len(few),
        stepping=statistics.median(steps[1:]),
        num_photos=min(decoder.photos, len(source)),
        steps=decoder.steps,
        rounds=min(decoder.rounds, decoder.steps),
        merging=learner.model.teacher.confusion is not None,
        photo_bytes=(sum(map(_num_bytes, few)) + sum(t.nbytes for t in stage.targets)) // len(few),
    )


def _num_bytes(photo: KeptPhoto) -> int:
    tensors = (photo.pixels, photo.scores, *photo.levels, photo.valid)
    return photo.image.nbytes + sum(tensor.nbytes for tensor in tensors if tensor is not None)
