"""A run's state as tensors by key, and its checkpoints in training.

Keys are the model's own, and ``optimizer.<parameter>.<value>``. With several processes, the first writes.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.errors import CheckpointError
from slotseg.method.building import trained_names
from slotseg.method.model import SlotCon
from slotseg.runs import checkpoint
from slotseg.runs.checkpoint import Checkpoint
from slotseg.runs.folder import RunFolder

log = logging.getLogger(__name__)

State = tuple[Mapping[str, Tensor], Mapping[str, Any]]
DECODER = "student.decoder."
"""Start of the names of the parameters that the second stage trains."""
RETRY_SECONDS = 60.0
"""Seconds until a checkpoint that could not be written is tried again."""


def optimizer_tensors(model: SlotCon, optimizer: Optimizer) -> dict[str, Tensor]:
    """Tensors of an optimiser's state by key."""
    names, states = trained_names(model, optimizer), optimizer.state_dict()["state"]
    return {f"optimizer.{names[i]}.{name}": value for i, state in states.items() for name, value in state.items()}


def restore_model(model: SlotCon, saved: Checkpoint) -> None:
    """Put the tensors of a checkpoint back into a model.

    Raises:
        CheckpointError: If it is of another model.
    """
    expected = model.state_dict()
    tensors = {key: value for key, value in saved.tensors.items() if key in expected}
    if problem := checkpoint.misfit(tensors, expected):
        raise CheckpointError(
            f"the checkpoint to resume from does not fit the settings in its header: {problem}; expected a whole "
            "checkpoint of one run: go on from another of its checkpoints, or start a new run"
        )
    model.load_state_dict(tensors)


def restore_optimizer(model: SlotCon, optimizer: Optimizer, saved: Checkpoint) -> None:
    """Put the tensors of ``optimizer_tensors`` back. States of the other stage's parameters are left out.

    Raises:
        CheckpointError: If the checkpoint has states of parameters that no stage trains, or of another shape.
    """
    parameters = dict(model.named_parameters())
    indices = {name: index for index, name in enumerate(trained_names(model, optimizer))}
    of_decoder = any(name.startswith(DECODER) for name in indices)
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.part("optimizer.").items():
        parameter, _, name = key.rpartition(".")
        if parameter.startswith(DECODER) != of_decoder:
            continue
        if parameter not in indices:
            raise CheckpointError(
                f"the checkpoint to resume from has a state of the optimiser for {parameter}, which is not trained; "
                "expected a checkpoint of this version's `slotseg train`: take its weights with --init"
            )
        if value.ndim and value.shape != parameters[parameter].shape:
            raise CheckpointError(
                f"the checkpoint to resume from has a state of the optimiser of another shape than {parameter}; "
                "expected a whole checkpoint of one run: take its weights with --init"
            )
        if value.ndim:  # fused optimisers need the layout of the parameter
            value = torch.empty_like(parameters[parameter], dtype=value.dtype).copy_(value)
        states.setdefault(indices[parameter], {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


class Checkpoints:
    """The last checkpoint and the numbered ones of a run in training.

    Args:
        run: The run's folder.
        config: Settings of the run, such as how often checkpoints are written.
        state: Function that gives tensors and header of the moment.
    """

    def __init__(self, run: RunFolder, config: TrainConfig, state: Callable[[], State]) -> None:
        self.run, self.config, self.state = run, config, state
        self.wait()

    def wait(self, seconds: float | None = None) -> None:
        """Count the time to the next write from now on."""
        self.due_at = time.monotonic() + (self.config.checkpoint_minutes * 60 if seconds is None else seconds)

    def after_step(self, step: int, *, final: bool) -> None:
        """Write what is due after a step.

        If that fails, training goes on and it is tried again soon: a disk may be full for a while.

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

    def forget(self) -> None:
        """Remove the last checkpoint."""
        if distributed.rank() == 0:
            for file in (self.run.last, self.run.last.with_suffix(".json")):
                file.unlink(missing_ok=True)

    def write(self, path: Path) -> None:
        """Write a checkpoint of this moment.

        Raises:
            CheckpointError: If it cannot be written; an older one stays as it was.
        """
        tensors, info = self.state()
        checkpoint.save(path, tensors, info, readable=True)

    def attempt(self, path: Path) -> None:
        """Write a checkpoint, or log a warning if that is impossible."""
        if distributed.rank() > 0:
            return
        try:
            self.write(path)
            self.wait()
        except CheckpointError as error:
            log.warning("%s; the one before it stays", error)
            self.wait(RETRY_SECONDS)
