"""A result with its protocol: as JSON for machines, as a table for people.

Fractions are 0..1 in JSON and per cent in tables. Letters: K prototypes, C classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import slotseg
from slotseg.eval.metrics import Scores


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything a score depends on beside the predictor's weights."""

    dataset: str
    """Name of the labelled set."""
    num_images: int
    """Images scored."""
    num_labelled_pixels: int
    """Pixels counted; void is not."""
    num_prototypes: int
    """K."""
    num_classes: int
    """C."""
    matching: str
    """``hungarian`` (one-to-one, surplus prototypes as errors) or ``majority`` (many-to-one)."""
    matched_on: str = "the scored images"
    """Where the matching was found."""
    predictor: str = ""
    """What was scored."""
    resolution: str = "the label map's"
    """Size at which the predictor works; pixels are compared at the label map's own."""
    crop: str = "none"
    """Part of the image that is scored."""
    postprocessing: str = "none"
    """What was done to the predictor's output."""
    limit: int | None = None
    """Only the first so many images were asked for."""
    version: str = slotseg.__version__
    """Version of slotseg."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of a set, with the table and matching they came from."""

    scores: Scores
    """Fractions 0..1."""
    protocol: Protocol
    """What they depend on."""
    class_names: tuple[str, ...]
    """Length C."""
    assignment: NDArray[np.int64]
    """Class of each prototype, -1 for none, ``(K,)``."""
    table: NDArray[np.int64]
    """Pixel counts, ``(K, C)``."""
    skipped: tuple[str, ...] = ()
    """Messages of photos that could not be read."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; the top-level keys are stable."""
        return {
            "miou": self.scores.miou,
            "pixel_accuracy": self.scores.pixel_accuracy,
            "iou_per_class": dict(zip(self.class_names, self.scores.iou_per_class, strict=True)),
            "protocol": asdict(self.protocol),
            "assignment": self.assignment.tolist(),
            "table": self.table.tolist(),
            "skipped": list(self.skipped),
        }


def result_table(results: dict[str, Result]) -> str:
    """Per-class IoU, mIoU and pixel accuracy in per cent, a column for each named result.

    Raises:
        ValueError: If the results are of different classes or matchings, which share no table.
    """
    first = next(iter(results.values()))
    for result in results.values():
        if (result.class_names, result.protocol.matching) != (first.class_names, first.protocol.matching):
            raise ValueError("results of different classes or matchings do not belong in one table")
    rows = [["", *results]]
    for i, name in enumerate(first.class_names):
        rows.append([name, *(_percent(r.scores.iou_per_class[i]) for r in results.values())])
    rows.append([])
    rows.append(["mIoU", *(_percent(r.scores.miou) for r in results.values())])
    rows.append(["pixel accuracy", *(_percent(r.scores.pixel_accuracy) for r in results.values())])
    p = first.protocol
    prototypes = ", ".join(str(r.protocol.num_prototypes) for r in results.values())
    return (
        f"IoU in %, {p.matching} matching found on {p.matched_on}, {p.dataset}, "
        f"{p.num_images} images, K = {prototypes}\n\n{text_table(rows)}"
    )


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns, the first to the left and the others to the right; an empty row is a rule."""
    num_columns = max(len(row) for row in rows)
    widths = [max((len(row[i]) for row in rows if i < len(row)), default=0) for i in range(num_columns)]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=False))]
        lines.append("  ".join(cells) if row else "-" * (sum(widths) + 2 * (num_columns - 1)))
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
