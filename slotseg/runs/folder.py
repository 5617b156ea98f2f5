"""Run folders: where a training run keeps its files, and how a user's words find one.

``runs/<name>/`` holds what ``docs/files.md`` describes: ``config.json``, ``metrics.jsonl``, ``checkpoints/``, ...
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from slotseg.errors import CheckpointError, ConfigError, DataError

RUNS = Path("runs")
SUFFIX = ".safetensors"
"""End of every checkpoint's name."""


class RunFolder:
    """The files of one run.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.log = path / "log.txt"
        self.failures = path / "failures.jsonl"
        self.labels = path / "labels.json"
        self.label_maps = path / "labels"
        self.results = path / "scores"
        self.previews = path / "preview"
        self.tensorboard = path / "tensorboard"
        self.last = path / "checkpoints" / f"last{SUFFIX}"

    def labels_of(self, dataset: str) -> Path:
        """The label map of the latest match on a data set."""
        return self.label_maps / f"{dataset}.json"

    def results_of(self, dataset: str) -> Path:
        """File of the latest results on a data set."""
        return self.results / f"{dataset}.json"

    def numbered(self, step: int) -> Path:
        """The checkpoint kept at a step."""
        return self.last.with_name(f"step-{step:08d}{SUFFIX}")


def new_run(path: Path | None, name: str) -> RunFolder:
    """A folder for a new run: the one asked for, or the next free ``runs/<name>-<n>``.

    Raises:
        ConfigError: If the folder asked for is not empty.
    """
    if path is None:
        number = 1
        while (RUNS / f"{name}-{number}").exists():
            number += 1
        path = RUNS / f"{name}-{number}"
    if path.exists() and not _is_free(path):
        raise ConfigError(
            f"{path} exists and is not an empty folder; choose another --out, "
            f"or continue the run in it with --resume {path}"
        )
    return RunFolder(path)


def _is_free(path: Path) -> bool:
    """Whether a folder is empty, or holds only the leftovers of a run killed before its first checkpoint."""
    run = RunFolder(path)
    first = {run.config, run.log, run.last.parent}
    return path.is_dir() and set(path.iterdir()) <= first and not any(run.last.parent.glob("[!.]*"))


def open_run(path: Path) -> RunFolder:
    """The run in a folder.

    Raises:
        CheckpointError: If there is no run, or it has no checkpoint yet.
    """
    run = RunFolder(path)
    if not run.last.is_file() and run.config.is_file():
        raise CheckpointError(
            f"{path} has no {run.last.relative_to(path)}: no step of its training was done; expected a run that "
            "has learned: train anew with `slotseg train`"
        )
    if not run.last.is_file():
        raise CheckpointError(f"{path} has no {run.last.relative_to(path)}; expected the folder of a training run")
    return run


def run_to_resume(path: Path) -> tuple[RunFolder, Path]:
    """The run to go on with, and the checkpoint to go on from: its last one, or another one of it that is named.

    Raises:
        CheckpointError: If there is no such run.
    """
    run = run_of(path) if path.is_file() else open_run(path)
    if run is None:
        raise CheckpointError(f"{path} lies in no run; expected the folder of a training run, or a checkpoint in one")
    return run, path if path.is_file() else run.last


def find_checkpoint(path: Path | None) -> Path:
    """The checkpoint file of a run folder or file; by default that of the newest run under ``runs/``.

    Raises:
        CheckpointError: If there is none.
    """
    if path is not None:
        return open_run(path).last if path.is_dir() else path
    return newest_run().last


def newest_run(runs: Path = RUNS, *, going_on: bool = False) -> RunFolder:
    """The run below a folder that wrote last, of those that have learned. Every command means it by the newest.

    Args:
        runs: Folder of runs.
        going_on: Whether a run counts too that has metrics of steps, and no checkpoint of them yet.

    Raises:
        CheckpointError: If there is none.
    """
    found = [RunFolder(file.parents[1]) for file in runs.glob(f"*/checkpoints/last{SUFFIX}")]
    newest_first = sorted(found, key=lambda run: max(map(modified, (run.config, run.metrics, run.last))), reverse=True)
    for run in newest_first:
        if has_learned(run.last) or (going_on and run.metrics.is_file()):
            return run
    if found:
        raise CheckpointError(
            f"no run under {runs.resolve()} has learned anything yet (all are at step 0); expected one that has: go on "
            f"with `slotseg train --resume {newest_first[0].path}`, or give the folder of another run"
        )
    raise CheckpointError(
        f"there is no run under {runs.resolve()}; train one with `slotseg train`, or give the folder of one"
    )


def has_learned(checkpoint: Path) -> bool:
    """Whether a checkpoint is not one of step 0. One that cannot be read counts, as reading it says what is wrong."""
    try:
        with safe_open(checkpoint, framework="np") as file:
            header = json.loads((file.metadata() or {})["slotseg"])
        return not isinstance(header, dict) or header.get("step") != 0
    except (SafetensorError, OSError, ValueError, LookupError):
        return True


def modified(path: Path) -> float:
    """Time at which a file was last written, in seconds since the epoch; 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def run_of(checkpoint: Path) -> RunFolder | None:
    """The run folder that a checkpoint file lies in, if it lies in one."""
    run = RunFolder(checkpoint.parent.parent)
    return run if checkpoint.parent.name == "checkpoints" and run.config.is_file() else None


def find_labels(word: str, checkpoint: Path) -> Path:
    """The file of a label map, by its path or by a data set that the run of a checkpoint was matched on.

    Raises:
        DataError: If there is neither.
    """
    path, run = Path(word), run_of(checkpoint)
    if path.is_file():
        return path
    named = run.labels_of(word) if run else path
    if named.is_file():
        return named
    names = sorted(file.stem for file in run.label_maps.glob("*.json")) if run else []
    of_run = f", or one that the run was matched on: {', '.join(names)}" if names else ""
    raise DataError(f"there are no labels {word}; expected prototypes, the path of a names.json or labels.json{of_run}")


def name_of(checkpoint: Path) -> str:
    """Name for files made from a checkpoint: that of its run, and for a numbered one its number too."""
    run = run_of(checkpoint)
    if run is None:
        return checkpoint.stem
    return run.path.resolve().name + ("" if checkpoint.name == run.last.name else f"-{checkpoint.stem}")
