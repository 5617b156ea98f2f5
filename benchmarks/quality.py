"""Train a preset on small real sets with several seeds and score it beside its baselines.

Every set is trained on its photos without labels, with the same settings. Its prototypes are then merged
to each K. See benchmarks/README.md.
Runs and results that lie in the output folder already are not made again. So several processes may share
the work by sets or seeds, and a last one prints the whole table.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg import segment_config
from slotseg.data.views.unlabelled import Photos
from slotseg.errors import ConfigError
from slotseg.eval.baselines import baseline_predictor
from slotseg.eval.benchmark import Benchmark, open_benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.eval.matching import match
from slotseg.eval.metrics import score
from slotseg.eval.predictors import Predictor, run_predictor
from slotseg.eval.report import text_table
from slotseg.files import write_json
from slotseg.runs import checkpoint
from slotseg.runs.folder import find_checkpoint
from slotseg.training.launch import new_training

PLAIN = "plain"
OURS = ("slotseg", PLAIN)
METHODS = {
    "slotseg": "slotseg",
    PLAIN: "slotseg, one look, no refinement",
    "features": "k-means, same features",
    "colour": "k-means, colour and position",
    "one-class": "one class",
}
MERGED = (8, 12, 16, 20, 24, 28, 32, 40, 48, 64)
USED = 0.002
"""Share of the pixels from which a prototype counts as used."""


@dataclass(frozen=True)
class Set:
    """A labelled set to train and to score on."""

    dataset: str
    """Name that ``open_benchmark`` takes."""
    photos: str
    """Folder of the photos for training, below that of the set."""
    trained: str
    """Split of these photos."""
    split: str
    """Split that is scored."""


SETS = {
    "msrc": Set("msrc", "images", "all", "all"),
    "camvid": Set("camvid", "images/train", "train", "val"),
    "coco27": Set("cocopanoptic27", "train2017", "train2017", "train2017"),
}


def main() -> None:
    """Train and score what is missing, then print tables of everything asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in SETS:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help=f"folder of {name}; without it, it is left out")
    parser.add_argument("--init", required=True, metavar="WEIGHTS", help="pretrained weights of the backbone")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where runs and scores are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("-k", nargs="+", default=["classes", "64", "auto"], help="concepts: numbers, classes, auto")
    parser.add_argument("--set", dest="extra", nargs="+", default=[], metavar="NAME=VALUE", help="settings to change")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    extra = dict(item.split("=", 1) for item in options.extra)
    settings = {name: _value(text) for name, text in extra.items()}
    curves: list[list[str]] = []
    rows = [["set, K, method", "mIoU", "accuracy", "majority mIoU", "accuracy", "used", "minutes"]]
    for name, known in SETS.items():
        folder = getattr(options, name)
        if folder is None:
            continue
        benchmark = open_benchmark(known.dataset, data_dir=folder, split=known.split)
        trained = open_benchmark(known.dataset, data_dir=folder, split=known.trained)
        homes = {seed: options.out / f"{name}-seed{seed}" for seed in options.seeds}
        for seed, home in homes.items():
            train(home / "run", folder / known.photos, {**settings, "backbone.init": options.init, "seed": seed})
        for asked in options.k:
            classes = len(benchmark.dataset.taxonomy.classes)
            number = None if asked == "auto" else classes if asked == "classes" else int(asked)
            for method in options.methods:
                if number is None and method not in OURS:
                    continue  # a baseline has no such rule
                results = []
                for seed, home in homes.items():
                    file = home / f"{method}-{asked}.json"
                    if not file.is_file():
                        predictor = run_or_baseline(method, trained, home / "run", number, seed)
                        write_json(file, evaluate(predictor, benchmark).to_dict())
                    results.append(scored(file))
                rows.append([f"{name}, {asked}, {METHODS[method]}", *summary(results)])
            rows.append([])
        if "auto" in options.k and OURS[0] in options.methods:
            curves.append([name, *curve(homes.values(), benchmark)])
    print(text_table(rows[:-1]))
    if curves:
        print("\nOne-to-one mIoU of the prototypes merged to other K")
        print(text_table([["set", "by the rule (K: mIoU)", *map(str, MERGED)], *curves]))


