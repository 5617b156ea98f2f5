"""The prototype x class table that all metrics are computed from.

The table holds sums only, so it merges exactly over images, batches and processes. The division comes once,
in ``metrics``. Letters: K prototypes, C classes, H W pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.errors import ConfigError, DataError

UNASSIGNED = 65_535
"""Id, in a prototype map, of a pixel without a prototype. It is never matched, so it counts as an error."""


def contingency_table(
    prototype_map: NDArray[np.integer[Any]],
    class_map: NDArray[np.integer[Any]],
    num_prototypes: int | None,
    num_classes: int,
    ignore_index: int = 255,
) -> NDArray[np.int64]:
    """Count how often each prototype meets each class.

    Args:
        prototype_map: Prototype of each pixel, shape ``(H, W)``, integers in 0..K-1 or ``UNASSIGNED``.
        class_map: True class of each pixel, shape ``(H, W)``, integers in 0..C-1 or ``ignore_index``.
        num_prototypes: Number of prototypes, K; None takes the largest id in the map as K-1.
        num_classes: Number of classes, C.
        ignore_index: Class id of void pixels. They are dropped before anything is counted or checked.

    Returns:
        Pixel counts, shape ``(K + 1, C)``. The last row holds the unassigned pixels.

    Raises:
        DataError: If the maps differ in size, are not integers, or hold an id out of range.
    """
    if prototype_map.shape != class_map.shape:
        raise DataError(
            f"the prototype map has shape {prototype_map.shape}, the class map {class_map.shape}: "
            "resize the prototype map's scores to the size of the class map"
        )
    labelled = class_map != ignore_index
    prototypes, classes = prototype_map[labelled], class_map[labelled]
    _check_integers(prototypes, "prototype")
    _check_integers(classes, "class")
    assigned = prototypes != UNASSIGNED
    known = prototypes if assigned.all() else prototypes[assigned]
    if num_prototypes is None:
        num_prototypes = int(known.max()) + 1 if known.size else 0
    _check_ids(known, num_prototypes, "prototype", "use as many prototypes as the model has")
    _check_ids(classes, num_classes, "class", f"map it to one of the {num_classes} classes or to {ignore_index}")
    rows = np.where(assigned, prototypes, num_prototypes).astype(np.int64)
    counts = np.bincount(rows * num_classes + classes, minlength=(num_prototypes + 1) * num_classes)
    return counts.reshape(num_prototypes + 1, num_classes).astype(np.int64, copy=False)


class Contingency:
    """Prototype x class pixel counts, summed over images.

    Args:
        num_prototypes: Number of prototypes, K; None lets the table grow to the largest id that occurs.
        num_classes: Number of classes, C.
        ignore_index: Class id of void pixels.

    Attributes:
        table: Pixel counts so far, shape ``(K, C)``, int64.
        unassigned: Pixel counts without a prototype, shape ``(C,)``, int64.
    """

    table: NDArray[np.int64]
    unassigned: NDArray[np.int64]

    def __init__(self, num_prototypes: int | None, num_classes: int, ignore_index: int = 255) -> None:
        if (num_prototypes is not None and num_prototypes < 1) or num_classes < 1:
            raise ConfigError(
                f"cannot count {num_prototypes} prototypes x {num_classes} classes: give 1 or more of each"
            )
        self.num_prototypes = num_prototypes
        self.ignore_index = ignore_index
        self.table = np.zeros((num_prototypes or 0, num_classes), dtype=np.int64)
        self.unassigned = np.zeros(num_classes, dtype=np.int64)

    def update(self, prototype_map: NDArray[np.integer[Any]], class_map: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Add the pixels of an image, and return its own counts as ``contingency_table`` does."""
        counts = contingency_table(
            prototype_map, class_map, self.num_prototypes, len(self.unassigned), self.ignore_index
        )
        self._add(counts[:-1], counts[-1])
        return counts

    def merge(self, other: "Contingency") -> None:
        """Add the counts of another part of the set.

        Raises:
            DataError: If the other table has another number of prototypes or classes.
        """
        if (other.num_prototypes, len(other.unassigned)) != (self.num_prototypes, len(self.unassigned)):
            raise DataError(
                f"cannot merge a table of shape {other.table.shape} into one of {self.table.shape}: "
                "count both parts with the same prototypes and classes"
            )
        self._add(other.table, other.unassigned)

    def _add(self, table: NDArray[np.int64], unassigned: NDArray[np.int64]) -> None:
        if len(table) > len(self.table):
            self.table = np.pad(self.table, ((0, len(table) - len(self.table)), (0, 0)))
        self.table[: len(table)] += table
        self.unassigned += unassigned


@dataclass(frozen=True)
class ImageCounts:
    """Table of one image, as the list of its non-zero entries."""

    index: int
    """Index of the image in its set."""
    prototypes: NDArray[np.int64]
    """Row of each entry, the prototype."""
    classes: NDArray[np.int64]
    """Column of each entry, the class."""
    counts: NDArray[np.int64]
    """Number of pixels of each entry."""

    @classmethod
    def of(cls, index: int, table: NDArray[np.int64]) -> "ImageCounts":
        """Keep the non-zero entries of a table ``(K + 1, C)``."""
        rows, columns = table.nonzero()
        return cls(index, rows, columns, table[rows, columns])

    def accuracy(self, assignment: NDArray[np.int64]) -> float:
        """Pixel accuracy, 0..1, under a match ``(K,)``. Rows beyond the match are errors."""
        known = self.prototypes < len(assignment)
        right = known & (assignment[np.where(known, self.prototypes, 0)] == self.classes)
        return float(self.counts[right].sum() / self.counts.sum())


def _check_integers(ids: NDArray[Any], name: str) -> None:
    if not np.issubdtype(ids.dtype, np.integer):
        raise DataError(f"the {name} map holds {ids.dtype} values; expected integer ids")


def _check_ids(ids: NDArray[np.integer[Any]], count: int, name: str, advice: str) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        unknown = ids[(ids < 0) | (ids >= count)][0]
        raise DataError(f"the {name} map holds the id {unknown}; expected 0..{count - 1}: {advice}")
