"""What a trained decoder makes of whole photos: the use of each prototype, and what two looks confuse. It is ours.

Each photo is looked at twice, the second time smaller and mirrored. The share of the points that i wins in one look and
j in the other takes the place of the confusion that training has counted in its views (``slotseg.method.merging``).
Letters: P prototypes, U of them in use, H W pixels, h w feature cells, p points along a cell's side.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from slotseg.config import TrainConfig
from slotseg.method.model import Encoder
from slotseg.segmenting.looks import default_size, dense_maps, resample, scaled, working_size
from slotseg.training.kept_photos import KeptPhoto, logits_of

SECOND_SIZE = 0.85
"""Size of the second look, relative to the first."""
LEAST = 1e-6
"""Weight of the confusion that training has counted, for pairs that no look confuses."""


@torch.no_grad()
def count_looks(teacher: Encoder, photos: Sequence[KeptPhoto], config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Count what the teacher's decoder assigns in two looks at each photo.

    Args:
        teacher: Encoder with a decoder and a confusion. It stays as it is.
        photos: Photos that were looked at once. Their missing points are not counted.
        config: Settings of the run.

    Returns:
        Share of the points that each prototype wins, ``(P,)``, and the confusion of each pair, symmetric, not negative,
        with a sum of 1, ``(P, P)``.
    """
    assert teacher.decoder is not None
    assert teacher.confusion is not None
    encoder = copy.deepcopy(teacher).eval()
    used = teacher.decoder.used
    number = len(used)
    wins, pairs = used.new_zeros(number, dtype=torch.float), used.new_zeros(number, number, dtype=torch.float)
    for photo in photos:
        logits = logits_of(teacher.decoder, photo, config.backbone)
        grid = (logits.shape[1], logits.shape[2])
        valid = photo.valid_at(grid)
        winners = F.one_hot(logits.argmax(dim=0)[valid], number).T.float()
        again = _second_look(encoder, photo, config, grid)
        others = F.one_hot(again.argmax(dim=0)[valid], number).T.float()
        wins += winners.sum(dim=1) / max(1, winners.shape[1])
        pairs += winners @ others.T / max(1, winners.shape[1])
    confusion = LEAST * _share(teacher.confusion.value)
    confusion[used[:, None], used] += _share(pairs + pairs.T)
    every = torch.zeros_like(teacher.confusion.wins)
    every[used] = _share(wins)
    return every, _share(confusion)


def _second_look(encoder: Encoder, photo: KeptPhoto, config: TrainConfig, grid: tuple[int, int]) -> Tensor:
    """Assignments ``(U, *grid)`` of the smaller and mirrored photo, at the places of the first look's points."""
    stride = photo.pixels.shape[1] // photo.cells[0]
    height, width, _ = photo.image.shape
    smaller = working_size((height, width), default_size(config), SECOND_SIZE)
    pixels = scaled([photo.image], smaller, photo.pixels.device).flip(3)
    assignments, covered = dense_maps(encoder.assignments, pixels, config.backbone, stride)
    its_covered = (encoder.points * height / stride, encoder.points * width / stride)
    return resample(assignments[0], covered, grid, its_covered, mirrored=True)


def _share(counts: Tensor) -> Tensor:
    return counts / counts.sum().clamp(min=LEAST)
