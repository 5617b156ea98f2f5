"""Results for people: as tables in per cent, and as sentences."""

from collections.abc import Sequence

from slotseg.amounts import count, percent, percent_number
from slotseg.eval.result import Result
from slotseg.labels.label_map import NAMED

MAX_ABSENT = 5
"""Number of classes up to which those are named that do not occur."""


def result_table(results: dict[str, Result]) -> str:
    """Table of IoU per class, mIoU and pixel accuracy in per cent, with a column for each named result.

    Raises:
        ValueError: If the results have different classes or matchings.
    """
    first = next(iter(results.values()))
    for result in results.values():
        if (result.taxonomy.names, result.protocol.matching) != (first.taxonomy.names, first.protocol.matching):
            raise ValueError("results of different classes or matchings do not belong in one table")
    rows = [["", *results]]
    for i, name in enumerate(first.taxonomy.names):
        rows.append([name, *(percent_number(r.metrics.iou_per_class[i]) for r in results.values())])
    rows.append([])
    rows.append(["mIoU", *(percent_number(r.metrics.miou) for r in results.values())])
    rows.append(["pixel accuracy", *(percent_number(r.metrics.pixel_accuracy) for r in results.values())])
    groups = {"things": [r.things for r in results.values()], "stuff": [r.stuff for r in results.values()]}
    for name, metrics in groups.items():
        if any(metrics):
            rows.append([f"{name} mIoU", *(percent_number(m.miou if m else None) for m in metrics)])
            rows.append([f"{name} accuracy", *(percent_number(m.pixel_accuracy if m else None) for m in metrics)])
    p = first.protocol
    prototypes = ", ".join(str(r.protocol.num_prototypes) for r in results.values())
    matching = "named by a person" if p.matching == NAMED else f"{p.matching} matching found on {p.matched_on}"
    return f"IoU in %, {matching}, {p.dataset}, {p.num_images} images, K = {prototypes}\n\n{text_table(rows)}"


def ceiling_line(result: Result) -> str:
    """Sentence on what perfect naming could reach; empty if the result was matched that way."""
    ceiling, number = result.ceiling, result.protocol.num_prototypes
    if ceiling is None:
        return ""
    prototypes = "the one prototype" if number == 1 else f"these {number:,} prototypes"
    reached = f"{percent_number(ceiling.miou)} mIoU / {percent_number(ceiling.pixel_accuracy)} pixel accuracy"
    return f"Perfect naming of {prototypes} could reach {reached}."


def truth_line(result: Result) -> str:
    """Sentences on the classes and the void pixels of the ground truth, and on pixels that masks give no id."""
    p, true = result.protocol, result.in_truth
    number, classes = int(true.sum()), count(len(true), "class")
    absent = [name for name, is_true in zip(result.taxonomy.names, true, strict=True) if not is_true]
    said = f"All {classes} occur in the ground truth." if len(true) > 1 else "The one class occurs in the ground truth."
    if absent:
        occur = "occurs" if number == 1 else "occur"
        names = f", all but {' and '.join(absent)}" if len(absent) <= MAX_ABSENT else ""
        mean = percent_number(result.miou_in_truth)
        said = f"{number} of {classes} {occur} in the ground truth{names}; the mean IoU of those is {mean}."
    if p.num_void_pixels:
        said += f" {percent(p.num_void_pixels / (p.num_void_pixels + p.num_labelled_pixels))} of the pixels are void."
    without = float(result.table[p.num_prototypes :].sum() / result.table.sum())
    if without:
        said += f" {percent(without)} of the labelled ones have no id in the masks, and are errors."
    return said


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns: the first to the left, the others to the right. An empty row becomes a rule."""
    num_columns = max(len(row) for row in rows)
    widths = [max((len(row[i]) for row in rows if i < len(row)), default=0) for i in range(num_columns)]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=False))]
        lines.append("  ".join(cells) if row else "-" * (sum(widths) + 2 * (num_columns - 1)))
    return "\n".join(lines)