def train(out: Path, photos: Path, settings: dict[str, Any]) -> None:
    """Train with the preset ``photos``, unless that is done. The minutes are kept beside the run."""
    minutes = out.parent / "minutes.json"
    if minutes.is_file():
        if json.loads(minutes.read_text())["settings"] != settings:
            raise ConfigError(f"{out} was trained with other settings; expected the same: choose another --out")
        return
    if out.exists():
        raise ConfigError(f"{out} was begun and not finished; expected none: remove it, or let its process finish")
    start = time.monotonic()
    new_training(Photos([photos]), settings, preset="photos", out=out).train()
    write_json(minutes, {"minutes": (time.monotonic() - start) / 60, "settings": settings})


def run_or_baseline(method: str, benchmark: Benchmark, run: Path, number: int | None, seed: int) -> Predictor:
    """Predictor of a method, for the photos that a run was trained on."""
    if method in OURS:
        return run_predictor(
            benchmark, checkpoint=run, num_prototypes=number, segment=segment_config.PLAIN if method == PLAIN else None
        )
    return baseline_predictor(method, benchmark, num_clusters=number, checkpoint=run, seed=seed)


def scored(file: Path) -> dict[str, Any]:
    """Metrics of a result by both matchings, used prototypes, and minutes of training if it is of a run."""
    table = np.array(json.loads(file.read_text())["table"], np.int64)
    metrics = {mode: _metrics(table, mode) for mode in ("hungarian", "majority")}
    ours = file.name.startswith(OURS)
    minutes = json.loads((file.parent / "minutes.json").read_text())["minutes"] if ours else None
    return {**metrics, "used": int((table.sum(axis=1) > USED * table.sum()).sum()), "minutes": minutes}


def curve(homes: Iterable[Path], benchmark: Benchmark) -> list[str]:
    """Cells of a row: the K that the rule chose, and mIoU with the prototypes merged to each K of ``MERGED``."""
    chosen, rows = [], []
    for home in homes:
        wins = checkpoint.load(find_checkpoint(home / "run")).tensors["teacher.confusion.wins"]
        predictor = run_predictor(benchmark, checkpoint=home / "run", num_prototypes=len(wins))
        file = home / "prototypes.json"
        if not file.is_file():
            write_json(file, evaluate(predictor, benchmark).to_dict())
        counts = np.array(json.loads(file.read_text())["table"], np.int64)

        def merged(number: int | None, parts: Any = (counts, predictor.segmenter.encoder)) -> tuple[int, float]:
            concepts = parts[1].merged(number).numpy()
            table = np.zeros((concepts.max() + 1, parts[0].shape[1]), np.int64)
            np.add.at(table, concepts, parts[0])
            return len(table), 100 * _metrics(table, "hungarian")[0]

        chosen.append("{}: {:.1f}".format(*merged(None)))
        rows.append([merged(number)[1] for number in MERGED])
    return [", ".join(chosen), *(f"{statistics.mean(column):.1f}" for column in zip(*rows, strict=True))]


def summary(results: list[dict[str, Any]]) -> list[str]:
    """Cells of a row: means over seeds, with half the range behind a plus-minus sign."""
    cells = []
    for mode in ("hungarian", "majority"):
        for column in (0, 1):
            values = [100 * r[mode][column] for r in results]
            cells.append(f"{statistics.mean(values):.1f} ±{(max(values) - min(values)) / 2:.1f}")
    cells.append("/".join(str(r["used"]) for r in results))
    minutes = [r["minutes"] for r in results if r["minutes"] is not None]
    return [*cells, f"{max(minutes):.1f}" if minutes else ""]


def _metrics(table: NDArray[np.int64], mode: str) -> tuple[float, float]:
    metrics = score(table, match(table, mode))
    return metrics.miou, metrics.pixel_accuracy


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    main()
