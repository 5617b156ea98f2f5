"""Regions that the classes cover in a class map, found in one pass over its runs.

A run is a stretch of pixels of one id, down the columns from left to right, as COCO counts them.
Letters: C classes, H W pixels, R runs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.errors import DataError
from slotseg.labels.label_map import LabelMap

BAND = 256
"""Rows over which confidences are summed at once."""

BoxXYWH = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """The pixels of one class in one photo, all its parts together."""

    class_id: int
    """Id of the class."""
    pixels: int
    """Number of pixels, 1 or more."""
    box_xywh: BoxXYWH
    """Smallest box around all parts."""
    starts: NDArray[np.int64]
    """First pixel of each run, ``(R,)``, ascending. Pixel ``x * H + y`` is column x, row y."""
    lengths: NDArray[np.int64]
    """Number of pixels of each run, ``(R,)``."""
    confidence: float | None
    """Mean confidence of the pixels, 0..1. None without a confidence map."""


def find_regions(
    class_map: NDArray[Any], labels: LabelMap, confidence: NDArray[np.uint8] | None = None, name: str = "the photo"
) -> list[Region]:
    """The regions of a class map by ascending class id. Ignored pixels and absent classes have none.

    Args:
        class_map: Ids ``(H, W)`` as from ``LabelMap.class_map``.
        labels: Label map: the ids of the classes, and the ignore id.
        confidence: Confidence ``(H, W)``, 255 for 1.
        name: Name of the photo, for messages.

    Raises:
        DataError: If the class map is empty or holds another id, or the confidence map has another shape.
    """
    if class_map.ndim != 2 or not class_map.size:
        raise DataError(f"the class map of {name} is of shape {class_map.shape}; expected height x width pixels")
    if confidence is not None and confidence.shape != class_map.shape:
        raise DataError(
            f"the confidence map of {name} is of shape {confidence.shape}; expected {class_map.shape} as its class map"
        )
    flat = class_map.ravel("F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], edges))
    lengths = np.diff(starts, append=flat.size)
    ids = flat[starts]
    order = np.argsort(ids, kind="stable")
    starts, lengths, ids = starts[order], lengths[order], ids[order]
    first = np.concatenate(([0], np.flatnonzero(ids[1:] != ids[:-1]) + 1))
    check_ids(ids[first], labels, name)
    pixels = np.add.reduceat(lengths, first)
    boxes = _boxes(starts, lengths, first, class_map.shape[0])
    means = _means(class_map, confidence)
    regions = []
    for i, (begin, end) in enumerate(zip(first, [*first[1:], ids.size], strict=True)):
        class_id = int(ids[begin])
        if class_id != labels.ignore:
            regions.append(
                Region(
                    class_id=class_id,
                    pixels=int(pixels[i]),
                    box_xywh=boxes[i],
                    starts=starts[begin:end],
                    lengths=lengths[begin:end],
                    confidence=None if means is None else float(means[class_id]),
                )
            )
    return regions


def check_ids(ids: NDArray[Any], labels: LabelMap, name: str) -> None:
    """Refuse ids that a label map does not have.

    Args:
        ids: Ids of any shape.
        labels: Label map.
        name: Name of the photo, for messages.

    Raises:
        DataError: If an id is neither that of a class nor the ignore id.
    """
    wrong = ids[(ids >= len(labels.names)) & (ids != labels.ignore)]
    if wrong.size:
        raise DataError(
            f"the class map of {name} holds id {wrong[0]}; expected 0 to {len(labels.names) - 1} or {labels.ignore}: "
            "take the label map it was painted with"
        )


def _boxes(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], first: NDArray[np.int64], height: int
) -> list[BoxXYWH]:
    """The box around each group of runs. A run that goes on in the next column spans the whole height."""
    last = starts + lengths - 1
    (left, top), (right, bottom) = np.divmod(starts, height), np.divmod(last, height)
    over = left != right
    top[over], bottom[over] = 0, height - 1
    lows = [np.minimum.reduceat(side, first).tolist() for side in (left, top)]
    highs = [np.maximum.reduceat(side, first).tolist() for side in (right, bottom)]
    return [(x0, y0, x1 - x0 + 1, y1 - y0 + 1) for x0, y0, x1, y1 in zip(*lows, *highs, strict=True)]


def _means(class_map: NDArray[Any], confidence: NDArray[np.uint8] | None) -> NDArray[np.float64] | None:
    """Mean confidence by id, 0..1. It takes a band of rows at a time, as ``bincount`` makes 64-bit copies."""
    if confidence is None:
        return None
    size = int(class_map.max()) + 1
    sums, counts = np.zeros(size), np.zeros(size, np.int64)
    for top in range(0, len(class_map), BAND):
        ids = class_map[top : top + BAND].ravel()
        sums += np.bincount(ids, confidence[top : top + BAND].ravel(), size)
        counts += np.bincount(ids, minlength=size)
    means: NDArray[np.float64] = sums / (255 * np.maximum(counts, 1))
    return means
