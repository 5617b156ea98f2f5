"""Compare the command lines of two commits on one machine: time, memory and scores, against marks.

Both commits are exported from git and installed beside each other. Each measurement is one command in a fresh
process. The builds take turns. See benchmarks/README.md.
Measurements that lie in the output folder already are not made again. So the work may be done in parts, and a last
call prints the whole table.
"""

import argparse
import json
import os
import shutil
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builds import MB, Build, full_name
from quality import SETS

from slotseg.data.finding.listing import list_images
from slotseg.eval.benchmark import open_benchmark

TIMED = ("coco27", "msrc")
"""Sets whose trainings are timed. Others are trained for their scores."""
DISCOVERED = "coco27"
"""Set of ``discover`` and, many times over, of ``memory``."""
PAINTED = {"msrc": "images", "camvid": "images/val", "coco27": "train2017"}
"""Folder of the scored photos, below that of the set."""
WAYS: dict[str, tuple[str, ...]] = {"preset": (), "plain": ("--tta", "none", "--edges", "none")}
"""Options of ``slotseg segment``, by the way of painting."""
SCORED = {"classes": "K = classes", "auto": "K found", "64": "K = 64, majority"}
"""Numbers of concepts that are scored, and what the table calls them."""
BOUNDS = {"train": 1 / 4, "discover": 1 / 3, "paint": 1 / 5, "plain": 1.8, "memory": 1.3}
"""Marks for the ratio after / before; ``plain``: painting after / one plain look before."""
GOALS = {"msrc": (31.0, 51.5), "camvid": (35.5, 70.0), "coco27": (16.0, 38.5)}
"""Marks for mIoU and pixel accuracy in per cent, one-to-one, K = classes."""
METRICS = ("miou", "pixel_accuracy")
NO_WARM_UP = ("--set", "optimizer.warmup_epochs=0")
"""Options of ``memory``, whose steps are fewer than an epoch has."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is measured with two builds, in turn, and the table of it. Each measure is a method of its name."""

    before: Build
    after: Build
    sets: dict[str, Path]
    """Folder of each set that is there."""
    seeds: Sequence[int]
    repetitions: int
    """Number of times that photos are painted."""
    many: int
    """Number of photos of ``memory``."""
    steps: int
    """Number of steps of ``memory``."""

    @property
    def builds(self) -> tuple[Build, Build]:
        """Both, in the order of their turns."""
        return self.before, self.after

    def train(self) -> None:
        """Train on the sets that are timed."""
        self._train(self._there(TIMED), self.seeds)

    def discover(self) -> None:
        """Go from photos to the report."""
        for name in self._there([DISCOVERED]):
            for seed in self.seeds:
                for build in self.builds:
                    what = f"discover-{name}-seed{seed}"
                    words, found = self._training(build, name, seed), build.home / what
                    build.measure(what, "discover", *words, "--output", found, makes=found)

    def paint(self) -> None:
        """Paint the scored photos, and one of them alone, as the preset says and, before, in one plain look."""
        self._train(self.sets, self.seeds[:1])
        for name in self.sets:
            folder = self.sets[name] / PAINTED[name]
            inputs = {"all": folder, "one": list_images(folder)[0]}
            for repetition in range(self.repetitions):
                for build, way in ((self.before, "preset"), (self.before, "plain"), (self.after, "preset")):
                    masks = build.home / "masks"
                    words = ("--checkpoint", build.run(name, self.seeds[0]), "--labels", "prototypes", *WAYS[way])
                    for amount, photos in inputs.items():
                        shutil.rmtree(masks, ignore_errors=True)
                        what = f"paint-{name}-{way}-{amount}-{repetition}"
                        build.measure(what, "segment", photos, "--output", masks, *words)

    def memory(self) -> None:
        """Train a few steps on many photos."""
        for name in self._there([DISCOVERED]):
            photos = self.before.home.parent / f"photos-{self.many}"
            repeat_photos(list_images(self.sets[name] / SETS[name].photos), photos, self.many)
            for build in self.builds:
                words = ("--preset", "photos", "--steps", self.steps, *NO_WARM_UP, *build.settings)
                run = build.home / self._memory
                build.measure(self._memory, "train", photos, *words, "--out", run, makes=run)

    def scores(self) -> None:
        """Score all runs."""
        for name, folder in self.sets.items():
            known = SETS[name]
            benchmark = open_benchmark(known.dataset, data_dir=folder, split=known.split)
            classes = len(benchmark.dataset.taxonomy.classes)
            numbers: dict[str, tuple[object, ...]] = {"classes": ("-k", classes), "auto": ()}
            numbers["64"] = ("-k", 64, "--matching", "majority")
            for seed in self.seeds:
                self._train([name], [seed])
                for asked in SCORED:
                    for build in self.builds:
                        where = ("--dataset", known.dataset, "--data-dir", folder, "--split", known.split)
                        words = (*where, "--checkpoint", build.run(name, seed), *numbers[asked])
                        file = self._result(build, name, seed, asked)
                        build.measure(f"eval-{name}-seed{seed}-{asked}", "eval", *words, "--json", file)

    def lines(self) -> list[str]:
        """Every measurement in words, in the order of time."""
        kept = ((build, file.stem) for build in self.builds for file in build.home.glob("*.json"))
        return sorted(build.line(what, values) for build, what in kept if (values := build.kept(what)))

    def rows(self) -> Iterator[list[str]]:
        """Rows of the table, of everything that was measured with both builds."""
        for command, names in (("train", TIMED), ("discover", (DISCOVERED,))):
            for name in names:
                pairs = self._pairs(f"{command}-{name}-seed{seed}" for seed in self.seeds)
                yield from costs(f"{command} {name}, s", [(b["seconds"], a["seconds"]) for b, a in pairs], command)
                yield from costs(f"{command} {name}, peak MB", [(b["peak"] / MB, a["peak"] / MB) for b, a in pairs])
        for name in self.sets:
            for way, label in (("preset", "ms a photo"), ("plain", "ms a photo, before in one plain look")):
                seconds = (
                    (self._per_photo(self.before, name, way, i), self._per_photo(self.after, name, "preset", i))
                    for i in range(self.repetitions)
                )
                times = [(1000 * b, 1000 * a) for b, a in seconds if b and a]
                yield from costs(f"paint {name}, {label}", times, "paint" if way == "preset" else way)
        pairs = self._pairs([self._memory])
        label = f"train on {self.many:,} photos, {self.steps} steps, peak MB"
        yield from costs(label, [(b["peak"] / MB, a["peak"] / MB) for b, a in pairs], "memory")
        for name in self.sets:
            yield from self._score_rows(name)

    def _score_rows(self, name: str) -> Iterator[list[str]]:
        for asked, label in SCORED.items():
            files = [[self._result(build, name, seed, asked) for build in self.builds] for seed in self.seeds]
            both = [[json.loads(file.read_text()) for file in pair] for pair in files if all(f.is_file() for f in pair)]
            if not both:
                continue
            before, after = ([[100 * r[i][m] for r in both] for m in METRICS] for i in range(2))
            means = [(statistics.mean(b), statistics.mean(a)) for b, a in zip(before, after, strict=True)]
            goals = GOALS[name] if asked == "classes" else (0.0, 0.0)
            met = ["met" if a >= max(b, goal) else "missed" for (b, a), goal in zip(means, goals, strict=True)]
            aim = f"≥ {goals[0]} / {goals[1]} and before" if asked == "classes" else "≥ before"
            ratios = " / ".join(f"{a / b:.2f}" for b, a in means)
            cells = (" / ".join(map(mean_and_range, values)) for values in (before, after))
            yield [f"{name}, {label}, mIoU / accuracy", *cells, ratios, f"{aim}: {' / '.join(met)}"]

    def _there(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self.sets]

    def _training(self, build: Build, name: str, seed: int) -> tuple[object, ...]:
        return self.sets[name] / SETS[name].photos, "--seed", seed, *build.settings

    def _train(self, names: Iterable[str], seeds: Iterable[int]) -> None:
        for name, seed in ((name, seed) for name in names for seed in seeds):
            for build in self.builds:
                words, run = (*self._training(build, name, seed), "--preset", "photos"), build.run(name, seed)
                build.measure(f"train-{name}-seed{seed}", "train", *words, "--out", run, makes=run)

    def _pairs(self, names: Iterable[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        pairs = ((self.before.kept(name), self.after.kept(name)) for name in names)
        return [(before, after) for before, after in pairs if before and after]

    def _per_photo(self, build: Build, name: str, way: str, repetition: int) -> float | None:
        """Seconds of each photo after the first."""
        every, one = (build.kept(f"paint-{name}-{way}-{amount}-{repetition}") for amount in ("all", "one"))
        if not every or not one:
            return None
        seconds: float = every["seconds"] - one["seconds"]
        return seconds / (len(list_images(self.sets[name] / PAINTED[name])) - 1)

    @property
    def _memory(self) -> str:
        return f"memory-{self.many}-photos-{self.steps}-steps"

    def _result(self, build: Build, name: str, seed: int, asked: str) -> Path:
        return build.home / "scores" / f"{name}-seed{seed}-{asked}.json"


def main() -> None:
    """Measure what is missing, then print every measurement and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="088b0e1", metavar="COMMIT")
    parser.add_argument("--after", default="HEAD", metavar="COMMIT")
    for name in SETS:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help=f"folder of {name}; without it, it is left out")
    parser.add_argument("--init", required=True, metavar="WEIGHTS", help="pretrained weights; none: random ones")
    parser.add_argument("--backbone", metavar="NAME", help="timm model; by default that of --init")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything is kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    measures = ("train", "discover", "paint", "memory", "scores")
    parser.add_argument("--measures", nargs="*", default=measures, choices=measures, help="none: print the table")
    parser.add_argument("--set", dest="both", nargs="+", default=[], metavar="NAME=VALUE", help="settings of both")
    parser.add_argument("--set-after", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the after build")
    parser.add_argument("--repetitions", type=int, default=3, help="of painting")
    parser.add_argument("--memory-photos", type=int, default=5000)
    parser.add_argument("--memory-steps", type=int, default=60)
    options = parser.parse_args()
    out = options.out.resolve()
    settings = [*backbone_options(options.init, options.backbone), *set_options(options.both)]
    extra = {"before": settings, "after": [*settings, *set_options(options.set_after)]}
    before, after = (
        Build(name=name, commit=full_name(getattr(options, name)), home=out / name, settings=tuple(extra[name]))
        for name in extra
    )
    comparison = Comparison(
        before=before,
        after=after,
        sets={name: getattr(options, name).resolve() for name in SETS if getattr(options, name)},
        seeds=options.seeds,
        repetitions=options.repetitions,
        many=options.memory_photos,
        steps=options.memory_steps,
    )
    for measure in options.measures:
        getattr(comparison, measure)()
    print("\n".join(comparison.lines()), end="\n\n")
    for row in (["measure", "before", "after", "ratio", "mark"], ["---"] * 5, *comparison.rows()):
        print(f"| {' | '.join(row)} |")


def backbone_options(init: str, backbone: str | None) -> list[str]:
    """Options of the weights to start from."""
    named = ["--backbone", backbone] if backbone else []
    if init == "none":
        return [*named, "--set", "backbone.init=null"]
    return [*named, "--init", str(Path(init).resolve()) if Path(init).exists() else init]


def set_options(items: Iterable[str]) -> list[str]:
    """Settings as options of the command line."""
    return [word for item in items for word in ("--set", item)]


def repeat_photos(photos: Sequence[Path], folder: Path, number: int) -> None:
    """Fill a folder with hard links to photos, each many times, or with copies where links cannot be made."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        photo = photos[i % len(photos)]
        link = folder / f"{i:06d}{photo.suffix}"
        if link.exists():
            continue
        try:
            os.link(photo, link)
        except OSError:
            shutil.copy(photo, link)


def costs(label: str, pairs: Sequence[tuple[float, float]], bound: str | None = None) -> Iterator[list[str]]:
    """Row of costs before and after, if there are any, with the mark for the median of their ratios."""
    if not pairs:
        return
    ratios = [after / before for before, after in pairs]
    cells = [median_and_range(values, ",.0f") for values in zip(*pairs, strict=True)]
    mark = ""
    if bound is not None:
        met = statistics.median(ratios) <= BOUNDS[bound]
        mark = f"≤ {BOUNDS[bound]:.3g}: {'met' if met else 'missed'}"
    yield [label, *cells, median_and_range(ratios, ".2f"), mark]


def median_and_range(values: Sequence[float], form: str) -> str:
    """Median with the lowest and highest value behind it, if there are several."""
    middle, lowest, highest = (format(f(values), form) for f in (statistics.median, min, max))
    return middle if len(values) == 1 else f"{middle} ({lowest} to {highest})"


def mean_and_range(values: Sequence[float]) -> str:
    """Mean with half the range behind a plus-minus sign."""
    return f"{statistics.mean(values):.1f} ±{(max(values) - min(values)) / 2:.1f}"


if __name__ == "__main__":
    main()
