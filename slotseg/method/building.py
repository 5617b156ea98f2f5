"""From a configuration to a model with random weights, and to its optimiser."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slotseg.config import OptimizerConfig, TrainConfig
from slotseg.errors import ConfigError
from slotseg.method.lars import LARS
from slotseg.method.model import Encoder, SlotCon
from slotseg.networks.backbones import Backbone
from slotseg.networks.decoder import Decoder


def build_model(config: TrainConfig) -> SlotCon:
    """A model with random weights drawn from the configuration's seed.

    Raises:
        ConfigError: If there is no such backbone, or the size of views doesn't suit its stride.
    """
    torch.manual_seed(config.seed)
    backbone = Backbone(config.backbone)
    cells, rest = divmod(config.views.image_size, backbone.stride)
    if cells < 2 or rest:
        raise ConfigError(
            f"image_size is {config.views.image_size}; expected a multiple of the backbone's stride "
            f"{backbone.stride}, at least twice it"
        )
    return SlotCon(backbone, backbone.channels, config.model)


def add_decoder(encoder: Encoder, used: Tensor) -> Decoder:
    """Add an untrained decoder for the prototypes ``used``, indices ``(U,)``, to an encoder with a timm backbone."""
    assert isinstance(encoder.backbone, Backbone)
    decoder = Decoder(encoder.backbone, len(used))
    decoder.used.copy_(used)
    encoder.decoder = decoder.to(encoder.prototypes.weight.device).to(memory_format=torch.channels_last)
    return decoder


def add_decoders(model: SlotCon, used: Tensor) -> None:
    """Add untrained decoders of the same weights to student and teacher, for the prototypes ``used``, ``(U,)``."""
    student, teacher = (add_decoder(encoder, used) for encoder in (model.student, model.teacher))
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)


def compile_networks(model: SlotCon) -> None:
    """Let backbones and projectors go through ``torch.compile`` at their next call. Names of parameters stay.

    Decoders do not: with channels_last maps, torch compiles no gradient of their repeated edges that it accepts.
    """
    for encoder in (model.student, model.teacher):
        encoder.backbone.compile()
        encoder.projector.compile()


def compile_encoder(encoder: Encoder) -> None:
    """Let backbone, projector and decoder of a trained branch go through ``torch.compile`` at their next call."""
    encoder.backbone.compile()
    encoder.projector.compile()
    if encoder.decoder is not None:
        encoder.decoder.compile()


def build_optimizer(model: SlotCon, config: OptimizerConfig) -> Optimizer:
    """LARS or AdamW over the student and the predictor. Weight decay spares one-dimensional parameters."""
    backbone = {id(p) for p in model.student.backbone.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in model.parameters():
        if p.requires_grad:
            scale = config.backbone_scale if id(p) in backbone else 1.0
            groups.setdefault((scale, config.weight_decay if p.ndim > 1 else 0.0), []).append(p)
    settings: list[dict[str, Any]] = [
        {"params": params, "scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()
    ]
    if config.name == "lars":
        return LARS(settings, config.learning_rate, config.momentum, trust_coefficient=config.trust_coefficient)
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(settings, lr=config.learning_rate, fused=device in ("cpu", "cuda"))


def trained_names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    """Names of the optimiser's parameters, in its own order. Groups may differ from run to run."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
