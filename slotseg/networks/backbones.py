"""A timm model as a dense feature extractor.

It is timm's own model without the layers behind the level that is used, so its state keeps timm's
key names (torchvision's, for ResNets). Ours: convolutions that repeat the edge of their map.
Letters: B images, H W pixels, h w cells.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import timm
import torch.nn.functional as F
from timm.layers import Conv2dSame  # type: ignore[attr-defined]
from torch import Tensor, nn

from slotseg.config import BackboneConfig
from slotseg.errors import ConfigError

FINEST = 8
"""Least stride of a level that a decoder reads. Finer ones are large and know little more than the pixels."""
VIT_LEVELS = 3
"""Layers that a decoder reads of a network whose layers all have one stride."""


class Level(NamedTuple):
    """A level of a timm model that a decoder reads."""

    stage: int
    """Index of the level in timm's list."""
    channels: int


class Backbone(nn.Module):
    """One feature level of a timm model, and the finer ones below it.

    Args:
        config: Model, level and padding. Weights are random until they are loaded (``slotseg.exchange.weights``).

    Attributes:
        config: Model, level and padding.
        channels: Channels of the dense map.
        stride: Pixels per cell, the same in both directions.
        strides: Those of all levels, ascending.
        levels: Levels of ``pyramid``, the coarsest last, which is the dense map.
        known_keys: Keys of the whole model's state, also of the layers that are left out.

    Raises:
        ConfigError: If timm has no such model, level, stride or option.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        model = _create(config)
        levels = model.feature_info
        self.stage = _choose_level(config, [int(level["reduction"]) for level in levels])
        self.channels = int(levels[self.stage]["num_chs"])
        self.stride = int(levels[self.stage]["reduction"])
        self.strides = sorted({int(level["reduction"]) for level in levels})
        strides = [int(level["reduction"]) for level in levels[: self.stage + 1]]
        self.levels = [Level(stage, int(levels[stage]["num_chs"])) for stage in _levels_below(strides)]
        self.known_keys = frozenset(model.state_dict())
        # A plain ViT has one stride throughout; its final norm belongs to any of its levels.
        self.norm = len({level["reduction"] for level in levels}) == 1 and len(levels) > 1
        model.prune_intermediate_layers([self.stage], prune_norm=not self.norm, prune_head=True)
        if hasattr(model, "head"):
            model.head = nn.Identity()  # timm may leave its norm there
        if config.padding == "replicate":
            repeat_edges(model)
        self.model = model

    def forward(self, images: Tensor, *, pyramid: bool = False) -> Tensor | list[Tensor]:
        """Dense map ``(B, channels, h, w)`` of normalised images ``(B, 3, H, W)``, or the maps of ``pyramid``."""
        stages = [level.stage for level in self.levels] if pyramid else [self.stage]
        maps: list[Tensor] = self.model.forward_intermediates(
            images, indices=stages, norm=self.norm, stop_early=True, intermediates_only=True
        )
        return maps if pyramid else maps[0]

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Maps of ``levels`` of normalised images ``(B, 3, H, W)``; the last is the dense map."""
        maps: list[Tensor] = self(images, pyramid=True)  # through a call, which may be compiled
        return maps


def are_numbers(features: Tensor) -> bool:
    """Whether features are finite, and so small that their squares are, too."""
    return bool(features.float().square().sum().isfinite())


def fitting_size(stride: int) -> int:
    """A multiple of a stride, at least twice it, that is about as large as the views of the preset ``photos``."""
    return max(2, round(160 / stride)) * stride


def repeat_edges(model: nn.Module) -> None:
    """Let every convolution that pads with zeros repeat the edge of its map instead.

    Zeros tell a network where the photo ends, and cells near an edge then resemble each other
    whatever they show. Parameters keep their values and names.
    """
    for name, conv in list(model.named_modules()):
        if isinstance(conv, nn.Conv2d) and (isinstance(conv, Conv2dSame) or any(conv.padding)):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, EdgeConv2d(conv))


class EdgeConv2d(nn.Module):
    """A convolution that repeats the edge of its map instead of padding it with zeros.

    Args:
        conv: Convolution to replace, with symmetric padding, or timm's ``Conv2dSame``.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        self.padding = None if isinstance(conv, Conv2dSame) else tuple(int(p) for p in conv.padding)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in, H, W)`` to ``(B, out, h, w)``, as large as the result of ``conv``."""
        (top, bottom), (left, right) = (self._padding(x.shape[axis + 2], axis) for axis in (0, 1))
        x = F.pad(x, (left, right, top, bottom), mode="replicate")
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _padding(self, size: int, axis: int) -> tuple[int, int]:
        if self.padding is not None:
            return self.padding[axis], self.padding[axis]
        stride, reach = self.stride[axis], (self.weight.shape[axis + 2] - 1) * self.dilation[axis]
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)  # an output for every stride
        return total // 2, total - total // 2


def _create(config: BackboneConfig) -> Any:
    if not timm.is_model(config.name):
        near = timm.list_models(f"*{config.name.split('.')[0]}*")[:5] or timm.list_models("resnet*")[:5]
        raise ConfigError(f"backbone {config.name!r} is not a timm model; expected a name such as {', '.join(near)}")
    arguments: dict[str, Any] = {"in_chans": config.in_chans, **config.options}
    if config.output_stride is not None:
        arguments["output_stride"] = config.output_stride
    try:
        model = _create_for_any_size(config.name, arguments)
    except (LookupError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        given = json.dumps({name: value for name, value in arguments.items() if name != "in_chans"}, default=str)
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        reason = f"it knows no {unknown[1]}" if unknown else "a value is of another kind or out of range"
        raise ConfigError(
            f"backbone {config.name!r} cannot be built with {given}: {reason}; expected backbone.options that timm has "
            "for this model"
        ) from error
    if not hasattr(model, "forward_intermediates") or not getattr(model, "feature_info", None):
        raise ConfigError(f"backbone {config.name!r} has no dense feature levels in this version of timm")
    return model


def _create_for_any_size(name: str, arguments: dict[str, Any]) -> Any:
    """Create a model. ViTs resample their position embedding to the image; other models don't know that option."""
    try:
        return timm.create_model(name, pretrained=False, **{"dynamic_img_size": True, **arguments})
    except TypeError:
        return timm.create_model(name, pretrained=False, **arguments)


def _levels_below(strides: Sequence[int]) -> list[int]:
    """Indices of the levels to read, given the strides of all up to the dense map: the last of each stride.

    Of a network whose levels all have one stride, they are spread evenly.
    """
    last, stride = len(strides) - 1, strides[-1]
    if len(set(strides)) == 1:
        return sorted({(i + 1) * len(strides) // VIT_LEVELS - 1 for i in range(VIT_LEVELS)} - {-1})
    return [i for i, s in enumerate(strides) if i == last or (FINEST <= s < stride and s not in strides[i + 1 :])]


def _choose_level(config: BackboneConfig, strides: list[int]) -> int:
    if config.stride is not None:
        levels = [i for i, stride in enumerate(strides) if stride == config.stride]
        if not levels:
            known, size = ", ".join(map(str, sorted(set(strides)))), fitting_size(max(strides))
            raise ConfigError(
                f"backbone.stride is {config.stride}; {config.name} has levels of stride {known}: give one of these as "
                f"--stride, and to train an --image-size that is a multiple of it, such as {size}"
            )
        return levels[-1]
    stage = -1 if config.stage is None else config.stage
    if not -len(strides) <= stage < len(strides):
        raise ConfigError(f"backbone.stage is {stage}; {config.name} has levels 0 to {len(strides) - 1}")
    return stage % len(strides)
