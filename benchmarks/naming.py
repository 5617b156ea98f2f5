"""The gain of naming prototypes: names come from the labels of a few photos, and the other photos are scored.

A person who looks at the page of concepts names each prototype after most of what it shows. Here, the labels of a few
photos stand for that person: each prototype gets the class of most of its pixels in them. A prototype that does not
occur in them has no name. See benchmarks/README.md.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slotseg.eval.benchmark import open_benchmark
from slotseg.eval.contingency import ImageCounts
from slotseg.eval.evaluate import evaluate
from slotseg.eval.matching import UNMATCHED, majority, match
from slotseg.eval.metrics import score
from slotseg.eval.named import assign_by_name
from slotseg.eval.predictors import run_predictor
from slotseg.eval.report import text_table
from slotseg.labels.naming import Naming


def main() -> None:
    """Score a run once for each K, and print a row for each number of labelled photos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder or checkpoint")
    parser.add_argument("--dataset", default="msrc", help="as in slotseg eval")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("-k", nargs="+", default=["trained"], help="numbers to merge the prototypes to, or trained")
    parser.add_argument("--photos", nargs="+", type=int, default=[20], help="how many labelled photos give the names")
    options = parser.parse_args()
    benchmark = open_benchmark(options.dataset, data_dir=options.data_dir, split=options.split)
    classes = benchmark.dataset.taxonomy.names
    rows = [["K", "labelled photos", "have a name", "names: mIoU", "accuracy", "one-to-one: mIoU", "accuracy",
             "ceiling: mIoU", "accuracy"]]  # fmt: skip
    for asked in options.k:
        predictor = run_predictor(
            benchmark, checkpoint=options.run, num_prototypes=None if asked == "trained" else int(asked)
        )
        result = evaluate(predictor, benchmark, remember=True)
        shape = result.protocol.num_prototypes, len(classes)
        for number in options.photos:
            chosen = evenly(len(benchmark.dataset), number)
            labelled = table_of((image for image in result.images if image.index in chosen), shape)
            others = table_of((image for image in result.images if image.index not in chosen), shape)
            named, _ = assign_by_name(name_by_majority(labelled, classes), shape[0], classes)
            cells = [str(shape[0]), str(number), str(int((named != UNMATCHED).sum()))]
            for assignment in (named, match(others, "hungarian"), match(others, "majority")):
                metrics = score(others, assignment)
                cells += [f"{100 * metrics.miou:.1f}", f"{100 * metrics.pixel_accuracy:.1f}"]
            rows.append(cells)
    print(f"{options.dataset}, scored on the photos that gave no names, in per cent\n\n{text_table(rows)}")


def name_by_majority(table: NDArray[np.int64], classes: Sequence[str]) -> Naming:
    """Name each prototype after the class of most of its pixels in a few labelled photos.

    Args:
        table: Pixel counts of these photos, shape ``(K, C)``.
        classes: Names of the C classes.

    Returns:
        Names of the prototypes that occur in them. The others have none.
    """
    found = majority(table)
    names = {k: classes[c] for k, c in enumerate(found.tolist()) if c != UNMATCHED}
    return Naming(names=names, num_prototypes=len(table))


def evenly(total: int, number: int) -> set[int]:
    """Indices of some of a set's photos, spread evenly over their order."""
    return {i * total // number for i in range(number)}


def table_of(images: Iterable[ImageCounts], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Table ``(K, C)`` of some images."""
    table = np.zeros(shape, np.int64)
    for image in images:
        table[image.prototypes, image.classes] += image.counts
    return table


if __name__ == "__main__":
    main()
