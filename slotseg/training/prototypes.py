"""Prototypes before the first step and after the last: their start by k-means, and their merging. Both are ours.

A random projector blurs what a pretrained backbone tells apart. So it starts as a linear map: to axes that tell things
apart (``slotseg.training.slow_features``). Two hidden channels carry an axis, as gelu(x) - gelu(-x) = x
(after Balduzzi et al., "The Shattered Gradients Problem", ICML 2017, whose networks start linear in this way).
The prototypes start at the k-means centres of the features of whole photos that are projected so. After the last step
they are merged by how many cells of whole photos each wins: training views keep some in use that whole photos do not
need.
Letters: P prototypes, K concepts, C channels, D projection dimension, N cells, B images, h w feature cells.
"""

import copy
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.views.sources import Source
from slotseg.data.views.validity import parted
from slotseg.errors import ConfigError, DataError
from slotseg.method.model import Encoder
from slotseg.networks.backbones import Backbone, are_numbers
from slotseg.segmenting.clusters import cluster_centers
from slotseg.segmenting.looks import dense_maps
from slotseg.segmenting.scorer import Scorer
from slotseg.training.kept_photos import cells_of, read_scaled, scaled_validity, spread
from slotseg.training.learner import Learner
from slotseg.training.slow_features import Looked, slow_axes

log = logging.getLogger(__name__)

MAX_ITERATIONS = 50
CORNER = 0.75
"""Share of each side of a photo that is looked at again."""
COUNTED_PHOTOS = 100
"""Photos, spread over the source, whose cells are clustered and counted."""


