"""Matchings of prototypes to classes, from their contingency table. NumPy and SciPy only.

``hungarian`` and ``merge`` are one-to-one, and their metrics compare with each other. ``majority`` is
many-to-one; its metrics compare only with those of over-clustering tables.

A matching is one int64 vector of shape ``(K,)``: the class of each prototype, or ``UNMATCHED``.
Letters: K prototypes, D their dimension, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.optimize import linear_sum_assignment

from slotseg.errors import ConfigError

UNMATCHED = -1
"""The class of a prototype that has none; its pixels count as errors."""


def hungarian(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Match one-to-one so that the most pixels are right.

    With K > C the surplus prototypes stay unmatched; with K < C some classes do. With K = C every prototype
    gets a class, even one that shares no pixel with it.

    Args:
        table: Pixel counts, shape ``(K, C)``.

    Returns:
        Class of each prototype or ``UNMATCHED``, shape ``(K,)``.
    """
    prototypes, classes = linear_sum_assignment(table, maximize=True)
    assignment = np.full(len(table), UNMATCHED, dtype=np.int64)
    assignment[prototypes] = classes
    return assignment


def majority(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each prototype its most frequent class, many-to-one. The lowest id wins a tie.

    Args:
        table: Pixel counts, shape ``(K, C)``.

    Returns:
        Class of each prototype, shape ``(K,)``; ``UNMATCHED`` for a prototype with no labelled pixel.
    """
    return np.where(table.any(axis=1), table.argmax(axis=1), UNMATCHED).astype(np.int64)


def merge(table: NDArray[np.int64], vectors: NDArray[np.floating[Any]] | None) -> NDArray[np.int64]:
    """Merge the prototypes to at most C groups without labels, then match the groups one-to-one.

    Groups are merged by the mean cosine similarity between their prototypes. Prototypes that win no pixel
    are left out, because they would use up groups.

    Args:
        table: Pixel counts, shape ``(K, C)``.
        vectors: The prototypes, shape ``(K, D)``.

    Returns:
        Class of each prototype or ``UNMATCHED``, shape ``(K,)``. Prototypes of one group share a class.

    Raises:
        ConfigError: If there are no vectors, as for masks.
    """
    if vectors is None:
        raise ConfigError("merge needs the prototypes themselves, which masks don't have: choose hungarian or majority")
    groups = group(vectors, table.sum(axis=1) > 0, table.shape[1])
    merged = np.zeros((groups.max(initial=0) + 1, table.shape[1]), dtype=np.int64)
    used = groups >= 0
    np.add.at(merged, groups[used], table[used])
    return np.where(used, hungarian(merged)[groups], UNMATCHED)


def group(vectors: NDArray[np.floating[Any]], used: NDArray[np.bool_], num_groups: int) -> NDArray[np.int64]:
    """Agglomerate vectors by average linkage of their cosine distances.

    Args:
        vectors: Vectors to group, shape ``(K, D)``.
        used: Whether each vector takes part, shape ``(K,)``.
        num_groups: Number of groups to stop at.

    Returns:
        Group of each vector, shape ``(K,)``; -1 for vectors that take no part.
    """
    groups = np.full(len(vectors), -1, dtype=np.int64)
    number = int(used.sum())
    if number <= num_groups:
        groups[used] = np.arange(number)
    else:
        tree = linkage(vectors[used].astype(np.float64), method="average", metric="cosine")
        groups[used] = cut_tree(tree, n_clusters=num_groups)[:, 0]
    return groups


MATCHINGS = ("hungarian", "merge", "majority")
"""Names of the matching modes."""


def match(table: NDArray[np.int64], mode: str, vectors: NDArray[np.floating[Any]] | None = None) -> NDArray[np.int64]:
    """Match prototypes to classes by the name of the mode.

    Args:
        table: Pixel counts, shape ``(K, C)``.
        mode: Name of the mode, one of ``MATCHINGS``.
        vectors: The prototypes, shape ``(K, D)``; only ``merge`` needs them.

    Returns:
        Class of each prototype or ``UNMATCHED``, shape ``(K,)``.

    Raises:
        ConfigError: If the mode is unknown, or ``merge`` has no vectors.
    """
    if mode not in MATCHINGS:
        raise ConfigError(f"unknown matching {mode!r}: choose one of {', '.join(MATCHINGS)}")
    if mode == "merge":
        return merge(table, vectors)
    return hungarian(table) if mode == "hungarian" else majority(table)
