"""The loop that scores: one table over the whole set, one matching, one result.

Memory does not grow with the number of images. Letters: K prototypes, C classes, H W pixels.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from slotseg.data.labelled import LabelledDataset
from slotseg.errors import DataError, LabelError
from slotseg.eval.contingency import Contingency
from slotseg.eval.matching import UNMATCHED, match
from slotseg.eval.metrics import score
from slotseg.eval.report import Protocol, Result
from slotseg.labels import IGNORE, IGNORE_16, LabelMap

log = logging.getLogger(__name__)

Predictor = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""From an RGB image ``(H, W, 3)`` to its prototype map ``(H, W)``."""


def evaluate(
    predict: Predictor,
    num_prototypes: int,
    dataset: LabelledDataset,
    *,
    matching: str = "hungarian",
    limit: int | None = None,
    predictor: str = "",
    resolution: str = "the label map's",
) -> Result:
    """Score a predictor at the labels' own resolution.

    Args:
        predict: What is scored.
        num_prototypes: K, the ids it may give.
        dataset: Photos with ground truth.
        matching: A key of ``slotseg.eval.matching.MATCHINGS``.
        limit: Score the first so many images only.
        predictor: What the result calls the predictor, such as a checkpoint and its digest.
        resolution: At which size the predictor works, for the result.

    Returns:
        Scores with everything they depend on; photos that could not be read are listed in it.

    Raises:
        LabelError: If ground truth cannot be used.
        DataError: If no labelled pixel could be scored.
    """
    contingency = Contingency(num_prototypes, len(dataset.class_names), dataset.ignore_index)
    number = min(len(dataset), limit or len(dataset))
    skipped = []
    for index in tqdm(range(number), unit="image", desc="scoring", disable=None):
        try:
            labelled = dataset.read(index)
        except LabelError:
            raise
        except DataError as error:
            log.warning("Skipped: %s", error)
            skipped.append(str(error))
            continue
        prototype_map = predict(labelled.image)
        try:
            contingency.update(prototype_map, labelled.class_map)
        except DataError as error:
            raise LabelError(f"{labelled.name}: {error}") from error
    assignment = match(contingency.table, matching)
    return Result(
        scores=score(contingency.table, assignment),
        protocol=Protocol(
            dataset=dataset.name,
            num_images=number - len(skipped),
            num_labelled_pixels=int(contingency.table.sum()),
            num_prototypes=num_prototypes,
            num_classes=len(dataset.class_names),
            matching=matching,
            predictor=predictor,
            limit=limit,
            resolution=resolution,
        ),
        class_names=dataset.class_names,
        assignment=assignment,
        table=contingency.table,
        skipped=tuple(skipped),
    )


def label_map(result: Result, dataset: LabelledDataset) -> LabelMap:
    """The matching of a result as a label map; unmatched prototypes get the ignore id."""
    ignore = IGNORE if len(dataset.class_names) <= IGNORE else IGNORE_16
    return LabelMap(
        classes=tuple(ignore if c == UNMATCHED else int(c) for c in result.assignment),
        names=dataset.class_names,
        colors=dataset.colors,
        origin=result.protocol.matching,
        source=f"{dataset.name}, {result.protocol.num_images} images",
    )
