"""IoU per class, mIoU and pixel accuracy from one table and one matching.

Unmatched prototypes are never dropped. Their pixels are errors of the true class; without them, K > C
would inflate every metric. Letters: K prototypes, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slotseg.errors import DataError
from slotseg.eval.matching import UNMATCHED


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Metrics of a set, as fractions 0..1."""

    miou: float
    """Mean IoU over the classes that occur in ground truth or prediction."""
    pixel_accuracy: float
    """Share of right pixels among all labelled ones."""
    iou_per_class: tuple[float | None, ...]
    """IoU of each of the C classes, tp / (tp + fp + fn); None if the class occurs in neither."""


def confusion_matrix(table: NDArray[np.int64], assignment: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add up the prototypes of each class.

    Args:
        table: Pixel counts, shape ``(K, C)``.
        assignment: Class of each prototype or ``UNMATCHED``, shape ``(K,)``.

    Returns:
        Pixel counts, predicted class x true class, shape ``(C + 1, C)``. The last row holds the pixels
        of the unmatched prototypes.

    Raises:
        DataError: If the assignment does not fit the table.
    """
    num_prototypes, num_classes = table.shape
    if assignment.shape != (num_prototypes,):
        raise DataError(
            f"the assignment has shape {assignment.shape}, but the table has {num_prototypes} prototypes: "
            "use the assignment that was matched for this model"
        )
    if ((assignment < UNMATCHED) | (assignment >= num_classes)).any():
        raise DataError(
            f"the assignment has classes {assignment.min()}..{assignment.max()}; expected "
            f"0..{num_classes - 1} or {UNMATCHED}: use the assignment that was matched for these classes"
        )
    confusion = np.zeros((num_classes + 1, num_classes), dtype=np.int64)
    np.add.at(confusion, assignment, table)  # UNMATCHED is -1: the last row
    return confusion


def score_within(table: NDArray[np.int64], assignment: NDArray[np.int64], classes: Sequence[int]) -> Metrics | None:
    """Score some classes among themselves: things only, or stuff only.

    Rows and columns of the confusion matrix are restricted to these classes after matching. Pixels of other
    true classes are left out, and so are pixels that are taken for another class. Pixels of unmatched
    prototypes stay errors.

    Args:
        table: Pixel counts over the whole set, shape ``(K, C)``.
        assignment: Class of each prototype or ``UNMATCHED``, shape ``(K,)``.
        classes: Ids of the classes.

    Returns:
        Metrics, with an IoU for each of ``classes``; None if they have no pixel.
    """
    columns = list(classes)
    confusion = confusion_matrix(table, assignment)[[*columns, -1]][:, columns]
    return _metrics(confusion) if confusion.any() else None


def score(table: NDArray[np.int64], assignment: NDArray[np.int64]) -> Metrics:
    """Score a table under a matching.

    Args:
        table: Pixel counts over the whole set, shape ``(K, C)``.
        assignment: Class of each prototype or ``UNMATCHED``, shape ``(K,)``.

    Returns:
        Metrics. IoU comes from sums over the whole set, not from a mean over images.

    Raises:
        DataError: If the table is empty or the assignment does not fit it.
    """
    confusion = confusion_matrix(table, assignment)
    if not confusion.any():
        raise DataError("there is no labelled pixel to score: check the label maps and the ignore index")
    return _metrics(confusion)


def _metrics(confusion: NDArray[np.int64]) -> Metrics:
    right = confusion.diagonal()
    union = confusion[:-1].sum(axis=1) + confusion.sum(axis=0) - right
    iou = tuple(float(r / u) if u else None for r, u in zip(right, union, strict=True))
    present = [value for value in iou if value is not None]
    return Metrics(
        miou=float(np.mean(present)),
        pixel_accuracy=float(right.sum() / confusion.sum()),
        iou_per_class=iou,
    )
