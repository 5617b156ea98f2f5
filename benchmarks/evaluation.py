"""Time evaluation apart from the network, against the plain way, in one process.

Both ways go from scores of feature cells to the table, for one 320 x 320 crop. The plain way upsamples the
scores to K x 320 x 320, takes the argmax, and counts pairs with a boolean mask and ``bincount``. Our way is
that of ``slotseg eval``. See benchmarks/README.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from upsample_argmax import realistic_scores

from slotseg.eval.contingency import Contingency
from slotseg.eval.report import text_table
from slotseg.segmenting.upsampling import upsampled_argmax

SIDE = 320
NUM_CLASSES = 27


def main() -> None:
    """Print a table with a row for each setup."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    options = parser.parse_args()
    rows = [["K, cells", "plain, ms", "ours, ms", "plain / ours", "lowest", "highest"]]
    for num_prototypes, cells in ((256, 10), (256, 20), (256, 40), (27, 10), (27, 20), (27, 40)):
        scores = realistic_scores(num_prototypes, cells, cells)
        classes = np.random.default_rng(0).integers(0, NUM_CLASSES, (SIDE, SIDE)).astype(np.uint8)
        classes[:20] = 255
        assert np.array_equal(plain(scores, classes), ours(scores, classes))
        pairs = [
            (timed(partial(plain, scores, classes)), timed(partial(ours, scores, classes)))
            for _ in range(options.repetitions + 1)
        ][1:]
        ratios = [p / o for p, o in pairs]
        rows.append(
            [
                f"{num_prototypes}, {cells} x {cells}",
                f"{1000 * statistics.median(p for p, _ in pairs):.1f}",
                f"{1000 * statistics.median(o for _, o in pairs):.1f}",
                f"{statistics.median(ratios):.1f}",
                f"{min(ratios):.1f}",
                f"{max(ratios):.1f}",
            ]
        )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {SIDE} x {SIDE} pixels")
    print(text_table(rows))


@torch.inference_mode()
def plain(scores: Tensor, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Table ``(K, C)`` from upsampled scores."""
    upsampled = F.interpolate(scores[None], (SIDE, SIDE), mode="bilinear", align_corners=False)[0]
    prototypes = upsampled.argmax(dim=0).numpy()
    labelled = classes != 255
    codes = prototypes[labelled] * NUM_CLASSES + classes[labelled]
    return np.bincount(codes, minlength=len(scores) * NUM_CLASSES).reshape(len(scores), NUM_CLASSES)


def ours(scores: Tensor, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Table ``(K, C)`` as ``slotseg eval`` makes it."""
    contingency = Contingency(len(scores), NUM_CLASSES)
    cells = float(scores.shape[1])
    contingency.update(upsampled_argmax(scores, (cells, cells), (SIDE, SIDE)), classes)
    return contingency.table


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
