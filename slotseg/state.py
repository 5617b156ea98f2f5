"""The state of a run as tensors by key, and back: the model's own keys, and ``optimizer.<parameter index>.…``."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from slotseg.checkpoint import Checkpoint
from slotseg.errors import CheckpointError
from slotseg.model import SlotCon


def state_tensors(model: SlotCon, optimizer: Optimizer) -> dict[str, Tensor]:
    """Everything a run needs to go on; there is no random state."""
    tensors: dict[str, Tensor] = model.state_dict()
    for index, state in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{name}": value for name, value in state.items()})
    return tensors


def restore_state(model: SlotCon, optimizer: Optimizer, saved: Checkpoint) -> None:
    """Put what ``state_tensors`` gave back in its place.

    Raises:
        CheckpointError: If the checkpoint is of another model.
    """
    names = set(model.state_dict())
    try:
        model.load_state_dict({k: v for k, v in saved.tensors.items() if k in names})
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint to resume from does not fit its configuration: {error}") from error
    params = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.part("optimizer.").items():
        index, name = key.split(".", 1)
        param = params[int(index)]
        if value.shape == param.shape:  # fused optimisers need the layout of the parameter
            value = torch.empty_like(param, dtype=value.dtype).copy_(value)
        states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
