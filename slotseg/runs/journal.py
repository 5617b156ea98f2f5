"""Files that a run writes beside its checkpoints. With several processes, the first writes for all."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slotseg import distributed
from slotseg.errors import ConfigError
from slotseg.files import append, read_json_lines, remove_leftovers, write_bytes, write_json, writing
from slotseg.runs.folder import RunFolder
from slotseg.values import is_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

NAMED_UNREADABLE = 3
"""Unreadable photos that are named in the log; all are in ``failures.jsonl``."""


class Journal:
    """``config.json``, ``metrics.jsonl``, ``log.txt`` and ``failures.jsonl`` of a run.

    A disk that is full for a while costs no line: what cannot be written waits for the next one.

    Args:
        run: Folder of the run.

    Attributes:
        heading: Lines that the log begins with when it is opened.
        metrics: The lines of ``metrics.jsonl`` so far.
        unreadable: Messages about photos that could not be read.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run, self.writes = run, distributed.rank() == 0
        self.heading: list[str] = []
        self.metrics: list[dict[str, Any]] = []
        self.unreadable: set[str] = set()
        self._waiting: dict[Path, bytes] = {}

    @contextmanager
    def opened(self, config: Mapping[str, Any], step: int) -> Iterator[None]:
        """Write the configuration, drop metrics of steps after ``step``, and keep the log of the block.

        Raises:
            ConfigError: If the run's folder cannot be written, or another process is training in it.
        """
        if not self.writes:
            yield
            return
        with writing(self.run.path, "choose another --out", ConfigError):
            self.run.path.mkdir(parents=True, exist_ok=True)
            handler = _LogFile(self.run.log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        package = logging.getLogger("slotseg")
        package.addHandler(handler)
        try:
            _lock(handler, self.run.path)
            self._take_up(config, step)
            for text in self.heading:
                handler.handle(logging.makeLogRecord({"msg": text, "name": __name__}))
            yield
        finally:
            for path in list(self._waiting):
                self._append(path, b"")
            package.removeHandler(handler)
            handler.close()

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        self.metrics.append(line)
        self._append(self.run.metrics, _line(line))

    def add_unreadable(self, messages: tuple[str, ...]) -> None:
        """Name the first few unreadable photos, count all, list them in ``failures.jsonl``."""
        for message in messages:
            if message not in self.unreadable:
                self.unreadable.add(message)
                if self.writes and len(self.unreadable) <= NAMED_UNREADABLE:
                    log.warning("Skipped: %s", message)
                self._append(self.run.failures, _line({"error": message}))

    def _append(self, path: Path, line: bytes) -> None:
        """Add a line and those that wait; where that fails, they wait for the next one."""
        if not self.writes:
            return
        waiting = self._waiting.pop(path, b"")
        try:
            append(path, waiting + line)
        except OSError as error:
            if not waiting:
                log.warning("%s cannot be written (%s); its lines wait for room", path, error.strerror)
            self._waiting[path] = waiting + line

    def _take_up(self, config: Mapping[str, Any], step: int) -> None:
        """Write the configuration, and drop metrics of later steps, which are going to be done again."""
        with writing(self.run.path, "make room on its disk", ConfigError):
            for folder in (self.run.path, self.run.last.parent, self.run.previews):
                remove_leftovers(folder)
            write_json(self.run.config, config)
            self.unreadable.update(str(line.get("error", "")) for line in read_json_lines(self.run.failures))
            lines = read_json_lines(self.run.metrics)
            self.metrics = [line for line in lines if is_whole(line.get("step")) and line["step"] <= step]
            if self.run.metrics.is_file():
                write_bytes(self.run.metrics, b"".join(map(_line, self.metrics)))


class _LogFile(logging.FileHandler):
    """A log that goes silent where it cannot be written, without a traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Do nothing."""


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values) + "\n").encode()


def _lock(handler: logging.FileHandler, run: Path) -> None:
    """Lock the run for this process until it ends, in whatever way."""
    if fcntl is None or handler.stream is None:
        return
    try:
        fcntl.lockf(handler.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not shared by loader processes
    except (BlockingIOError, PermissionError):
        raise ConfigError(f"another process is training in {run}; wait for its end, or stop it first") from None
    except OSError:  # a file system without locks
        return
