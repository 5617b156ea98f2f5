"""The record of a run, read from its folder without torch, even while the run is going on.

``docs/files.md`` describes the files. What a power cut or another version has left of them is read
as far as it goes.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slotseg.amounts import count
from slotseg.errors import CheckpointError, DataError
from slotseg.files import read_json_lines
from slotseg.labels.label_map import LabelMap, read_labels
from slotseg.runs.folder import SUFFIX, RunFolder, modified
from slotseg.values import is_number, is_whole

PATIENCE = 60.0
"""Least seconds without a write after which a run counts as silent."""
PATIENCE_AT_START = 600.0
"""Seconds without a write after which a run counts as silent whose speed is not known."""
TAIL = 4096
"""Bytes at the end of the log that are read."""


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """A checkpoint on the disk."""

    name: str
    """Name of the file."""
    size: int
    """Size in bytes."""
    written: float
    """Time of writing, seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as its folder tells it; times are in seconds since the epoch."""

    path: Path
    """The run's folder."""
    settings: Mapping[str, Any]
    """Content of ``config.json``: ``config``, and perhaps ``sources``, ``preset``, ``photos``, ``official``."""
    header: Mapping[str, Any]
    """Header of the last checkpoint; empty if there is none yet."""
    lines: list[dict[str, Any]]
    """Lines of ``metrics.jsonl``, ascending by ``step``."""
    failures: list[str]
    """Messages about photos that could not be read."""
    checkpoints: list[CheckpointFile]
    """Checkpoints, the last one and the numbered ones, newest first."""
    previews: list[tuple[int, Path]]
    """Step and file of each preview sheet, ascending."""
    labels: LabelMap | None
    """Label map of the run, if its prototypes have been matched or named."""
    last_words: str
    """End of the log; empty if nothing was logged since the run was started."""
    started: float
    """Time when the run was started or last resumed."""
    heard: float
    """Time when the run last wrote anything."""
    step_by_checkpoint: bool
    """Whether the checkpoint is newer than the last line."""
    now: float
    """Time when the record was read."""
    num_unread: int = 0
    """Number of lines of ``metrics.jsonl`` that cannot be read."""

    @property
    def config(self) -> Mapping[str, Any]:
        """All settings of the run."""
        config: Mapping[str, Any] = self.settings["config"]
        return config

    @property
    def photos(self) -> list[str] | None:
        """Files and folders that the run is trained on, none for the built-in scenes; None if they are not known."""
        photos = self.settings.get("photos")
        return [str(photo) for photo in photos] if isinstance(photos, list) else None

    @property
    def preset(self) -> str:
        """Name of the preset; empty if it is not known."""
        preset = self.settings.get("preset")
        return preset if isinstance(preset, str) else ""

    @cached_property
    def step(self) -> int:
        """Steps done, as far as is known."""
        of_checkpoint = _whole(self.header.get("step")) or 0
        return of_checkpoint if self.step_by_checkpoint or not self.lines else self.lines[-1]["step"]

    @property
    def unread(self) -> str:
        """Sentence on lines of ``metrics.jsonl`` that cannot be read; empty if there are none."""
        if not self.num_unread:
            return ""
        lines = count(self.num_unread, "line")
        return f"{lines} of {RunFolder(self.path).metrics} cannot be read as JSON with a step; curves leave them out"

    @property
    def log_every(self) -> int:
        """Steps from one line to the next."""
        return _whole(self.config.get("log_every")) or 1

    @property
    def batch_size(self) -> int:
        """Photos a step."""
        return _whole(self.config.get("batch_size")) or 1

    @property
    def num_photos(self) -> int | None:
        """Photos of the source; None if their number is not known."""
        return _whole(self.header.get("num_photos"))

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of a pass over the photos; None if it is not known."""
        given = _whole(self.header.get("steps_per_epoch"))
        return max(1, self.num_photos // self.batch_size) if self.num_photos else given

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole run; None if it is not known."""
        steps, epochs = _whole(self.config.get("steps")), _whole(self.config.get("epochs"))
        if steps is None and epochs and self.steps_per_epoch:
            steps = epochs * self.steps_per_epoch
        return steps + self.decoder_steps if steps else _whole(self.header.get("total_steps"))

    @property
    def epochs(self) -> float | None:
        """Passes over the photos before the decoder's steps; None if they are not known."""
        if self.total_steps is None or self.steps_per_epoch is None:
            return None
        return (self.total_steps - self.decoder_steps) / self.steps_per_epoch

    @property
    def epochs_done(self) -> float | None:
        """Passes done; None if they are not known."""
        if self.steps_per_epoch is None:
            return None
        done = self.step / self.steps_per_epoch
        return done if self.epochs is None else min(done, self.epochs)

    @property
    def decoder_steps(self) -> int:
        """Steps of the decoder, the last of all steps; 0 where there is none."""
        decoder = self.config.get("decoder")
        return (_whole(decoder.get("steps")) if isinstance(decoder, dict) else None) or 0

    @property
    def decoder_agreement(self) -> tuple[float, float] | None:
        """Agreement with the decoder's last targets on held-out photos: an untrained decoder's, and its own.

        None where it is not known.
        """
        line = self.lines[-1] if self.lines else {}
        untrained, own = line.get("untrained_agreement"), line.get("decoder_agreement")
        return (float(untrained), float(own)) if is_number(untrained) and is_number(own) else None

    @property
    def num_prototypes(self) -> int | None:
        """P, the number of prototypes that are trained; None if it is not known."""
        model = self.config.get("model")
        model = model if isinstance(model, dict) else {}
        numbers = [_whole(model.get(name)) for name in ("num_prototypes", "trained_prototypes")]
        return max((n for n in numbers if n), default=None)

    @property
    def photos_per_second(self) -> float | None:
        """Photos a second since the run was started or last resumed; None if not known, or while the decoder learns."""
        return self._speed("photos_per_second")

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last step at the speed so far; None if not known."""
        speed = self._steps_per_second
        if speed is None or self.total_steps is None:
            return None
        return max(0, self.total_steps - self.step) / speed

    @property
    def state(self) -> str:
        """State: ``imported`` and not trained on, ``finished``, ``interrupted``, ``running``, or ``silent``."""
        if self.settings.get("official") and not self.lines and not self.last_words:
            return "imported"
        if self.total_steps is not None and self.step >= self.total_steps:
            return "finished"
        if self.last_words.rpartition("\n")[2][24:].startswith("Interrupted at step"):
            return "interrupted"
        patience = PATIENCE_AT_START
        if self._steps_per_second:
            patience = max(PATIENCE, 3 * self.log_every / self._steps_per_second)
        return "running" if self.now - self.heard < patience else "silent"

    @property
    def _steps_per_second(self) -> float | None:
        """Steps a second of the stage that is going on; None if not known."""
        photos = self.photos_per_second
        return photos / self.batch_size if photos else self._speed("steps_per_second")

    def _speed(self, name: str) -> float | None:
        """A rate of the newest line, None if it has none."""
        speed = self.lines[-1].get(name) if self.lines else None
        return float(speed) if isinstance(speed, int | float) and 1e-6 < speed < 1e12 else None


def read_run(path: Path) -> RunRecord:
    """Read a run's folder.

    Raises:
        CheckpointError: If it holds no run.
    """
    run = RunFolder(path)
    header = run.last.with_suffix(".json")
    settings = _object(run.config)
    if not isinstance(settings.get("config"), dict):
        raise CheckpointError(f"{path} has no config.json of a run; expected the folder of a training run")
    num_lines = len(run.metrics.read_bytes().splitlines()) if run.metrics.is_file() else 0
    lines = [line for line in read_json_lines(run.metrics) if _whole(line.get("step")) is not None]
    times = {file: modified(file) for file in (run.config, run.metrics, run.log, header)}
    return RunRecord(
        path=path,
        settings=settings,
        header=_object(header),
        lines=_in_order(lines),
        num_unread=max(0, num_lines - len(lines)),  # more may have come meanwhile
        failures=[str(line.get("error", "")) for line in read_json_lines(run.failures)],
        checkpoints=_checkpoints(run.last.parent),
        previews=_previews(run.previews),
        labels=_labels(run.labels),
        last_words=_tail(run.log) if times[run.log] >= times[run.config] else "",
        started=times[run.config],
        heard=max(times.values()),
        step_by_checkpoint=times[header] >= times[run.metrics],
        now=time.time(),
    )


def _in_order(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each step, the last that was written."""
    by_step = {line["step"]: line for line in lines}
    return [by_step[step] for step in sorted(by_step)]


def _checkpoints(folder: Path) -> list[CheckpointFile]:
    found = []
    for file in folder.glob(f"[!.]*{SUFFIX}"):
        with suppress(OSError):  # it was removed meanwhile
            state = file.stat()
            found.append(CheckpointFile(name=file.name, size=state.st_size, written=state.st_mtime))
    return sorted(found, key=lambda file: (-file.written, file.name))


def _previews(folder: Path) -> list[tuple[int, Path]]:
    steps = ((file.stem.removeprefix("step-"), file) for file in folder.glob("step-*.jpg"))
    return sorted((int(step), file) for step, file in steps if step.isascii() and step.isdigit())


def _labels(path: Path) -> LabelMap | None:
    try:
        return read_labels(path)
    except DataError:  # most often there is none
        return None


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def _whole(value: object) -> int | None:
    return value if is_whole(value) and 0 <= value < 2**53 else None
