"""Prototypes that start where the features are: k-means of the projected features of some views.

The features are centred first: those of a fresh projector have most of their direction in common.
Letters: K prototypes, D projection dimension, N cells, B images, h w feature cells.
"""

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

from slotseg.errors import ConfigError

EVERY = 3
"""One cell in so many is clustered."""
MAX_ITERATIONS = 50


def sample_directions(projections: Tensor) -> Tensor:
    """Unit vectors of some of the cells, ``(B, D, h, w)`` -> ``(N, D)``, float32 on the CPU."""
    cells = projections.float().movedim(1, 3).flatten(0, 2)[::EVERY]
    return F.normalize(cells, dim=1).cpu()


def kmeans_prototypes(directions: Tensor, num_prototypes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Prototypes at the centres of clusters, and the centre of their scores.

    Args:
        directions: Unit vectors, ``(N, D)``.
        num_prototypes: K, at most N.
        seed: Of k-means.

    Returns:
        Prototypes ``(K, D)``, as long as random ones are on average, and mean scores ``(K,)``.

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
