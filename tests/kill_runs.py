"""Kills runs with SIGKILL, half of them while they save, and continues each to its end.

Started by ``test_kills.py`` in a process of its own: what is imported here once is forked for every run.
Arguments are a folder, a seed, the number of runs and, where maps are to be kept and a decoder is to learn, ``kept``.
Two runs at a time, each on one thread. Prints a JSON object for each run.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from slotseg.data.scenes import draw_scene
from slotseg.data.views.unlabelled import Photos
from slotseg.files import LEFTOVERS
from slotseg.runs.checkpoint import load, read_header
from slotseg.runs.folder import RunFolder
from slotseg.training.launch import new_training, resumed_training

PHOTOS = 16
SETTINGS = {
    "steps": 16,
    "log_every": 3,
    "checkpoint_every": 2,
    "keep_every": 5,
    "previews": 3,
    "batch_size": 4,
    "backbone.stride": 8,
    "model.hidden_dim": 512,
    "model.num_prototypes": 5,
    "model.trained_prototypes": 12,
    "model.prototype_init": "kmeans",
    "optimizer.warmup_epochs": 0,
    "backbone.options": {"layers": [1, 1, 1, 1], "drop_path_rate": 0.1},
}

KEPT = {
    "model.freeze_backbone": True,
    "views.kept": 4,
    "views.kept_memory": 1,
    "decoder.steps": 8,
    "decoder.rounds": 3,
    "decoder.photos": 5,
}
"""Maps are kept of some photos at a time, which are looked at in several rounds; and a decoder learns."""


def start(function: Callable[[], object]) -> int:
    """Run a function in a forked process."""
    pid = os.fork()
    if pid:
        return pid
    try:
        function()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def training(folder: Path, workers: int, settings: dict[str, Any]) -> Callable[[], object]:
    """What a user would do: begin, or continue where there is something to continue; on the photos beside the run."""

    def train() -> None:
        if RunFolder(folder).last.is_file():
            resumed_training(folder, device="cpu", workers=workers).train()
        else:
            photos = Photos([folder.with_name("photos")])
            new_training(photos, settings, preset="tiny", out=folder, device="cpu", workers=workers).train()

    return train


def saving(folder: Path) -> bool:
    """Whether a checkpoint is half-written."""
    return any(any((folder / "checkpoints").glob(pattern)) for pattern in LEFTOVERS)


def kill(pid: int, folder: Path, rng: random.Random, seconds: float, while_saving: bool) -> None:
    """Kill a run after a random time below ``seconds``, or a random moment after that in which it saves."""
    time.sleep(rng.uniform(0, seconds))
    while while_saving and not saving(folder) and not ended(pid):
        time.sleep(1e-4)  # a save takes a hundred times as long
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def ended(pid: int) -> bool:
    """Whether a process has ended, which is left to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def whole_run(settings: dict[str, Any], folder: Path) -> float:
    """Train from begin to end; the seconds that it took."""
    begun = time.monotonic()
    assert os.waitpid(start(training(folder, 0, settings)), 0)[1] == 0
    return time.monotonic() - begun


def killed_run(settings: dict[str, Any], whole: RunFolder, seed: int, seconds: float, number: int) -> dict[str, Any]:
    """Kill a run once or twice, continue it to its end, and compare it with the whole one beside it."""
    folder, workers, rng = whole.path.with_name(f"killed-{number}"), number % 3, random.Random(seed + number)
    run, steps, saves = RunFolder(folder), [], 0
    for _ in range(1 + number % 2):  # every second run is killed twice
        kill(start(training(folder, workers, settings)), folder, rng, 0.9 * seconds, while_saving=number % 4 > 1)
        steps.append(read_header(run.last)["step"] if run.last.is_file() else None)
        saves += saving(folder)
    assert os.waitpid(start(training(folder, workers, settings)), 0)[1] == 0
    tensors, expected = load(run.last).tensors, load(whole.last).tensors
    equal = tensors.keys() == expected.keys() and all(torch.equal(tensors[k], v) for k, v in expected.items())
    return {
        "run": number,
        "workers": workers,
        "killed_after_step": steps,
        "killed_while_saving": saves,
        "equal": equal,
        "same_metrics": lines(run) == lines(whole),
        "leftovers": sorted(p.name for p in folder.rglob(".*")),
    }


def main() -> None:
    """Train to the end without a kill, then twenty times with kills."""
    torch.set_num_threads(1)  # threads do not survive a fork
    place, seed, num_runs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    settings = {**SETTINGS, **(KEPT if "kept" in sys.argv else {})}
    (place / "photos").mkdir()
    for i in range(PHOTOS):
        Image.fromarray(draw_scene(i)[0]).save(place / "photos" / f"{i}.png")
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as lanes:
        seconds = max(
            lanes.map(partial(whole_run, settings), [place / "whole", place / "beside"])
        )  # two at once, as all the others
        killed = partial(killed_run, settings, RunFolder(place / "whole"), seed, seconds)
        for result in lanes.map(killed, range(num_runs)):
            print(json.dumps(result), flush=True)


def lines(run: RunFolder) -> list[dict[str, float]]:
    """The metrics, but for the speed."""
    found = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith("_per_second")} for line in found]


if __name__ == "__main__":
    main()
