"""Prototypes before the first step and after the last: their start by k-means, and their merging. Both are ours.

They start at the k-means centres of the projected features of some views. The features are centred first, because
those of a fresh projector have most of their direction in common. After the last step the prototypes are merged by how
many cells of whole photos each wins: training views keep some in use that whole photos do not need.
Letters: P prototypes, K concepts, D projection dimension, N cells, B images, h w feature cells.
"""

import copy
import logging
from collections.abc import Callable
from contextlib import suppress

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.data.views.sources import Source
from slotseg.errors import ConfigError, DataError
from slotseg.method.model import Encoder
from slotseg.segmenting.scorer import Scorer
from slotseg.training.learner import Learner

log = logging.getLogger(__name__)

INITIAL_STEPS = 30
"""Steps whose views are clustered for the first prototypes."""
EVERY = 3
"""Number of cells of which one is clustered."""
MAX_ITERATIONS = 50
COUNTED_PHOTOS = 100
"""Photos, spread over the source, whose cells are counted."""


@torch.no_grad()
def start_prototypes(learner: Learner, stopped: Callable[[], bool] = lambda: False) -> None:
    """Put the prototypes where the features of the first views are, before anything is trained.

    Args:
        learner: The model, untrained.
        stopped: Function that says whether to leave it at that; see ``Learner.batches``.

    Raises:
        ConfigError: If the views have fewer cells than there are prototypes.
    """
    number, teacher = learner.config.model.num_trained, learner.model.teacher
    log.info("Clustering the first views for %d prototypes", number)
    directions = []
    steps = min(INITIAL_STEPS, learner.kept.rounds.first_step(1) if learner.kept else learner.total_steps)
    for step, batch in enumerate(learner.batches(0, steps, stopped)):
        for view in learner.prepare(batch.to(learner.device), step):
            projections = teacher.projector(view if batch.mapped else teacher.backbone(view))
            directions.append(distributed.gather(sample_directions(projections)))
    if not directions:
        return  # stopped
    start = distributed.once(lambda: kmeans_prototypes(torch.cat(directions), number, learner.config.seed))
    learner.model.start_from(*start)


def sample_directions(projections: Tensor) -> Tensor:
    """Unit vectors of some of the cells, ``(B, D, h, w)`` -> ``(N, D)``, float32 on the CPU."""
    cells = projections.float().movedim(1, 3).flatten(0, 2)[::EVERY]
    return F.normalize(cells, dim=1).cpu()


def kmeans_prototypes(directions: Tensor, num_prototypes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Prototypes at the centres of clusters, and the centre of their scores.

    Args:
        directions: Unit vectors, ``(N, D)``.
        num_prototypes: P, at most N.
        seed: Seed of k-means.

    Returns:
        Prototypes ``(P, D)``, as long as random ones are on average, and mean scores ``(P,)``.

    Raises:
        ConfigError: If there are fewer vectors than prototypes.
    """
    if len(directions) < num_prototypes:
        raise ConfigError(
            f"the first views have {len(directions)} cells for {num_prototypes} prototypes; "
            "expected at least as many: choose fewer prototypes or a larger batch"
        )
    mean = directions.mean(dim=0)
    kmeans = KMeans(num_prototypes, n_init=1, max_iter=MAX_ITERATIONS, random_state=seed % 2**32)
    centers = torch.from_numpy(kmeans.fit((directions - mean).numpy()).cluster_centers_)
    centers = F.normalize(centers, dim=1)
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
        log.info("%d prototypes were merged to %d concepts", config.model.num_trained, teacher.num_concepts)


def count_wins(encoder: Encoder, config: TrainConfig, source: Source, device: torch.device) -> Tensor:
    """Share of the cells of whole photos that each prototype wins, ``(P,)``, on the CPU. Processes share the photos."""
    encoder = copy.deepcopy(encoder)  # the one in training stays in training
    assert encoder.concepts is not None
    number = len(encoder.concepts)
    encoder.concepts.copy_(torch.arange(number))  # each on its own
    scorer = Scorer(encoder, config, device=str(device))
    wins = torch.zeros(number)
    indices = sorted({i * len(source) // COUNTED_PHOTOS for i in range(COUNTED_PHOTOS)})
    for index in indices[distributed.rank() :: distributed.world_size()]:
        with suppress(DataError):  # training has named it
            scores, _ = scorer.scores(source.open(index).pixels())
            wins += torch.bincount(scores.argmax(dim=0).flatten(), minlength=number).cpu()
    wins = distributed.total(wins)
    return wins / wins.sum().clamp(min=1)
