"""What a run writes down beside its checkpoints; of several processes, the first writes for all."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from slotseg import distributed
from slotseg.errors import ConfigError
from slotseg.files import write_bytes, write_json
from slotseg.runs import RunFolder

log = logging.getLogger(__name__)

NAMED_UNREADABLE = 3
"""Unreadable photos that are named in the log; all are in ``failures.jsonl``."""


class Journal:
    """``config.json``, ``metrics.jsonl``, ``log.txt`` and ``failures.jsonl`` of a run.

    Args:
        run: Where they are.

    Attributes:
        unreadable: What was said of photos that could not be read.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run, self.writes = run, distributed.rank() == 0
        self.unreadable: set[str] = set()

    @contextmanager
    def opened(self, config: Mapping[str, Any], step: int) -> Iterator[None]:
        """Write the configuration, drop what is known of steps after ``step``, and keep what is logged meanwhile.

        Raises:
            ConfigError: If the run's folder cannot be written.
        """
        if not self.writes:
            yield
            return
        try:
            self.run.path.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(self.run.log)
        except OSError as error:
            raise ConfigError(f"{self.run.path} cannot be written ({error.strerror}); choose another --out") from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        package = logging.getLogger("slotseg")
        package.addHandler(handler)
        try:
            write_json(self.run.config, config)
            self._forget_metrics_after(step)
            yield
        finally:
            package.removeHandler(handler)
            handler.close()

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        if self.writes:
            with self.run.metrics.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def add_unreadable(self, messages: tuple[str, ...]) -> None:
        """Name the first few unreadable photos, count all, list them in ``failures.jsonl``."""
        for message in messages:
            if message not in self.unreadable:
                self.unreadable.add(message)
                if self.writes:
                    self._write_unreadable(message)

    def _write_unreadable(self, message: str) -> None:
        if len(self.unreadable) <= NAMED_UNREADABLE:
            log.warning("Skipped: %s", message)
        with self.run.failures.open("a") as file:
            file.write(json.dumps({"error": message}) + "\n")

    def _forget_metrics_after(self, step: int) -> None:
        """Drop the lines of steps that are going to be done again."""
        if self.run.metrics.is_file():
            lines = self.run.metrics.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            write_bytes(self.run.metrics, "".join(kept).encode())
