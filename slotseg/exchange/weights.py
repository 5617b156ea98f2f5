"""Pretrained weights for a backbone, from local files, runs of ours and timm, strictly compared.

timm's own loading ignores missing and unexpected keys in some modes. Here every key is compared. The preprocessing and
the options that belong to weights travel with them.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError, safe_open
from torch import Tensor

from slotseg import amounts
from slotseg.config import BackboneConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange.unpickling import load_plain
from slotseg.networks.backbones import Backbone
from slotseg.runs import checkpoint
from slotseg.runs.folder import find_checkpoint
from slotseg.values import from_dict

log = logging.getLogger(__name__)

TEACHER = "encoder_k."
"""Start of the key names of the teacher's backbone in full checkpoints of SlotCon's published code."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A backbone's state, with the options and the preprocessing that belong to it."""

    source: str
    """File or name that the weights came from."""
    state: dict[str, Tensor]
    """Tensors under timm's key names."""
    name: str | None = None
    """Name of the timm model that they belong to. None if they do not say."""
    whole: bool = False
    """Whether they are a part of a full checkpoint of SlotCon's published code."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of ``timm.create_model`` that they were trained with."""
    mean: tuple[float, float, float] | None = None
    """Mean that the preprocessing subtracts. None if they do not say."""
    std: tuple[float, float, float] | None = None
    """Standard deviation that the preprocessing divides by. None if they do not say."""


def read_weights(init: str) -> Weights:
    """Read weights from a file, a run folder or checkpoint of ours, or timm's pretrained name.

    Raises:
        CheckpointError: If nothing of that name exists, or it cannot be read or downloaded.
    """
    path = Path(init)
    if path.is_dir():
        return _from_checkpoint(find_checkpoint(path))
    if path.is_file():
        return _from_file(path)
    if timm.is_model(init) and "/" not in init:
        return _from_timm(init)
    raise CheckpointError(
        f"weights {init!r} are neither a file, nor a run, nor a timm model; "
        "expected for instance weights.safetensors or resnet50.a1_in1k"
    )


def adopt(config: BackboneConfig, weights: Weights, *, named: bool) -> BackboneConfig:
    """Fit a backbone's configuration to weights: their name, options and preprocessing.

    Args:
        config: Configuration that was asked for.
        weights: Weights that will be loaded.
        named: Whether the backbone's name was asked for, and is not just a default.

    Raises:
        ConfigError: If the weights belong to another model or were trained with other options.
    """
    name = config.name if named or weights.name is None else weights.name
    if weights.name is not None and name.split(".")[0] != weights.name.split(".")[0]:
        raise ConfigError(
            f"weights {weights.source} belong to {weights.name}; expected {name} (leave out --backbone to use theirs)"
        )
    for key, value in weights.options.items():
        if config.options.get(key, value) != value:
            raise ConfigError(
                f"weights {weights.source} need {key}={value!r}; expected no other, got {config.options[key]!r}"
            )
    fallback = _pretrained_settings(name)
    return replace(
        config,
        name=name,
        options={**config.options, **weights.options},
        init=weights.source,
        mean=weights.mean or (fallback.mean if fallback else config.mean),
        std=weights.std or (fallback.std if fallback else config.std),
    )


def load_into(backbone: Backbone, weights: Weights) -> None:
    """Load weights into a backbone, comparing every key and shape.

    Keys of layers that the backbone leaves out may be missing or present. Any other difference is an error.

    Raises:
        CheckpointError: If a key is missing or unknown or a shape differs.
    """
    needed = backbone.model.state_dict()
    missing = [k for k in needed if k not in weights.state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in weights.state if k not in backbone.known_keys]
    for keys, what in ((missing, "lack"), (unknown, "hold unknown")):
        if keys:
            raise CheckpointError(
                f"weights {weights.source} do not fit: they {what} {keys[0]}"
                f"{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}; "
                "expected the keys of the timm model given with --backbone"
            )
    for key, tensor in needed.items():
        if key in weights.state and weights.state[key].shape != tensor.shape:
            raise CheckpointError(
                f"weights {weights.source} do not fit: {key} has shape {tuple(weights.state[key].shape)}, "
                f"expected {tuple(tensor.shape)} (another width or variant of the model)"
            )
    backbone.model.load_state_dict({k: weights.state.get(k, v) for k, v in needed.items()})


def _from_file(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "slotseg" in metadata:
                return _from_checkpoint(path)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return _from_torch_file(path)
    except OSError as error:
        raise CheckpointError(f"weights {path} cannot be read ({error}); expected a readable file") from error
    try:
        return Weights(
            source=str(path),
            state=state,
            name=metadata.get("architecture"),
            options=dict(json.loads(metadata.get("timm_kwargs", "{}"))),
            mean=_triple(metadata.get("mean")),
            std=_triple(metadata.get("std")),
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"weights {path} have unreadable metadata ({error}); expected JSON: timm_kwargs by name, "
            "three numbers each for mean and std"
        ) from error


def _triple(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    red, green, blue = json.loads(text)
    return float(red), float(green), float(blue)


def _from_torch_file(path: Path) -> Weights:
    """Read tensors by key, also under ``state_dict`` or ``model``. Of a whole SlotCon, take the teacher's backbone."""
    content = whole = load_plain(path)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"weights {path} hold no state dict; expected tensors by key")
    state = {str(k).removeprefix("module."): v for k, v in content.items()}
    teacher = {k.removeprefix(TEACHER): v for k, v in state.items() if k.startswith(TEACHER)}
    if not teacher:
        return Weights(source=str(path), state=state)
    arch = getattr(whole.get("args"), "arch", None)
    name = arch if isinstance(arch, str) and timm.is_model(arch) else None
    return Weights(source=str(path), state=teacher, name=name, whole=True)


def _from_checkpoint(path: Path) -> Weights:
    """The teacher's backbone of a checkpoint of ours."""
    content = checkpoint.load(path)
    config = from_dict(BackboneConfig, content.info["config"]["backbone"])
    return Weights(
        source=str(path),
        state=content.part("teacher.backbone.model."),
        name=config.name,
        options=config.options,
        mean=config.mean,
        std=config.std,
    )


def _pretrained_settings(name: str) -> Any:
    """Settings that timm has for the weights of a name, None if it has none."""
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:  # the model exists, but not with this tag
        return None


def _from_timm(name: str) -> Weights:
    pretrained = _pretrained_settings(name)
    if pretrained is None or not (pretrained.hf_hub_id or pretrained.url or pretrained.file):
        raise CheckpointError(f"timm has no pretrained weights for {name!r}; expected a name such as resnet50.a1_in1k")
    size = sum(p.numel() for p in timm.create_model(name, pretrained=False).parameters()) * 4
    place = f"huggingface.co/{pretrained.hf_hub_id}" if pretrained.hf_hub_id else pretrained.url or pretrained.file
    log.info(
        "Weights %s: %s from %s (license: %s), downloaded once",
        name,
        amounts.size(size),
        place,
        pretrained.license or "not said",
    )
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # OSError when offline; halfway, the HTTP library's own, which differs by version
        raise CheckpointError(
            f"weights {name!r} could not be downloaded ({type(error).__name__}); "
            "connect to the internet once, or give a local file to --init"
        ) from error
    return Weights(source=name, state=model.state_dict(), name=name, mean=pretrained.mean, std=pretrained.std)
