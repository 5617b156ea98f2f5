"""Sentences on weights that do not fit: which of timm's usual models they are of, and what has to be given."""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from slotseg.config import BackboneConfig
from slotseg.errors import ConfigError
from slotseg.exchange.fitting import Fit, fit, shown
from slotseg.networks.backbones import Backbone, fitting_size

USUAL = {
    "layer1.0.conv1.weight": (
        *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
        *("wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d", "resnext101_32x8d", "resnet50d"),
    ),
    "attn.qkv.weight": (
        *(f"vit_{size}_patch16_224" for size in ("small", "base", "tiny", "large")),
        *(f"vit_{size}_patch14_dinov2" for size in ("small", "base", "large", "giant")),
        *(f"vit_{size}_patch14_reg4_dinov2" for size in ("small", "base", "large")),
        *(f"vit_{size}_patch16_dinov3" for size in ("small", "base", "large")),
        *("vit_small_patch8_224", "vit_base_patch8_224", "vit_small_patch32_224", "vit_base_patch32_224"),
        *("deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "swin_base_patch4_window7_224"),
    ),
    "conv_stem.weight": (
        *("mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_050", "mobilenetv3_small_100"),
        *("mobilenetv3_large_100", "efficientnet_lite0", "efficientnet_b0"),
    ),
    "conv_dw.weight": ("convnext_tiny", "convnext_small", "convnext_base"),
}
"""Names of models, by the end of a key that all of them have."""
SHOWN = 3
"""Keys that a sentence names."""


def likely_model(state: Mapping[str, Tensor]) -> str | None:
    """The first usual model that a part of a file fits wholly, None if there is none.

    Args:
        state: Tensors by place, as from ``slotseg.exchange.fitting.tensors_in``.
    """
    names = (name for end, names in USUAL.items() if any(key.endswith(end) for key in state) for name in names)
    return next((name for name in names if (model := _whole(name)) and not fit(state, model).problem), None)


def options_for(name: str, stride: int | None) -> str:
    """Options of the command line for a model, also where a stride is asked for that it does not have."""
    model = _whole(name)
    if model is None or stride is None or stride in model.strides:
        return f"--backbone {name}"
    return f"--backbone {name} --stride {model.stride}, and to train --image-size {fitting_size(model.stride)}"


def advice(state: Mapping[str, Tensor], found: Fit, backbone: Backbone) -> str:
    """What was expected of weights that do not fit a backbone, and what to do."""
    config = backbone.config
    name = likely_model(state)
    if name and name == config.name.split(".")[0] and config.options:
        return f"those of {name} {_changed(config)}"
    if name and name != config.name.split(".")[0]:
        return f"those of {config.name}, and they are of {name}: give {options_for(name, config.stride)}"
    keys = [key for key in backbone.model.state_dict() if key not in found.state][:SHOWN]
    such = f", such as {', '.join(keys)}" if keys else ""
    return (
        f"the keys and shapes of {config.name}{such}, and the file holds {listed(state)}: name the timm model that "
        "they were trained as with --backbone, and what differs from it with --set backbone.options"
    )


def why_unnamed(state: Mapping[str, Tensor], config: BackboneConfig) -> str:
    """Why weights that do not say which model they are of cannot be used without it, with all that has to be given.

    Args:
        state: Tensors by place.
        config: Configuration of the model that is taken where none is named.

    Returns:
        The end of a sentence; empty if they fit this model.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        found = fit(state, Backbone(config))
    if not found.problem:
        return ""
    name = likely_model(state)
    if name and name == config.name.split(".")[0] and config.options:
        return f"do not fit: they are of {name} as timm has it; expected those of {name} {_changed(config)}"
    of = f"their keys are those of {name}" if name else f"they hold {listed(state)}"
    given = options_for(name, config.stride) if name else "--backbone with the name of a timm model"
    return f"do not say which model they are of, and do not fit {config.name}: {of}; expected {given}"


def _changed(config: BackboneConfig) -> str:
    """How a model differs from timm's of its name, and how to take timm's."""
    return f"with {dict(config.options)}: --set backbone.options={{}} takes it without"


def listed(state: Mapping[str, Tensor]) -> str:
    """The first keys of a file."""
    keys = [shown(key) for key in state]
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


@cache
def _whole(name: str) -> Backbone | None:
    """A model without its numbers; None where this version of timm lacks it."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return Backbone(BackboneConfig(name=name))
    except ConfigError:
        return None
