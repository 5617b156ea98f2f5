"""Checkpoints of the method's published code, translated into ours: names, momenta, options, progress.

What is read is a dict with ``args``, ``model``, ``optimizer``, ``scheduler``, ``epoch`` and, with mixed precision,
``scaler``. ``docs/official.md`` describes it in full. Nothing here touches a file.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slotseg.config import TrainConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange.fitting import unwrapped
from slotseg.exchange.official_settings import (
    NAME,
    is_option_number,
    listed,
    our_settings,
    parameter_group,
    read_options,
    read_progress,
    refusal,
    shown,
)
from slotseg.method.building import build_model, build_optimizer, trained_names
from slotseg.method.model import SlotCon
from slotseg.runs.checkpoint import Checkpoint
from slotseg.values import to_dict

PARTS = ("args", "model", "optimizer", "scheduler", "epoch")
PREFIXES = {
    "encoder_q.": "student.backbone.model.",
    "encoder_k.": "teacher.backbone.model.",
    "projector_q.mlp.": "student.projector.",
    "projector_k.mlp.": "teacher.projector.",
    "grouping_q.slot_embed.": "student.prototypes.",
    "grouping_k.slot_embed.": "teacher.prototypes.",
    "predictor_slot.mlp.": "predictor.",
}
"""Starts of names there and here, in the order in which the published model lists its parameters."""
CENTER, OUR_CENTER = "center", "center.value"
SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
"""Keys of a gradient scaler's state."""


def converted(content: Any) -> Checkpoint:
    """Convert a full checkpoint of the published code to one of ours, from which training can be resumed.

    Args:
        content: Content of the file, as ``slotseg.exchange.unpickling.load_plain`` returns it.

    Returns:
        Tensors and header as a run of ours writes them, except that the photos are not known. The header's
        ``official`` keeps all options.

    Raises:
        CheckpointError: If a part, a tensor or an option is missing, unknown or out of range, or a tensor holds
            values that are not finite.
    """
    parts = _parts(content)
    options = read_options(parts["args"])
    progress = read_progress(options, parts)
    config, sources = our_settings(options, progress, parts)
    model = _skeleton(config)
    tensors = _model_tensors(model, parts["model"])
    tensors.update(_momenta(model, config, parts["optimizer"]))
    return Checkpoint(
        tensors=_unshared(tensors),
        info={
            "kind": "run",
            "config": to_dict(config),
            "step": progress.epoch * progress.steps_per_epoch,
            "total_steps": (config.epochs or 0) * progress.steps_per_epoch,
            "num_photos": None,
            "steps_per_epoch": progress.steps_per_epoch,
            "skipped_steps": 0,
            "scaler": _scaler(parts.get("scaler")),
            "preset": NAME,
            "photos": None,
            "sources": sources,
            "official": options,
        },
    )


def _parts(content: Any) -> dict[str, Any]:
    """The parts of a full file, once the type of each is checked."""
    if not isinstance(content, dict):
        raise refusal(f"it holds a {type(content).__name__}", f"a dict with {listed(PARTS)}")
    missing = [name for name in PARTS if name not in content]
    if missing:
        raise CheckpointError(
            f"it is no full checkpoint of the published code: it lacks {listed(missing)}; expected {listed(PARTS)} "
            "(a backbone alone starts a training with `slotseg train --init FILE`)"
        )
    for name in ("model", "optimizer", "scheduler"):
        if not isinstance(content[name], dict):
            raise refusal(f"{name} is a {type(content[name]).__name__}", "values by name")
    return content


