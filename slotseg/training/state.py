"""The state of a run as tensors by key, and back: the model's own keys, and ``optimizer.<parameter>.<value>``."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from slotseg.errors import CheckpointError
from slotseg.method.building import trained_names
from slotseg.method.model import SlotCon
from slotseg.runs.checkpoint import Checkpoint


def state_tensors(model: SlotCon, optimizer: Optimizer) -> dict[str, Tensor]:
    """Everything a run needs to go on; there is no random state."""
    tensors: dict[str, Tensor] = model.state_dict()
    names = trained_names(model, optimizer)
    for index, state in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{names[index]}.{name}": value for name, value in state.items()})
    return tensors


def restore_state(model: SlotCon, optimizer: Optimizer, saved: Checkpoint) -> None:
    """Put what ``state_tensors`` gave back in its place.

    Raises:
        CheckpointError: If the checkpoint is of another model or optimiser.
    """
    names = set(model.state_dict())
    try:
        model.load_state_dict({k: v for k, v in saved.tensors.items() if k in names})
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint to resume from does not fit its configuration: {error}") from error
    parameters = dict(model.named_parameters())
    indices = {name: index for index, name in enumerate(trained_names(model, optimizer))}
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.part("optimizer.").items():
        parameter, _, name = key.rpartition(".")
        if parameter not in indices:
            raise CheckpointError(
                f"the checkpoint to resume from has a state of the optimiser for {parameter}, which is not trained; "
                "expected a checkpoint of this version's `slotseg train`: take its weights with --init"
            )
        if value.shape == parameters[parameter].shape:  # fused optimisers need the layout of the parameter
            value = torch.empty_like(parameters[parameter], dtype=value.dtype).copy_(value)
        states.setdefault(indices[parameter], {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
