"""Matchings of prototypes to classes, from their contingency table. NumPy and SciPy only.

A matching is one int64 vector of shape ``(K,)``: the class of each prototype, or ``UNMATCHED``.
Letters: K prototypes, C classes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from slotseg.errors import ConfigError

UNMATCHED = -1
"""The class of a prototype that has none; its pixels count as errors."""


def hungarian(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Match one-to-one so that the most pixels are right.

    With K > C the surplus prototypes stay unmatched, with K < C some classes do. A match may share no
    pixel: with K = C every prototype gets a class, the absent classes included.

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
    """Give each prototype its most frequent class, many-to-one; the lowest id wins a tie.

    Args:
        table: Pixel counts, shape ``(K, C)``.

    Returns:
        Class of each prototype, shape ``(K,)``; ``UNMATCHED`` for a prototype with no labelled pixel.
    """
    return np.where(table.any(axis=1), table.argmax(axis=1), UNMATCHED).astype(np.int64)


MATCHINGS: dict[str, Callable[[NDArray[np.int64]], NDArray[np.int64]]] = {
    "hungarian": hungarian,
    "majority": majority,
}
"""The matching modes that need the table alone."""


def match(table: NDArray[np.int64], mode: str) -> NDArray[np.int64]:
    """Match prototypes to classes by the name of the mode.

    Args:
        table: Pixel counts, shape ``(K, C)``.
        mode: A key of ``MATCHINGS``.

    Returns:
        Class of each prototype or ``UNMATCHED``, shape ``(K,)``.

    Raises:
        ConfigError: If the mode is unknown.
    """
    if mode not in MATCHINGS:
        raise ConfigError(f"unknown matching {mode!r}: choose one of {', '.join(MATCHINGS)}")
    return MATCHINGS[mode](table)
