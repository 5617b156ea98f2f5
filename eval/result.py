"""The result of an evaluation with everything it depends on, as JSON for machines and as a line to cite.

Fractions are 0..1 in JSON and per cent in the line. Letters: K prototypes, C classes.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import slotseg
from slotseg.amounts import count, percent_number
from slotseg.data.labelled.taxonomy import Taxonomy
from slotseg.eval.contingency import ImageCounts
from slotseg.eval.matching import UNMATCHED, majority
from slotseg.eval.metrics import Metrics, score
from slotseg.labels.label_map import NAMED

MATCHED_ON_SCORED = "the scored images"
"""Value of ``Provenance.matched_on`` if the match was found on the scored images themselves."""


@dataclass(frozen=True, kw_only=True)
class PredictorInfo:
    """Description of a predictor, with all settings that change the metrics."""

    name: str
    """Name for people."""
    checkpoint: str | None = None
    """Start of the checkpoint's SHA-256."""
    network_size: int | None = None
    """Short side, in pixels, to which the prepared photo is scaled for the network; None if it is not scaled."""
    tile: int | None = None
    """Side of the tiles of larger photos, in pixels that the network sees; None: whole photos up to 4 M pixels."""
    precision: str = "fp32"
    """Number format of the network."""
    augmentation: str = "none"
    """Test-time augmentation."""
    postprocessing: str = "none"
    """Post-processing of the prototype map."""
    seed: int | None = None
    """Random seed; None if nothing is random."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Everything that the metrics depend on beside the predictor's weights."""

    dataset: str
    """Name of the labelled set."""
    protocol: str
    """Name of the protocol."""
    split: str
    """Part of the set that was scored."""
    image_list: str
    """``all``, ``curated``, or the file that named the photos."""
    image_list_sha256: str
    """SHA-256 of the photos' keys, one a line, in the order of scoring."""
    image_list_published: bool | None
    """Whether the list is the published one; None if none was published."""
    label_set: str
    """Name of the label set."""
    labels: str
    """Files of the label maps."""
    num_images: int
    """Number of images scored."""
    num_labelled_pixels: int
    """Number of pixels counted, without void ones."""
    num_void_pixels: int = 0
    """Number of pixels without a class, which are not counted."""
    num_prototypes: int
    """Number of prototypes, K."""
    num_classes: int
    """Number of classes, C."""
    resolution: str
    """Size at which pixels are compared."""
    crop: str
    """Part of the image that is scored."""
    void: str
    """Treatment of pixels without a class."""
    matching: str
    """``hungarian`` or ``merge`` (one-to-one, surplus as errors), ``majority`` (many-to-one), or ``names``."""
    matched_on: str
    """Images that gave the matching: the scored ones, those of a split, or none if a person named the prototypes."""
    predictor: PredictorInfo
    """Description of the predictor that was scored."""
    limit: int | None = None
    """Number of images, from the first on, to which the evaluation was limited; None: no limit."""
    version: str = slotseg.__version__
    """Version of slotseg."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Metrics of a set, with the table and the matching they come from."""

    metrics: Metrics
    """Metrics over all classes."""
    things: Metrics | None
    """Metrics among things alone; None if the set has none."""
    stuff: Metrics | None
    """Metrics among stuff alone; None if the set has none."""
    protocol: Provenance
    """Everything that the metrics depend on."""
    taxonomy: Taxonomy
    """Label set, with the classes."""
    assignment: NDArray[np.int64]
    """Class of each row of the table, shape ``(K,)``; -1 for none."""
    table: NDArray[np.int64]
    """Pixel counts, shape ``(K, C)``, with one more row if masks have pixels without an id."""
    unknown_names: tuple[str, ...] = ()
    """Names from a person that match no class; their pixels are errors."""
    skipped: tuple[str, ...] = ()
    """Messages of photos that could not be read."""
    images: tuple[ImageCounts, ...] = field(default=(), repr=False)
    """Counts of single images; empty unless they were asked for."""

    @property
    def in_truth(self) -> NDArray[np.bool_]:
        """Whether each class occurs in the ground truth, shape ``(C,)``."""
        occurs: NDArray[np.bool_] = np.asarray(self.table.any(axis=0), np.bool_)
        return occurs

    @property
    def miou_in_truth(self) -> float:
        """Mean IoU over the classes that occur in the ground truth."""
        return float(np.mean([self.metrics.iou_per_class[c] for c in np.flatnonzero(self.in_truth)]))

    @property
    def ceiling(self) -> Metrics | None:
        """Metrics with perfect naming: each prototype has its most frequent class in the scored images.

        No other naming makes more pixels right. None if the prototypes were matched this way already.
        """
        if (self.protocol.matching, self.protocol.matched_on) == ("majority", MATCHED_ON_SCORED):
            return None
        assignment = majority(self.table)
        assignment[self.protocol.num_prototypes :] = UNMATCHED
        return score(self.table, assignment)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON. The top-level keys are stable."""
        return {
            "miou": self.metrics.miou,
            "pixel_accuracy": self.metrics.pixel_accuracy,
            "classes_in_truth": int(self.in_truth.sum()),
            "miou_in_truth": self.miou_in_truth,
            "ceiling": _pair(self.ceiling),
            "things": _pair(self.things),
            "stuff": _pair(self.stuff),
            "iou_per_class": dict(zip(self.taxonomy.names, self.metrics.iou_per_class, strict=True)),
            "citation": citation(self),
            "protocol": asdict(self.protocol),
            "assignment": self.assignment.tolist(),
            "table": self.table.tolist(),
            "unknown_names": list(self.unknown_names),
            "skipped": list(self.skipped),
        }


def citation(result: Result) -> str:
    """One line with the metrics and everything that a reader needs to compare them with others."""
    p, metrics = result.protocol, result.metrics
    where = [f"{p.dataset} {p.split}"]
    if p.image_list != "all":
        known = {True: ", the published list", False: ", not the published list", None: ""}[p.image_list_published]
        where.append(f"{p.image_list} list {p.image_list_sha256[:8]}{known}")
    where.append(f"{p.num_images:,} images" + (f", the first {p.limit}" if p.limit else ""))
    true, classes = int(result.in_truth.sum()), count(p.num_classes, "class")
    classes += f", {true} of them in the ground truth" if true < p.num_classes else ""
    size = "native resolution" if p.resolution.startswith("as ") else p.resolution
    how = [
        size if p.crop == "none" else f"{size}, {p.crop}",
        f"K = {p.num_prototypes}, {classes}",
    ]
    how.append("named by a person" if p.matching == NAMED else f"{p.matching} matching on {p.matched_on}")
    who = p.predictor
    extras = {"augmentation": who.augmentation, "post-processing": who.postprocessing}
    how.extend(f"{what}: {value}" for what, value in extras.items())
    name = who.name + (f" {who.checkpoint[:8]}" if who.checkpoint else "")
    return (
        f"{name}: {percent_number(metrics.miou, 2)} mIoU, {percent_number(metrics.pixel_accuracy, 2)} pixel accuracy "
        f"({'; '.join([*where, *how])}; slotseg {p.version})"
    )


def _pair(metrics: Metrics | None) -> dict[str, float] | None:
    return None if metrics is None else {"miou": metrics.miou, "pixel_accuracy": metrics.pixel_accuracy}
