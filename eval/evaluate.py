"""The loop that scores: one table over the whole set, one matching, one result.

Memory does not grow with the number of images. Several processes give exactly the table of one.
Letters: K prototypes, C classes, H W pixels.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from slotseg import distributed
from slotseg.data.labelled.labelled import LabelledDataset, LabelledImage
from slotseg.errors import DataError, LabelError, none_readable
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.contingency import Contingency, ImageCounts
from slotseg.eval.matching import UNMATCHED, match
from slotseg.eval.metrics import score, score_within
from slotseg.eval.named import NAMED_ON, assign_by_name
from slotseg.eval.predictors import Predictor
from slotseg.eval.result import MATCHED_ON_SCORED, Provenance, Result
from slotseg.labels.label_map import NAMED, LabelMap
from slotseg.labels.naming import Naming

log = logging.getLogger(__name__)

MAX_REMEMBERED = 8_192
"""Number of images whose own counts are kept: the best and worst of them can only be told once the match is known."""


@dataclass
class EvaluationCounts:
    """Counts of one pass over a set."""

    contingency: Contingency
    """Counts of all images together."""
    num_images: int = 0
    """Number of images counted."""
    num_void: int = 0
    """Number of void pixels, which no table holds."""
    skipped: list[str] = field(default_factory=list)
    """Messages of photos that could not be read."""
    images: list[ImageCounts] = field(default_factory=list)
    """Counts of single images, if they were asked for."""

    def merge(self, other: "EvaluationCounts") -> None:
        """Add the counts of another part of the set."""
        self.contingency.merge(other.contingency)
        self.num_images += other.num_images
        self.num_void += other.num_void
        self.skipped += other.skipped
        self.images += other.images

    @property
    def table(self) -> NDArray[np.int64]:
        """Counts ``(K, C)``; with unassigned pixels ``(K + 1, C)``, where the last row holds them."""
        rest = self.contingency.unassigned
        return np.vstack([self.contingency.table, rest]) if rest.any() else self.contingency.table


def evaluate(
    predictor: Predictor, benchmark: Benchmark, *, names: Naming | None = None, remember: bool = False
) -> Result:
    """Score a predictor.

    Args:
        predictor: Predictor to score.
        benchmark: Set to score on, and its protocol.
        names: A person's names for the prototypes. They give the classes, and nothing is matched.
        remember: Whether to keep the counts of each of the first ``MAX_REMEMBERED`` images in the result.

    Returns:
        Metrics with everything they depend on, and a list of the photos that could not be read.

    Raises:
        LabelError: If ground truth cannot be used.
        DataError: If no photo can be read, no labelled pixel could be scored, or the names are of another number of
            prototypes.
    """
    unknown = _say_unknown(names, predictor, benchmark) if names else ()
    counted = _count(predictor, benchmark, benchmark.dataset, remember)
    other = _count(predictor, benchmark, benchmark.match_on, False) if benchmark.match_on else None
    assignment = _match(predictor, benchmark, counted, other or counted, names)
    taxonomy = benchmark.dataset.taxonomy
    return Result(
        metrics=score(counted.table, assignment),
        things=score_within(counted.table, assignment, taxonomy.of_kind("thing")),
        stuff=score_within(counted.table, assignment, taxonomy.of_kind("stuff")),
        protocol=_provenance(predictor, benchmark, counted, named=names is not None),
        taxonomy=taxonomy,
        assignment=assignment,
        table=counted.table,
        unknown_names=unknown,
        skipped=tuple(counted.skipped),
        images=tuple(counted.images),
    )


def label_map(result: Result) -> LabelMap:
    """Turn the matching of a result into a label map. Unmatched prototypes get the ignore id."""
    taxonomy, p = result.taxonomy, result.protocol
    on_scored = p.matched_on == MATCHED_ON_SCORED
    return LabelMap(
        classes=tuple(taxonomy.ignore if c == UNMATCHED else int(c) for c in result.assignment),
        names=taxonomy.names,
        colors=taxonomy.colors,
        origin=p.matching,
        source=f"{p.dataset} {p.split}, {p.num_images} images" if on_scored else f"{p.dataset} {p.matched_on}",
    )


def _count(predictor: Predictor, benchmark: Benchmark, dataset: LabelledDataset, remember: bool) -> EvaluationCounts:
    """Count a set once. Each of n processes takes every n-th image, and all of them get the sum."""
    taxonomy = dataset.taxonomy
    counted = EvaluationCounts(Contingency(predictor.num_prototypes, len(taxonomy.classes), taxonomy.ignore))
    for index, labelled in _read(benchmark, dataset, counted.skipped):
        prototype_map = predictor(labelled)
        try:
            counts = counted.contingency.update(prototype_map, labelled.class_map)
        except DataError as error:
            raise LabelError(f"{labelled.key}: {error}") from error
        counted.num_images += 1
        counted.num_void += labelled.class_map.size - int(counts.sum())
        if remember and index < MAX_REMEMBERED and counts.any():
            counted.images.append(ImageCounts.of(index, counts))
    first, *others = distributed.gather_objects(counted)
    for part in others:
        first.merge(part)
    if first.skipped and not first.num_images:
        raise none_readable(len(first.skipped), first.skipped[0])
    return first


def _read(benchmark: Benchmark, dataset: LabelledDataset, skipped: list[str]) -> Iterator[tuple[int, LabelledImage]]:
    """Read and prepare the photos of this process. Unreadable ones are logged and left out."""
    indices = range(distributed.rank(), benchmark.size(dataset), distributed.world_size())
    for index in tqdm(indices, unit="image", desc=f"scoring {dataset.split}", disable=distributed.quiet()):
        try:
            labelled = dataset.read(index)
        except LabelError:
            raise
        except DataError as error:
            log.warning("Skipped: %s", error)
            skipped.append(str(error))
            continue
        yield index, benchmark.protocol.prepare(labelled)


def _match(
    predictor: Predictor,
    benchmark: Benchmark,
    counted: EvaluationCounts,
    found_on: EvaluationCounts,
    names: Naming | None,
) -> NDArray[np.int64]:
    """Class of each row of the scored table, by name or by matching. The row of unassigned pixels has none."""
    if names:
        found, _ = assign_by_name(names, len(counted.contingency.table), benchmark.dataset.taxonomy.names)
    else:
        found = match(found_on.contingency.table, benchmark.protocol.matching, predictor.vectors)
    number = min(len(found), len(counted.contingency.table))  # masks of two sets may differ in their largest id
    assignment = np.full(len(counted.table), UNMATCHED, dtype=np.int64)
    assignment[:number] = found[:number]
    return assignment


def _say_unknown(names: Naming, predictor: Predictor, benchmark: Benchmark) -> tuple[str, ...]:
    """Find the names that are no class of the set, and warn of them before the images are counted."""
    if predictor.num_prototypes is None:
        raise DataError(f"{names.where} names prototypes, and what is scored has none; expected a run")
    dataset = benchmark.dataset
    assignment, unknown = assign_by_name(names, predictor.num_prototypes, dataset.taxonomy.names)
    if unknown:
        log.warning(
            "%s has %s, no class of %s, whose pixels count as errors; its classes are %s.",
            names.where,
            ", ".join(unknown),
            dataset.name,
            ", ".join(dataset.taxonomy.names),
        )
    log.info("By name, %d of %d prototypes have a class.", (assignment != UNMATCHED).sum(), len(assignment))
    return unknown


def _provenance(predictor: Predictor, benchmark: Benchmark, counted: EvaluationCounts, *, named: bool) -> Provenance:
    dataset, protocol = benchmark.dataset, benchmark.protocol
    matched_on = benchmark.match_on.split if benchmark.match_on else MATCHED_ON_SCORED
    return Provenance(
        dataset=dataset.name,
        protocol=protocol.name,
        split=dataset.split,
        image_list=dataset.image_list.name,
        image_list_sha256=dataset.image_list.digest,
        image_list_published=dataset.image_list.published,
        label_set=dataset.taxonomy.name,
        labels=dataset.labels,
        num_images=counted.num_images,
        num_labelled_pixels=int(counted.table.sum()),
        num_void_pixels=counted.num_void,
        num_prototypes=len(counted.contingency.table),
        num_classes=len(dataset.taxonomy.classes),
        resolution=protocol.resolution,
        crop=protocol.cropping,
        void=protocol.void,
        matching=NAMED if named else protocol.matching,
        matched_on=NAMED_ON if named else matched_on,
        predictor=predictor.info,
        limit=benchmark.limit,
    )
