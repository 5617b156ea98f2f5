"""Which prototypes whole photos use: training views keep others in use, which stay empty later."""

import copy
from contextlib import suppress

import torch
from torch import Tensor

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.data.views.sources import Source
from slotseg.errors import DataError
from slotseg.method.model import Encoder
from slotseg.segmenting.scorer import Scorer

COUNTED_PHOTOS = 100
"""Photos that are looked at, spread over the source."""


def count_wins(encoder: Encoder, config: TrainConfig, source: Source, device: torch.device) -> Tensor:
    """Share of the cells of whole photos that each prototype wins, ``(P,)``, on the CPU; processes share the photos."""
    encoder = copy.deepcopy(encoder)  # the one in training stays in training
    assert encoder.concepts is not None
    number = len(encoder.concepts)
    encoder.concepts.copy_(torch.arange(number))  # each on its own
    scorer = Scorer(encoder, config, device=str(device))
    wins = torch.zeros(number)
    indices = sorted({i * len(source) // COUNTED_PHOTOS for i in range(COUNTED_PHOTOS)})
    for index in indices[distributed.rank() :: distributed.world_size()]:
        with suppress(DataError):  # named while training
            scores, _ = scorer.scores(source.open(index).pixels())
            wins += torch.bincount(scores.argmax(dim=0).flatten(), minlength=number).cpu()
    wins = distributed.total(wins)
    return wins / wins.sum().clamp(min=1)
