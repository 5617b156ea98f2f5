"""A run's backbone, and torchvision's version of it.

Key names and shapes are compared, and so is what the weights compute. A variant with the same keys but, say, another
``bn_eps`` is no twin.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from slotseg.config import BackboneConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.networks.backbones import Backbone
from slotseg.runs import checkpoint
from slotseg.runs.folder import find_checkpoint
from slotseg.values import from_dict

TWINS = ("resnet*", "resnext*", "wide_resnet*")
"""Patterns of the models that timm and torchvision have under the same names."""


@dataclass(frozen=True, kw_only=True)
class TrainedBackbone:
    """The teacher's backbone of a run."""

    source: Path
    """Checkpoint that the backbone comes from."""
    config: BackboneConfig
    """Configuration of the backbone, with how photos are normalised for it."""
    state: Mapping[str, Tensor]
    """Tensors by timm's key names, without the layers that the run leaves out."""


def read_backbone(path: Path | None) -> TrainedBackbone:
    """Read the teacher's backbone of a run folder or checkpoint, by default of the newest run.

    Raises:
        CheckpointError: If there is no checkpoint, or it holds a backbone that timm did not make.
    """
    source = find_checkpoint(path)
    content = checkpoint.load(source)
    checkpoint.warn_if_untrained(source, content.info)
    state = content.part("teacher.backbone.model.")
    if not state:
        raise CheckpointError(f"{source} holds no backbone of timm's; expected a run of `slotseg train`")
    return TrainedBackbone(
        source=source, config=from_dict(BackboneConfig, content.info["config"]["backbone"]), state=state
    )


@dataclass(frozen=True, kw_only=True)
class Twin:
    """torchvision's version of a backbone."""

    name: str
    """Name in both libraries."""
    config: BackboneConfig
    """Configuration of our backbone."""
    groups: int
    """Groups of the 3x3 convolutions."""
    width: int
    """Channels of each group in the first stage."""
    missing: list[str]
    """Keys of the layers that the run leaves out, except the classifier's."""

    @property
    def depth(self) -> int:
        """Number of layers, as in the name."""
        return int(re.findall(r"\d+", self.name)[0])


def torchvision_twin(backbone: TrainedBackbone) -> Twin:
    """Find torchvision's version of a backbone, and compare keys, shapes and the features of an image with it.

    Padding and ``output_stride`` are left aside, as they belong to how weights are used.

    Raises:
        ConfigError: If torchvision has none, or a backbone's options make it another model.
    """
    config = backbone.config
    name = config.name.split(".")[0]
    names = torchvision.models.list_models(module=torchvision.models, include=TWINS)
    if name not in names:
        raise ConfigError(
            f"backbone {config.name} has no counterpart with the same keys in torchvision; expected one of "
            f"{', '.join(names)}; timm's format takes any"
        )
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name)
    ours = Backbone(replace(config, padding="zeros", output_stride=None))
    wrong = _first_difference(backbone.state, theirs.state_dict(), ours.stage)
    if wrong is None:
        ours.model.load_state_dict(backbone.state)
        theirs.load_state_dict(backbone.state, strict=False, assign=True)
        wrong = None if _same_features(ours, theirs) else "what it computes"
    if wrong is not None:
        raise ConfigError(
            f"backbone {name} with {dict(config.options)} is not torchvision's {name}: it differs in {wrong}; "
            "expected no such options, or timm's format, which keeps them"
        )
    missing = [key for key in theirs.state_dict() if key not in backbone.state and not key.startswith("fc.")]
    return Twin(name=name, config=config, groups=theirs.groups, width=theirs.base_width, missing=missing)


def _first_difference(state: Mapping[str, Tensor], theirs: Mapping[str, Tensor], stage: int) -> str | None:
    """The first key that only one side has or whose shape differs. Layers behind a stage don't count."""
    left_out = ("fc.", *(f"layer{number}." for number in range(stage + 1, 5)))
    needed = {key: tensor.shape for key, tensor in theirs.items() if not key.startswith(left_out)}
    for key in [*needed, *state]:
        if key not in needed or key not in state or state[key].shape != needed[key]:
            return key
    return None


@torch.no_grad()
def _same_features(ours: Backbone, theirs: Any) -> bool:
    """Whether both turn an image into the same dense map, in double precision."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dense = ours.double().eval()(image)
    for part in (theirs.conv1, theirs.bn1, *(getattr(theirs, f"layer{n}") for n in range(1, ours.stage + 1))):
        part.double().eval()
    features = F.relu(theirs.bn1(theirs.conv1(image)))
    if ours.stage > 0:
        features = theirs.maxpool(features)
    for number in range(1, ours.stage + 1):
        features = getattr(theirs, f"layer{number}")(features)
    if dense.shape != features.shape:
        return False
    return torch.allclose(dense, features, rtol=1e-6, atol=1e-6 * float(dense.abs().max()), equal_nan=True)
