"""A result with all that it depends on, as JSON for machines and as a citable line.

Fractions are 0..1 in JSON and per cent in the line. Letters: K prototypes, C classes.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import slotseg
from slotseg.amounts import percent_number
from slotseg.data.labelled.taxonomy import Taxonomy
from slotseg.eval.contingency import ImageCounts
from slotseg.eval.matching import UNMATCHED, majority
from slotseg.eval.metrics import Metrics, score
from slotseg.labels.label_map import NAMED

MATCHED_ON_SCORED = "the scored images"
"""What a result says of a match that was found on no other split."""


@dataclass(frozen=True, kw_only=True)
class PredictorInfo:
    """What was scored, as far as its numbers depend on it."""

    name: str
    """For people."""
    checkpoint: str | None = None
    """Start of the checkpoint's SHA-256."""
    network_size: int | None = None
    """Short side, in pixels, at which the network sees the prepared photo; None: its own, if there is a network."""
    tile: int | None = None
    """Side, in pixels of what the network sees, of tiles where the photo was larger; None: seen whole up to 4 M."""
    precision: str = "fp32"
    """Of the network."""
    augmentation: str = "none"
    """Test-time augmentation."""
    postprocessing: str = "none"
    """What was done to the prototype map."""
    seed: int | None = None
    """Of what is random, if anything is."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Everything a score depends on beside the predictor's weights."""

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
    """Whether that is the published list; None where there is none to compare with."""
    label_set: str
    """The classes."""
    labels: str
    """Files that the label maps came from."""
    num_images: int
    """Images scored."""
    num_labelled_pixels: int
    """Pixels counted; void is not."""
    num_prototypes: int
    """K."""
    num_classes: int
    """C."""
    resolution: str
    """Size at which pixels are compared."""
    crop: str
    """Part of the image that is scored."""
    void: str
    """What became of pixels without a class."""
    matching: str
    """``hungarian`` or ``merge`` (one-to-one, surplus as errors), ``majority`` (many-to-one), or ``names``."""
    matched_on: str
    """Where the matching was found: the scored images, a split, or nothing where a person named the prototypes."""
    predictor: PredictorInfo
    """What was scored."""
    limit: int | None = None
    """Only the first so many images were asked for."""
    version: str = slotseg.__version__
    """Version of slotseg."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of a set, with the table and matching they came from."""

    metrics: Metrics
    """Fractions 0..1."""
    things: Metrics | None
    """Among the things alone; None where the set has none."""
    stuff: Metrics | None
    """Among stuff alone."""
    protocol: Provenance
    """What they depend on."""
    taxonomy: Taxonomy
    """The classes."""
    assignment: NDArray[np.int64]
    """Class of each row of the table, -1 for none, ``(K,)``."""
    table: NDArray[np.int64]
    """Pixel counts, ``(K, C)``; where masks leave pixels without an id, a last row more holds those."""
    unknown_names: tuple[str, ...] = ()
    """Names that a person gave and that are no class; their pixels are errors."""
    skipped: tuple[str, ...] = ()
    """Messages of photos that could not be read."""
    images: tuple[ImageCounts, ...] = field(default=(), repr=False)
    """Counts of single images, if they were to be remembered."""

    @property
    def ceiling(self) -> Metrics | None:
        """What perfect naming of these prototypes could reach: each has its most frequent class of the scored images.

        No other classes make more pixels right. None where this is how they were matched.
        """
        if (self.protocol.matching, self.protocol.matched_on) == ("majority", MATCHED_ON_SCORED):
            return None
        assignment = majority(self.table)
        assignment[self.protocol.num_prototypes :] = UNMATCHED
        return score(self.table, assignment)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; the top-level keys are stable."""
        return {
            "miou": self.metrics.miou,
            "pixel_accuracy": self.metrics.pixel_accuracy,
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
    """One line that says the score and everything a reader needs to compare it with another."""
    p, metrics = result.protocol, result.metrics
    where = [f"{p.dataset} {p.split}"]
    if p.image_list != "all":
        known = {True: ", the published list", False: ", not the published list", None: ""}[p.image_list_published]
        where.append(f"{p.image_list} list {p.image_list_sha256[:8]}{known}")
    where.append(f"{p.num_images:,} images" + (f", the first {p.limit}" if p.limit else ""))
    classes = "1 class" if p.num_classes == 1 else f"{p.num_classes} classes"
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
