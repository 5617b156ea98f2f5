"""Kills runs with SIGKILL, half of them while they save, and continues each to its end.

Started by ``test_kills.py`` in a process of its own: what is imported here once is forked for every run.
Arguments are a folder, a seed, the number of runs and, where maps are to be kept, ``kept``.
Prints a JSON object for each run.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from slotseg.data.views.unlabelled import Photos
from slotseg.files import LEFTOVERS
from slotseg.runs.checkpoint import load, read_header
from slotseg.runs.folder import RunFolder
from slotseg.training.launch import new_training, resumed_training

STEPS = 16
SETTINGS = {
    "steps": STEPS,
    "log_every": 3,
    "checkpoint_every": 2,
    "keep_every": 5,
    "previews": 3,
    "batch_size": 4,
    "model.hidden_dim": 512,
    "model.num_prototypes": 5,
    "model.trained_prototypes": 12,
    "model.prototype_init": "kmeans",
    "optimizer.warmup_epochs": 0,
    "backbone.options": {"layers": [1, 1, 1, 1], "drop_path_rate": 0.1},
}
KEPT = {"model.freeze_backbone": True, "views.kept": 4, "views.kept_memory": 1}
"""Maps that are kept of 12 photos at a time: they are looked at in several rounds."""


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


def training(folder: Path, workers: int, settings: dict[str, object]) -> Callable[[], object]:
    """What a user would do: begin, or continue where there is something to continue."""

    def train() -> None:
        if RunFolder(folder).last.is_file():
            resumed_training(folder, device="cpu", workers=workers).train()
        else:
            new_training(Photos(), settings, out=folder, device="cpu", workers=workers).train()

    return train


def saving(folder: Path) -> bool:
    """Whether a checkpoint is half-written."""
    return any(any((folder / "checkpoints").glob(pattern)) for pattern in LEFTOVERS)


def kill(pid: int, folder: Path, rng: random.Random, seconds: float, while_saving: bool) -> None:
    """Kill a run after a random time below ``seconds``, or a random moment after that in which it saves."""
    time.sleep(rng.uniform(0, seconds))
    while while_saving and not saving(folder) and not ended(pid):
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def ended(pid: int) -> bool:
    """Whether a process has ended, which is left to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main() -> None:
    """Train once to the end, then several times with kills."""
    torch.set_num_threads(1)  # threads do not survive a fork
    place, rng, num_runs = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    settings = {**SETTINGS, **(KEPT if "kept" in sys.argv else {})}
    begun = time.monotonic()
    assert os.waitpid(start(training(place / "whole", 0, settings)), 0)[1] == 0
    seconds = time.monotonic() - begun
    whole = RunFolder(place / "whole")
    expected, metrics = load(whole.last).tensors, lines(whole)
    for number in range(num_runs):
        folder, workers = place / f"killed-{number}", number % 3
        run, steps, saves = RunFolder(folder), [], 0
        for _ in range(1 + number % 2):  # every second run is killed twice
            kill(start(training(folder, workers, settings)), folder, rng, 0.9 * seconds, while_saving=number % 4 > 1)
            steps.append(read_header(run.last)["step"] if run.last.is_file() else None)
            saves += saving(folder)
        assert os.waitpid(start(training(folder, workers, settings)), 0)[1] == 0
        tensors = load(run.last).tensors
        equal = tensors.keys() == expected.keys() and all(torch.equal(tensors[k], v) for k, v in expected.items())
        result = {
            "run": number,
            "workers": workers,
            "killed_after_step": steps,
            "killed_while_saving": saves,
            "equal": equal,
            "same_metrics": lines(run) == metrics,
            "leftovers": sorted(p.name for p in folder.rglob(".*")),
        }
        print(json.dumps(result), flush=True)


def lines(run: RunFolder) -> list[dict[str, float]]:
    """The metrics, but for the speed."""
    found = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "photos_per_second"} for line in found]


if __name__ == "__main__":
    main()