def _skeleton(config: TrainConfig) -> SlotCon:
    """The model without its numbers: names and shapes."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return build_model(config)
    except ConfigError as error:
        raise CheckpointError(f"its options make no model: {error}") from error


def _model_tensors(model: SlotCon, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The model's tensors under our names, each compared with what the options say."""
    needed, found = model.state_dict(), {}
    for key, value in state.items():
        name = _our_name(str(key))
        if name not in needed or name in found:
            raise refusal(f"model holds the unknown key {shown(key)}", "those of the published code")
        found[name] = value[0] if name == OUR_CENTER and _has_shape(value, (1, *needed[name].shape)) else value
    missing = [_their_name(name) for name in needed if name not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise refusal(f"model lacks {missing[0]}{more}", "every key of a full checkpoint")
    return {name: _checked(found[name], tensor, _their_name(name)) for name, tensor in needed.items()}


def _our_name(key: str) -> str:
    """Our name for a name of theirs. Empty if it is none of theirs."""
    key = unwrapped(key).removeprefix("module.")
    if key == CENTER:
        return OUR_CENTER
    return next((ours + key[len(theirs) :] for theirs, ours in PREFIXES.items() if key.startswith(theirs)), "")


def _their_name(name: str) -> str:
    for theirs, ours in PREFIXES.items():
        if name.startswith(ours):
            return f"module.{theirs}{name[len(ours) :]}"
    return f"module.{CENTER}"


def _checked(value: Any, expected: Tensor, name: str) -> Tensor:
    """A tensor, once it is known to have the expected shape and type, and only finite values."""
    if not isinstance(value, Tensor):
        raise refusal(f"{name} is {shown(value)}", "a tensor")
    if value.shape != expected.shape:
        raise refusal(f"{name} has shape {tuple(value.shape)}", f"{tuple(expected.shape)}, as its options say")
    if value.is_floating_point() != expected.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise refusal(f"{name} is of type {value.dtype}", str(expected.dtype))
    tensor: Tensor = value.to(expected.dtype)
    if not tensor.isfinite().all():
        raise refusal(f"{name} holds values that are no numbers", "the checkpoint of an epoch before")
    return tensor


def _momenta(model: SlotCon, config: TrainConfig, optimizer: Mapping[str, Any]) -> dict[str, Tensor]:
    """The optimiser's state under our names of the parameters."""
    order = _their_parameters(model)
    numbers = parameter_group(optimizer).get("params")
    if not isinstance(numbers, list) or len(numbers) != len(order) or len(set(map(str, numbers))) != len(order):
        got = f"{len(numbers)} parameters" if isinstance(numbers, list) else "no list of parameters"
        raise refusal(f"optimizer.param_groups has {got}", f"the model's {len(order)}")
    names = dict(zip(map(str, numbers), order, strict=True))
    parameters = dict(model.named_parameters())
    trained = trained_names(model, build_optimizer(model, config.optimizer))
    states = optimizer.get("state")
    if not isinstance(states, dict):
        raise refusal(f"optimizer.state is {shown(states)}", "momenta by parameter")
    momenta = {}
    for number, state in states.items():
        name = names.get(str(number))
        if name not in trained or not isinstance(state, dict) or set(state) != {"mu"}:
            raise refusal(f"optimizer.state.{number} is not what was expected", "mu of a parameter that is trained")
        label = f"optimizer.state.{number}.mu of {_their_name(name)}"
        momenta[f"optimizer.{name}.momentum_buffer"] = _checked(state["mu"], parameters[name], label)
    return momenta


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors, each with memory of its own, as a safetensors file wants them."""
    places: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return own


def _their_parameters(model: SlotCon) -> list[str]:
    """Our names of all parameters, the teacher's too, in the published model's order."""
    names = [name for name, _ in model.named_parameters()]
    return [name for ours in PREFIXES.values() for name in names if name.startswith(ours)]


def _scaler(state: Any) -> dict[str, Any]:
    """The state of the gradient scaler, or nothing if it is not whole: a new scaler adapts within a few steps."""
    if not isinstance(state, dict) or not set(SCALER) <= set(state):
        return {}
    values = {name: state[name] for name in SCALER}
    return values if all(is_option_number(v) for v in values.values()) and values["scale"] > 0 else {}


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and tuple(value.shape) == shape
