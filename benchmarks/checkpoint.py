"""The cost of saving in a run: the time of its checkpoints in 1,000 steps, over the time of the steps.

For each setup a trainer is built as ``slotseg train`` builds it, some steps are timed and some checkpoints are
written where the run would write them. See benchmarks/README.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from slotseg.config import TrainConfig
from slotseg.data.views.sources import PhotoFolder, Scenes, Source
from slotseg.presets import resolve
from slotseg.runs.folder import RunFolder
from slotseg.training.trainer import Trainer

SETUPS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("tiny", {}),
    "photos": ("photos", {"backbone.init": None, "backbone.name": "mobilenetv3_small_100"}),
    "photos, ViT-S": ("photos", {"backbone.init": None}),
    "resnet18": ("coco-r50", {"backbone.name": "resnet18", "views.image_size": 128, "batch_size": 16}),
    "resnet50": ("coco-r50", {"batch_size": 8}),
}


def main() -> None:
    """Print a row for each setup."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", choices=SETUPS, action="append", help="by default all")
    parser.add_argument("--photos", type=Path, help="a folder; by default the built-in scenes")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="where checkpoints go; by default a temporary folder")
    options = parser.parse_args()
    source = PhotoFolder([options.photos]) if options.photos else Scenes()
    print("setup          step, s   save, s      MB   saves in 1,000 steps   saving / steps")
    for name in options.setup or SETUPS:
        preset, values = SETUPS[name]
        config, _ = resolve(preset, {**values, "steps": 1000, "optimizer.warmup_epochs": 0, "tensorboard": False})
        with tempfile.TemporaryDirectory(dir=options.out) as folder:
            print(
                f"{name:14}", *measured(config, source, Path(folder), options.repetitions, options.device), flush=True
            )


def measured(config: TrainConfig, source: Source, folder: Path, repetitions: int, device: str) -> Iterator[str]:
    """Cells of a row, measured on one setup."""
    trainer = Trainer(replace(config, previews=0), source, RunFolder(folder / "run"), device=device)
    learner = trainer.learner
    steps, saves = [], []
    for batch in learner.batches(0, 3 * repetitions + 2):
        on_device = batch.to(learner.device)
        steps.append(seconds(lambda b=on_device: learner.train_step(b).loss.item()))  # type: ignore[misc]
        if len(steps) > 2 and len(steps) % 3 == 0:
            saves.append(seconds(lambda: trainer.checkpoints.write(trainer.run.last)))
    step, save = statistics.median(steps[2:]), statistics.median(saves)
    size = trainer.run.last.stat().st_size / 1e6
    number = max(1000 / config.checkpoint_every, 1000 * step / (60 * config.checkpoint_minutes))
    yield f"{step:8.3f}  {save:8.3f}  {size:6.0f}   {number:20.1f}   {number * save / (1000 * step):13.2%}"


def seconds(function: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
