"""When and where a run's state is written; of several processes, the first writes."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.errors import CheckpointError
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder

log = logging.getLogger(__name__)

State = tuple[Mapping[str, Tensor], Mapping[str, Any]]
RETRY_SECONDS = 60.0
"""Time after which a checkpoint is tried again that could not be written."""


class Checkpoints:
    """The last checkpoint and the numbered ones of a run in training.

    Args:
        run: Where they are.
        config: Says how often they are written.
        state: Gives tensors and header of the moment.
    """

    def __init__(self, run: RunFolder, config: TrainConfig, state: Callable[[], State]) -> None:
        self.run, self.config, self.state = run, config, state
        self.wait()

    def wait(self, seconds: float | None = None) -> None:
        """Count the time to the next write from now on."""
        self.due_at = time.monotonic() + (self.config.checkpoint_minutes * 60 if seconds is None else seconds)

    def after_step(self, step: int, *, final: bool) -> None:
        """Write what is due after a step.

        Where that fails, training goes on and it is tried again soon, as a disk may be full for a while.

        Args:
            step: Steps done.
            final: Whether no other step follows.

        Raises:
            CheckpointError: If the last checkpoint after the final step cannot be written; in all processes.
        """
        if self.config.keep_every and step % self.config.keep_every == 0:
            self.attempt(self.run.numbered(step))
        if final:
            self.keep()
        elif step % self.config.checkpoint_every == 0 or time.monotonic() >= self.due_at:
            self.attempt(self.run.last)

    def keep(self) -> None:
        """Write the last checkpoint now.

        Raises:
            CheckpointError: In all processes, if it cannot be written.
        """
        distributed.once(lambda: self.write(self.run.last))

    def write(self, path: Path) -> None:
        """Write a checkpoint of this moment.

        Raises:
            CheckpointError: If it cannot be written; an older one stays as it was.
        """
        tensors, info = self.state()
        checkpoint.save(path, tensors, info, readable=True)

    def attempt(self, path: Path) -> None:
        """Write a checkpoint if that is possible, and say so if it is not."""
        if distributed.rank() > 0:
            return
        try:
            self.write(path)
            self.wait()
        except CheckpointError as error:
            log.warning("%s; the one before it stays", error)
            self.wait(RETRY_SECONDS)
