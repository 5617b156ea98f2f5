"""Gain and cost, at inference, of test-time augmentation (looks), sizes and edges. See benchmarks/README.md.

Every row shows the metrics that `slotseg eval` gives with these options.
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from slotseg.amounts import percent_number
from slotseg.cli.options import quality
from slotseg.data.labelled.labelled import ScoredPhoto
from slotseg.eval.benchmark import open_benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.eval.predictors import Predictor, run_predictor

ROWS = (  # times the default size, --tta, --edges
    (1.0, "none", "none"),
    (1.0, "flip", "none"),
    (1.0, "scales", "none"),
    (1.0, "flip,scales", "none"),
    (1.5, "none", "none"),
    (2.0, "none", "none"),
    (1.0, "none", "field"),
    (1.0, "none", "guided"),
    (1.0, "flip,scales", "field"),
    (1.0, "flip,scales", "guided"),
    (1.5, "flip,scales", "field"),
    (1.5, "flip,scales", "guided"),
)


class Timing:
    """A predictor that keeps the CPU seconds of every photo."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.num_prototypes, self.vectors, self.info = predictor.num_prototypes, predictor.vectors, predictor.info
        self.seconds: list[float] = []

    def __call__(self, photo: ScoredPhoto) -> NDArray[Any]:
        """Predict, and keep the time."""
        start = time.process_time()
        prototype_map = self.predictor(photo)
        self.seconds.append(time.process_time() - start)
        return prototype_map


def main() -> None:
    """Score a run in every way, and print each row when it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="RUN", help="run of the preset photos")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="as of `slotseg eval`, like the next three")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--split", metavar="NAME")
    parser.add_argument("--image-list", type=Path, metavar="FILE")
    parser.add_argument("-k", type=int, help="concepts; by default the classes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    benchmark = open_benchmark(
        options.dataset, data_dir=options.data_dir, split=options.split, image_list=options.image_list
    )
    number = options.k or len(benchmark.dataset.taxonomy.classes)
    print("--size, --tta, --edges: mIoU / accuracy, CPU time of a photo, median")
    load = partial(run_predictor, benchmark, checkpoint=options.checkpoint, num_prototypes=number)
    default = load().segmenter.size
    assert isinstance(default, int)
    for times, tta, edges in ROWS:
        predictor = load(segment=quality(tta, edges), size=round(times * default))
        timed = Timing(predictor)
        metrics = evaluate(timed, benchmark).metrics
        said = f"{percent_number(metrics.miou)} / {percent_number(metrics.pixel_accuracy)}"
        milliseconds = 1000 * statistics.median(timed.seconds)
        print(f"{predictor.segmenter.size}, {tta}, {edges}: {said}, {milliseconds:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