@torch.no_grad()
def start_prototypes(learner: Learner, stopped: Callable[[], bool] = lambda: False) -> None:
    """Put the prototypes where the features of whole photos are, before anything is trained.

    Args:
        learner: The model, untrained.
        stopped: Function that says whether to leave it at that, the same in all processes. It is asked between photos.

    Raises:
        ConfigError: If there are more prototypes than cells, or the backbone's features are not finite.
    """
    config, source = learner.config, learner.source
    number, encoder = config.model.num_trained, copy.deepcopy(learner.model.teacher).eval()
    log.info("Clustering whole photos for %d prototypes", number)
    found, indices, processes = dict[int, Looked](), spread(len(source), COUNTED_PHOTOS), distributed.world_size()
    for first in range(0, len(indices), processes):
        if stopped():
            return
        place = first + distributed.rank()
        if place < len(indices):
            with suppress(DataError):  # training will name it
                found[place] = look_at(encoder, source.open(indices[place]), place, config, learner.device)
    every = {place: photo for of_process in distributed.gather_objects(found) for place, photo in of_process.items()}
    if not every:
        return  # training will say that no photo can be read

    def start() -> tuple[dict[str, Tensor], Tensor, Tensor]:
        photos = [every[place] for place in sorted(every)]
        cells = torch.cat([photo.counted for photo in photos])
        if len(cells) < number:
            raise ConfigError(
                f"the photos have {len(cells)} cells for {number} prototypes; "
                "expected at least as many: choose fewer prototypes or more photos"
            )
        if not all(are_numbers(features) for photo in photos for features in photo[:3]):
            raise ConfigError(
                "features of the backbone are no numbers (NaN or infinite) or too large; expected numbers: "
                "its weights are damaged, start from others with --init"
            )
        axes = slow_axes(photos, min(config.model.hidden_dim // 2, config.model.projection_dim))
        projector = linear_projector(encoder.projector, cells, axes)
        directions = F.normalize(projector(cells[:, :, None, None])[:, :, 0, 0], dim=1)
        return projector.state_dict(), *kmeans_prototypes(directions, number, learner.config.seed)

    learner.model.start_from(*distributed.once(start))


def look_at(encoder: Encoder, photo: Photo, number: int, config: TrainConfig, device: torch.device) -> Looked:
    """Features of the cells that a whole photo covers, and of those of a mirrored corner of it, float32 on the CPU.

    Args:
        encoder: Encoder with the backbone.
        photo: Photo to look at.
        number: Number of the photo; each four in a row have another corner.
        config: Settings of the run.
        device: Device of the encoder.

    Raises:
        DataError: If the photo cannot be decoded, or none of its cells is valid.
    """
    backbone = encoder.backbone
    assert isinstance(backbone, Backbone)
    pixels, valid = read_scaled(photo, config, device)
    maps, covered = dense_maps(backbone, pixels, config.backbone, backbone.stride)
    cells = maps[0, :, : max(1, int(covered[0])), : max(1, int(covered[1]))].float().cpu()
    (top, bottom), (left, right) = (
        _part(side, at_end=bool(number & bit)) for side, bit in zip(cells.shape[1:], (1, 2), strict=True)
    )
    stride = backbone.stride
    corner = pixels[:, :, stride * top : stride * bottom, stride * left : stride * right].flip(3)
    again = dense_maps(backbone, corner, config.backbone, stride)[0][0].flip(2).float().cpu()
    looked = Looked(cells, cells[:, top:bottom, left:right], again)
    if valid is None:
        return looked
    shown = cells_of(valid, stride)[: cells.shape[1], : cells.shape[2]].cpu()
    return looked._replace(valid=shown, some_valid=shown[top:bottom, left:right])


def _part(length: int, *, at_end: bool) -> tuple[int, int]:
    """Start and end of ``CORNER`` of an axis of cells."""
    part = max(1, round(CORNER * length))
    return (length - part, length) if at_end else (0, part)


@torch.no_grad()
def linear_projector(projector: nn.Module, cells: Tensor, axes: Tensor) -> nn.Module:
    """A copy of a projector that is linear: it projects features, less their mean, to some axes.

    Args:
        projector: Projector to ``(B, D, h, w)``, as ``slotseg.method.heads`` builds it; it is left as it is.
        cells: Features, ``(N, C)``, on the CPU, whose statistics it is to know.
        axes: Axes, ``(number, C)``, at most half as many as there are hidden channels, and at most D.
    """
    linear = copy.deepcopy(projector).cpu().train()
    first, norm, _, second, other_norm, _, last = cast(Any, linear)
    number = len(axes)
    difference = torch.eye(number).repeat(1, 2)
    difference[:, number:] *= -1
    first.weight[: 2 * number, :, 0, 0] = torch.cat([axes, -axes])
    second.weight[: 2 * number] = 0
    second.weight[: 2 * number, : 2 * number, 0, 0] = torch.cat([difference, -difference])
    last.weight.zero_()
    last.weight[:number, : 2 * number, 0, 0] = (cells @ axes.T).std(dim=0)[:, None] * difference
    momentum = norm.momentum
    norm.momentum = other_norm.momentum = 1.0  # one pass makes the statistics those of the cells
    linear(cells[:, :, None, None])
    norm.momentum = other_norm.momentum = momentum
    return linear


def kmeans_prototypes(directions: Tensor, num_prototypes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Prototypes at the centres of clusters, and the centre of their scores.

    Args:
        directions: Unit vectors, ``(N, D)``.
        num_prototypes: P, at most N.
        seed: Seed of k-means.

    Returns:
        Prototypes ``(P, D)``, as long as random ones are on average, and mean scores ``(P,)``.
    """
    mean = directions.mean(dim=0)
    spread_out = (directions - mean).numpy()
    found = cluster_centers(spread_out, num_prototypes, seed=seed % 2**32, iterations=MAX_ITERATIONS)
    centers = F.normalize(torch.from_numpy(found), dim=1)
    return centers * directions.shape[1] ** 0.5, centers @ mean


def merge_by_use(learner: Learner) -> None:
    """Merge the prototypes for good, where the model is to be merged, by how many cells of whole photos each wins."""
    teacher, config = learner.model.teacher, learner.config
    if teacher.confusion is not None:
        merge(teacher, count_wins(teacher, config, learner.source, learner.device), config)


def merge(teacher: Encoder, wins: Tensor, config: TrainConfig) -> None:
    """Merge the prototypes, where the model is to be merged, by the share of the cells that each wins, ``(P,)``."""
    if teacher.confusion is not None:
        teacher.confusion.wins.copy_(wins)
        teacher.merge(config.model.num_prototypes)


def count_wins(encoder: Encoder, config: TrainConfig, source: Source, device: torch.device) -> Tensor:
    """Share of the cells of whole photos that each prototype wins, ``(P,)``, on the CPU. Processes share the photos."""
    encoder = copy.deepcopy(encoder)  # the one in training stays in training
    assert encoder.concepts is not None
    number = len(encoder.concepts)
    encoder.concepts.copy_(torch.arange(number))  # each on its own
    scorer = Scorer(encoder, config, device=str(device))
    wins = torch.zeros(number)
    for index in spread(len(source), COUNTED_PHOTOS)[distributed.rank() :: distributed.world_size()]:
        with suppress(DataError):  # training has named it
            image, valid = parted(source.open(index).pixels())
            scores, _ = scorer.scores(image)
            best = scores.argmax(dim=0)
            if valid is not None:
                finest = scorer.looks.sizes((image.shape[0], image.shape[1]), scorer.size)[0]
                best = best[cells_of(scaled_validity(valid, finest, device), scorer.stride)]
            wins += torch.bincount(best.flatten(), minlength=number).cpu()
    wins = distributed.total(wins)
    return wins / wins.sum().clamp(min=1)
