"""The page of a result: metrics, what they depend on, classes, pictures, confusions, prototypes.

The page is a single file that loads nothing. Python prepares plain values, and ``page.html`` lays them
out and escapes every name in them. Letters: K prototypes, C classes, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.amounts import percent_number
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.examples import Example, Share, best_and_worst, example, largest
from slotseg.eval.matching import UNMATCHED
from slotseg.eval.metrics import confusion_matrix
from slotseg.eval.predictors import Predictor
from slotseg.eval.report import ceiling_line, truth_line
from slotseg.eval.result import Result, citation
from slotseg.pages import render_page, write_page

SMALLEST_CELL = 0.005
"""Share of a true class from which a cell of the confusion matrix is drawn."""

Cell = tuple[int, int, float]
"""Cell of the confusion matrix: first column, number of columns, share of the true class (0 if too small to draw)."""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """Row of the table of classes."""

    id: int
    """Class id."""
    iou: float | None
    """IoU, 0..1; None if the class occurs in neither ground truth nor prediction."""
    share: float
    """Share of the labelled pixels, 0..1."""
    prototypes: tuple[int, ...]
    """Prototypes matched to the class."""


@dataclass(frozen=True, kw_only=True)
class PrototypeRow:
    """Row of the table of prototypes."""

    id: int | None
    """Prototype id; None for the row of pixels without an id."""
    label: int
    """Class id, or ``UNMATCHED``."""
    pixels: int
    """Number of labelled pixels of the prototype."""
    share: float
    """Share of all labelled pixels, 0..1."""
    purity: float | None
    """Share of the prototype's pixels that have its class; None without a class or a pixel."""
    top: tuple[Share, ...]
    """Most frequent true classes, with their shares of the prototype's pixels."""


def write_result_page(file: Path, result: Result, predictor: Predictor, benchmark: Benchmark) -> None:
    """Write a result as a self-contained HTML page, atomically.

    Args:
        file: Path of the page.
        result: Result to show. Without the counts of single images, the page has no pictures.
        predictor: Predictor that was scored; it predicts the images that are shown again.
        benchmark: Benchmark that was scored; these images are read from it again.

    Raises:
        DataError: If an image cannot be read again, or the page cannot be written.
    """
    best, worst = best_and_worst(result.images, result.assignment)
    shown = [[example(image, result, predictor, benchmark) for image in images] for images in (best, worst)]
    write_page(file, render(result, *shown), "choose another file for the page")


def render(result: Result, best: Sequence[Example] = (), worst: Sequence[Example] = ()) -> str:
    """The page's HTML, with pictures of the best and the worst images."""
    protocol = asdict(result.protocol)
    predictor = protocol.pop("predictor")
    return render_page(
        "slotseg.eval",
        "page.html",
        {"percent": percent_number},
        result=result,
        citation=citation(result),
        truth=truth_line(result),
        ceiling=ceiling_line(result),
        facts={"protocol": facts(protocol), "predictor": facts(predictor)},
        outcome=outcome(result),
        classes=class_rows(result),
        matrix=matrix_rows(result),
        smallest=SMALLEST_CELL,
        confusions=frequent_confusions(result),
        prototypes=prototype_rows(result),
        best=best,
        worst=worst,
    )


def facts(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value, for people, of each field of a ``Provenance`` or ``PredictorInfo`` that became a dictionary."""
    labels = {name: name.removeprefix("num_").replace("_", " ").replace("sha256", "SHA-256") for name in values}
    return [(labels[name], _text(name, value)) for name, value in values.items()]


def outcome(result: Result) -> dict[str, float]:
    """Shares of the labelled pixels that are right, of another class, and of no class; they add up to 1."""
    confusion = confusion_matrix(result.table, result.assignment)
    right, none = confusion.diagonal().sum(), confusion[-1].sum()
    counts = {"right": right, "wrong": confusion.sum() - right - none, "none": none}
    return {name: float(count / confusion.sum()) for name, count in counts.items()}


def class_rows(result: Result) -> list[ClassRow]:
    """Rows of all classes, the best first. Classes that occur nowhere come last."""
    shares = result.table.sum(axis=0) / result.table.sum()
    rows = [
        ClassRow(
            id=c, iou=iou, share=float(shares[c]), prototypes=tuple(np.flatnonzero(result.assignment == c).tolist())
        )
        for c, iou in enumerate(result.metrics.iou_per_class)
    ]
    return sorted(rows, key=lambda row: (row.iou is None, -(row.iou or 0), -row.share))


def matrix_rows(result: Result) -> list[list[Cell]]:
    """Confusion matrix: a row for each true class, a column for each predicted class, and one for no class."""
    confusion = confusion_matrix(result.table, result.assignment).T
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return [_cells(row) for row in shares]


def frequent_confusions(result: Result, number: int = 12) -> list[tuple[int, int, float, float]]:
    """True class, predicted class, share of the true class and of all pixels; the most pixels first."""
    confusion = confusion_matrix(result.table, result.assignment).T
    wrong = confusion[:, :-1] * (1 - np.eye(len(confusion), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[: min(number, np.count_nonzero(wrong))]
    pairs = [(int(i) // len(wrong), int(i) % len(wrong)) for i in order]
    return [
        (true, predicted, wrong[true, predicted] / confusion[true].sum(), wrong[true, predicted] / confusion.sum())
        for true, predicted in pairs
    ]


def prototype_rows(result: Result, top: int = 3) -> list[PrototypeRow]:
    """Rows of all prototypes, the largest first, each with its ``top`` true classes."""
    pixels, total = result.table.sum(axis=1), result.table.sum()
    rows = []
    for k in np.argsort(-pixels, kind="stable").tolist():
        label, shares = int(result.assignment[k]), result.table[k] / max(pixels[k], 1)
        rows.append(
            PrototypeRow(
                id=k if k < result.protocol.num_prototypes else None,
                label=label,
                pixels=int(pixels[k]),
                share=float(pixels[k] / total),
                purity=float(shares[label]) if label != UNMATCHED and pixels[k] else None,
                top=tuple(s for s in largest(dict(enumerate(shares.tolist())))[:top] if s[1] >= SMALLEST_CELL),
            )
        )
    return rows


def _cells(shares: NDArray[np.float64]) -> list[Cell]:
    """Cells of a row of the matrix. Neighbours that are too small to draw become one cell."""
    cells: list[Cell] = []
    for drawn, run in groupby(range(len(shares)), key=lambda column: bool(shares[column] >= SMALLEST_CELL)):
        columns = list(run)
        cells += [(c, 1, float(shares[c])) for c in columns] if drawn else [(columns[0], len(columns), 0.0)]
    return cells


def _text(name: str, value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:,}" if name.startswith("num_") else str(value)
