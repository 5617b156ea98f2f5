"""Pretrained weights for a backbone, from local files, runs of ours and timm, strictly compared.

Of a file, the part is taken whose keys fit (``slotseg.exchange.fitting``). timm's own loading ignores missing and
unexpected keys in some modes. Here every key is compared, and values must be numbers. The preprocessing and the options
that belong to weights travel with them.
"""

import json
import logging
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from slotseg import amounts
from slotseg.config import BackboneConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange import hub, installed
from slotseg.exchange.fitting import fit, is_optimizer, tensors_in
from slotseg.exchange.misfits import SHOWN, advice, why_unnamed
from slotseg.exchange.renames import renamed
from slotseg.exchange.unpickling import load_plain
from slotseg.networks.backbones import Backbone
from slotseg.runs import checkpoint
from slotseg.runs.folder import find_checkpoint
from slotseg.values import from_dict

log = logging.getLogger(__name__)

OPTIONS = ("args", "opt", "hyper_parameters", "config")
"""Names under which training scripts store their options in a file."""
ARCHITECTURES = ("arch", "architecture", "model", "model_name", "backbone")
"""Names of options that hold a model's name."""

PATIENCE = 20.0
"""Seconds to wait for the hub where weights were asked for by name."""
ELSEWHERE = f"connect to the internet once, or give a local file to --init, or {installed.PACKAGE}, which is installed"
"""What to do without a download."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A backbone's state, with the options and the preprocessing that belong to it."""

    source: str
    """File or name that the weights came from."""
    state: dict[str, Tensor]
    """Tensors by place in the file, a part of them under timm's key names."""
    renamed: str = ""
    """Words on what became of the keys of the file. Empty if they are as in the file."""
    name: str | None = None
    """Name of the timm model that they belong to. None if they do not say."""
    arch: str | None = None
    """Name of a timm model among the options of the code that wrote them, which may mean a model of its own by it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of ``timm.create_model`` that they were trained with."""
    mean: tuple[float, float, float] | None = None
    """Mean that the preprocessing subtracts. None if they do not say."""
    std: tuple[float, float, float] | None = None
    """Standard deviation that the preprocessing divides by. None if they do not say."""


def read_weights(init: str) -> Weights:
    """Read weights from a file, a run folder or checkpoint of ours, timm's pretrained name, or those installed with us.

    Raises:
        CheckpointError: If nothing of that name exists, or it cannot be read or downloaded.
    """
    path = Path(init)
    if path.is_dir():
        return _from_checkpoint(find_checkpoint(path))
    if path.is_file():
        weights = _from_file(path)
        state, words = renamed(weights.state)
        return replace(weights, state=state, renamed=words)
    if init == installed.PACKAGE:
        return _from_package()
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
    name = config.name if named else weights.name or weights.arch or config.name
    if weights.name is not None and name.split(".")[0] != weights.name.split(".")[0]:
        raise ConfigError(
            f"weights {weights.source} belong to {weights.name}; expected {name} (leave out --backbone to use theirs)"
        )
    for key, value in weights.options.items():
        if config.options.get(key, value) != value:
            raise ConfigError(
                f"weights {weights.source} need {key}={value!r}; expected no other, got {config.options[key]!r}"
            )
    if weights.name is None and not named and (problem := why_unnamed(weights.state, replace(config, name=name))):
        raise ConfigError(f"weights {weights.source} {problem}")
    known = named or weights.name or weights.arch  # else it is taken for the default network, as configured
    fallback = _pretrained_settings(name) if known else None
    return replace(
        config,
        name=name,
        options={**config.options, **weights.options},
        init=weights.source,
        mean=weights.mean or (fallback.mean if fallback else config.mean),
        std=weights.std or (fallback.std if fallback else config.std),
    )


