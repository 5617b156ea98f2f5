"""The prototype x class table that every score is computed from.

A table of sums: it merges exactly over images, batches and processes, and the division comes once,
in ``metrics``. Letters: K prototypes, C classes, H W pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.errors import ConfigError, DataError


def contingency_table(
    prototype_map: NDArray[np.integer[Any]],
    class_map: NDArray[np.integer[Any]],
    num_prototypes: int,
    num_classes: int,
    ignore_index: int = 255,
) -> NDArray[np.int64]:
    """Count how often each prototype meets each class.

    Args:
        prototype_map: Prototype of each pixel, shape ``(H, W)``, integers in 0..K-1.
        class_map: True class of each pixel, shape ``(H, W)``, integers in 0..C-1 or ``ignore_index``.
        num_prototypes: K.
        num_classes: C.
        ignore_index: The class id of void pixels; they are dropped before anything is counted or checked.

    Returns:
        Pixel counts, shape ``(K, C)``.

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
    _check_ids(prototypes, num_prototypes, "prototype", "use as many prototypes as the model has")
    _check_ids(
        classes,
        num_classes,
        "class",
        f"map it to one of the {num_classes} classes or to void ({ignore_index})",
    )
    codes = prototypes.astype(np.int64) * num_classes + classes.astype(np.int64)
    counts = np.bincount(codes, minlength=num_prototypes * num_classes)
    return counts.reshape(num_prototypes, num_classes).astype(np.int64, copy=False)


class Contingency:
    """Prototype x class pixel counts, summed over images.

    Attributes:
        table: The counts so far, shape ``(K, C)``, int64.
    """

    table: NDArray[np.int64]

    def __init__(self, num_prototypes: int, num_classes: int, ignore_index: int = 255) -> None:
        if num_prototypes < 1 or num_classes < 1:
            raise ConfigError(
                f"cannot count {num_prototypes} prototypes x {num_classes} classes: give 1 or more of each"
            )
        self.num_prototypes = num_prototypes
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.table = np.zeros((num_prototypes, num_classes), dtype=np.int64)

    def update(self, prototype_map: NDArray[np.integer[Any]], class_map: NDArray[np.integer[Any]]) -> None:
        """Add the pixels of an image; the arguments and errors are those of ``contingency_table``."""
        self.table += contingency_table(
            prototype_map, class_map, self.num_prototypes, self.num_classes, self.ignore_index
        )

    def merge(self, other: "Contingency") -> None:
        """Add the counts of another part of the set.

        Raises:
            DataError: If the other table has another number of prototypes or classes.
        """
        if other.table.shape != self.table.shape:
            raise DataError(
                f"cannot merge a table of shape {other.table.shape} into one of {self.table.shape}: "
                "count both parts with the same prototypes and classes"
            )
        self.table += other.table


def _check_ids(ids: NDArray[np.integer[Any]], count: int, name: str, advice: str) -> None:
    if not np.issubdtype(ids.dtype, np.integer):
        raise DataError(f"the {name} map holds {ids.dtype} values; expected integer ids 0..{count - 1}: {advice}")
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        unknown = ids[(ids < 0) | (ids >= count)][0]
        raise DataError(f"the {name} map holds the id {unknown}; expected 0..{count - 1}: {advice}")
