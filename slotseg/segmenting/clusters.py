"""K-means, with a word of ours where there are fewer different vectors than clusters."""

import logging
import warnings

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)


def cluster_centers(
    vectors: NDArray[np.float32], number: int, *, seed: int, starts: int = 1, iterations: int = 300
) -> NDArray[np.float32]:
    """Centres of clusters.

    Args:
        vectors: Vectors, ``(N, D)``, at least as many as clusters.
        number: Number of clusters, K.
        seed: Seed of the starts.
        starts: Number of starts, of which the best is taken.
        iterations: Most iterations of each.

    Returns:
        Centres ``(K, D)``. Where fewer vectors differ, some are equal, which is logged.
    """
    from sklearn.cluster import KMeans  # takes seconds to load, and most commands need none of it
    from sklearn.exceptions import ConvergenceWarning

    kmeans = KMeans(number, n_init=starts, max_iter=iterations, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said below
        kmeans.fit(vectors)
    used = len(np.unique(kmeans.labels_))
    if used < number:
        log.warning("Only %d of %d clusters differ: the photos show little, such as black or one grey", used, number)
    centers: NDArray[np.float32] = kmeans.cluster_centers_
    return centers