def load_into(backbone: Backbone, weights: Weights) -> str:
    """Load weights into a backbone, comparing every key and shape.

    Keys of layers that the backbone leaves out may be missing or present, and so may heads of a training. Any other
    difference is an error.

    Returns:
        Words on which part of the file was taken, and why. Empty if it holds the backbone and nothing else.

    Raises:
        CheckpointError: If a key is missing or unknown, a shape differs, or a value is of another kind or not finite.
    """
    found = fit(weights.state, backbone)
    if found.problem:
        raise CheckpointError(
            f"weights {weights.source} do not fit: {found.problem}; expected {advice(weights.state, found, backbone)}"
        )
    needed = backbone.model.state_dict()
    for key, tensor in found.state.items():
        if key in needed and needed[key].is_floating_point() and not tensor.is_floating_point():
            raise CheckpointError(
                f"weights {weights.source} hold {key} as {str(tensor.dtype).removeprefix('torch.')}; expected floating "
                "point numbers, as they were before any quantization"
            )
    state = {key: found.state.get(key, tensor).to(tensor.dtype) for key, tensor in needed.items()}
    broken = [key for key, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise CheckpointError(
            f"weights {weights.source} hold values that are no numbers (NaN or infinite) in {broken[0]}{more}; "
            "expected numbers: take others, or a checkpoint from before"
        )
    backbone.model.load_state_dict(state)
    return "; ".join(filter(None, (weights.renamed, found.words)))


def _from_file(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "slotseg" in metadata:
                return _from_checkpoint(path)
            state = tensors_in({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
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
    """Read all tensors by key, in whatever dicts they are."""
    content = load_plain(path)
    if isinstance(content, dict) and "message_hub" in content:
        content.pop("ema_state_dict", None)  # mmengine saves the average as state_dict, and here what was averaged
    state = tensors_in(content)
    if not state:
        raise CheckpointError(f"weights {path} hold no state dict; expected tensors by key, found {_kind(content)}")
    return Weights(source=str(path), state=state, arch=_architecture(content))


def _kind(content: object) -> str:
    """What a file without weights holds, in words."""
    if not isinstance(content, dict):
        return "no dict"
    if is_optimizer(content):
        return "the state of an optimiser"
    keys = ", ".join(map(str, [*content][:SHOWN]))
    return f"the keys {keys}" if keys else "an empty dict"


def _architecture(content: Mapping[str, Any]) -> str | None:
    """Name of a timm model among the options in a file, None if there is none."""
    for options in (content, *(content.get(name) for name in OPTIONS)):
        values = vars(options) if isinstance(options, Namespace) else options
        for name in ARCHITECTURES:
            value = values.get(name) if isinstance(values, Mapping) else None
            if isinstance(value, str) and timm.is_model(value):
                return value
    return None


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


def _from_package() -> Weights:
    return Weights(
        source=installed.PACKAGE,
        state=installed.read_state(),
        name=installed.MODEL,
        mean=installed.MEAN,
        std=installed.STD,
    )


def _from_timm(name: str) -> Weights:
    pretrained = _pretrained_settings(name)
    if pretrained is None or not (pretrained.hf_hub_id or pretrained.url or pretrained.file):
        raise CheckpointError(f"timm has no pretrained weights for {name!r}; expected a name such as resnet50.a1_in1k")
    repo = None if pretrained.custom_load else pretrained.hf_hub_id
    file = hub.cached(repo) if repo else None
    if repo and not file and (reason := hub.unreachable(repo, PATIENCE)):
        raise CheckpointError(f"weights {name!r} could not be downloaded ({reason}); {ELSEWHERE}")
    if not file:
        _announce(name, pretrained)
    try:
        with hub.quiet():
            if repo and not file:
                with suppress(EntryNotFoundError):  # timm takes another file
                    file = hub.fetch(repo)
            overlay = {"file": str(file)} if file else None
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # OSError when offline; halfway, the HTTP library's own, which differs by version
        what = f"cannot be read from {file}" if file else "could not be downloaded"
        reason = str(error) if isinstance(error, hub.StalledError) else type(error).__name__
        raise CheckpointError(f"weights {name!r} {what} ({reason}); {ELSEWHERE}") from error
    return Weights(source=name, state=model.state_dict(), name=name, mean=pretrained.mean, std=pretrained.std)


def _announce(name: str, pretrained: Any) -> None:
    """Log how large a download is, and whose."""
    size = sum(p.numel() for p in timm.create_model(name, pretrained=False).parameters()) * 4
    place = hub.place(pretrained.hf_hub_id) if pretrained.hf_hub_id else pretrained.url or pretrained.file
    licence = pretrained.license or "not said"
    log.info("Weights %s: %s from %s (license: %s), downloaded once", name, amounts.size(size), place, licence)
