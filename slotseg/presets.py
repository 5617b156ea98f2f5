"""Presets (named configurations), and a user's options laid over them, at the start or in the middle of a run."""

from collections.abc import Callable, Mapping
from typing import Any

from slotseg.config import BackboneConfig, DecoderConfig, ModelConfig, OptimizerConfig, TrainConfig, ViewsConfig
from slotseg.errors import ConfigError
from slotseg.values import flatten, to_dict, with_values


def coco_r50() -> TrainConfig:
    """COCO train2017 without labels: ResNet-50 from scratch, 800 epochs, K = 256."""
    return TrainConfig()  # paper: every default


def cocoplus_r50() -> TrainConfig:
    """COCO train2017 and unlabeled2017 without labels, about 241,000 photos: otherwise as coco-r50."""
    return TrainConfig()  # paper: the same numbers, more photos


def imagenet_r50() -> TrainConfig:
    """ImageNet-1k without labels: K = 2048, 200 epochs."""
    return TrainConfig(model=ModelConfig(num_prototypes=2048), epochs=200)  # paper


def cocostuff27_r50() -> TrainConfig:
    """COCO train2017 without labels: coco-r50 with K = 27, to be matched one-to-one with COCO-Stuff's 27 classes."""
    return TrainConfig(model=ModelConfig(num_prototypes=27))  # paper


def photos() -> TrainConfig:
    """A folder of photos on the machine at hand, from pretrained weights."""
    return TrainConfig(
        backbone=BackboneConfig(
            name="vit_small_patch16_224",
            init="vit_small_patch16_224.dino",  # ours: learned without labels, Apache-2.0; see docs/experiments.md
            stride=16,  # ours: four times the cells of the paper's stride 32
            padding="replicate",  # ours: zeros make the edges of photos concepts of their own
        ),
        model=ModelConfig(
            num_prototypes=None,  # ours: nobody knows how many concepts a folder holds
            trained_prototypes=128,  # ours: what is too fine can be merged, what is too coarse can't be split
            prototype_init="kmeans",  # ours: random ones fall out of use, and differ from seed to seed
            hidden_dim=512,  # ours: an eighth of the paper's, for CPUs
            grouping_weight=0.8,  # ours: among few photos the slots of others make poor negatives
            freeze_backbone=True,  # ours: a few hundred photos teach the heads, not a backbone
        ),
        views=ViewsConfig(
            image_size=160,  # ours: small photos, small batches
            area=(0.2, 1.0),
            kept=3,  # ours: a frozen backbone looks once
        ),
        optimizer=OptimizerConfig(
            name="adamw",  # ours: LARS barely moves in hundreds of steps
            learning_rate=2e-3,
            weight_decay=1e-4,
            warmup_epochs=0.25,
        ),
        decoder=DecoderConfig(steps=240),  # ours: borders finer than a cell, where colours change, in one look
        batch_size=16,
        epochs=None,
        steps=None,  # ours: epochs from the number of photos, see auto_epochs
        teacher_momentum=0.95,  # ours: 0.99 follows too slowly for so few steps
        log_every=10,
        checkpoint_every=250,
        previews=10,
    )


def tiny() -> TrainConfig:
    """The built-in scenes from random weights, in minutes on two CPU cores."""
    return TrainConfig(
        backbone=BackboneConfig(
            name="resnet18",
            stride=4,  # ours: borders of objects a few pixels wide
            options={"layers": [1, 1, 1, 1]},  # ours: sees 27 pixels, a texture and not its surroundings
        ),
        model=ModelConfig(
            num_prototypes=16,
            hidden_dim=128,
            projection_dim=64,
            teacher_temperature=0.04,  # ours: a sharper target settles within hundreds of steps
        ),
        views=ViewsConfig(
            image_size=64,
            area=(0.15, 0.6),  # ours: keeps textures at about their size
            hue=0.3,  # ours: colour says nothing about the scenes' classes
            saturation=0.4,
            blur=(0.0, 0.0),  # ours: blur and solarise would take the textures away
            solarize=(0.0, 0.0),
        ),
        optimizer=OptimizerConfig(
            name="adamw",  # ours: LARS barely moves in hundreds of steps
            learning_rate=1e-3,
            weight_decay=1e-4,
            warmup_epochs=1,
        ),
        batch_size=32,
        epochs=None,
        steps=600,
        teacher_momentum=0.95,  # ours: 0.99 follows too slowly for hundreds of steps
        precision="fp32",  # ours: the demo's metrics, on any machine
        log_every=20,
        checkpoint_every=200,
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "coco-r50": coco_r50,
    "cocoplus-r50": cocoplus_r50,
    "imagenet-r50": imagenet_r50,
    "cocostuff27-r50": cocostuff27_r50,
    "photos": photos,
    "tiny": tiny,
}

DATASET_PRESETS = {"coco": "coco-r50", "cocoplus": "cocoplus-r50", "imagenet": "imagenet-r50"}
"""The paper's recipe for each unlabelled training set."""

MAY_CHANGE = (
    "steps",
    "epochs",
    "optimizer.learning_rate",
    "optimizer.final_learning_rate",
    "optimizer.weight_decay",
    "optimizer.backbone_scale",
    "decoder.steps",
    "decoder.rounds",
    "decoder.photos",
    "decoder.learning_rate",
    "decoder.field_strength",
    "segment.scales",
    "segment.mirror",
    "segment.edges",
    "segment.field_strength",
    "precision",
    "compile",
    "log_every",
    "checkpoint_every",
    "checkpoint_minutes",
    "keep_every",
    "previews",
    "tensorboard",
)
"""Settings that the state of a run does not depend on, by dotted name."""


def auto_epochs(steps_per_epoch: int) -> int:
    """Epochs where neither they nor steps are given: 60 steps or one epoch, whichever is more."""
    return max(1, -(-60 // steps_per_epoch))


def resolve(preset: str, values: Mapping[str, Any]) -> tuple[TrainConfig, dict[str, str]]:
    """A preset with a user's settings on top.

    Args:
        preset: A key of ``PRESETS``.
        values: Settings by dotted name, such as ``{"model.num_prototypes": 27}``.

    Returns:
        The configuration, and for every dotted name where its value came from: ``option``,
        ``preset <name>`` or ``default``.

    Raises:
        ConfigError: If the preset or a setting is unknown, or a value out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}")
    base = PRESETS[preset]()
    values = _of_one_length(values)
    config = with_values(base, values)
    defaults, chosen = flatten(to_dict(TrainConfig())), flatten(to_dict(base))
    sources = {}
    for name, value in flatten(to_dict(config)).items():
        if name in values or name.rsplit(".", 1)[0] in values or value != chosen.get(name, value):
            sources[name] = "option"
        else:
            sources[name] = "default" if chosen.get(name, value) == defaults.get(name) else f"preset {preset}"
    return config, sources


def changed(config: TrainConfig, values: Mapping[str, Any]) -> tuple[TrainConfig, dict[str, tuple[Any, Any]]]:
    """The configuration of a run that goes on with other settings.

    Args:
        config: Configuration that the run was started with.
        values: Settings by dotted name; those that are as they were change nothing.

    Returns:
        The new configuration, and the old and new value of each change by dotted name.

    Raises:
        ConfigError: If a setting is unknown or out of range, or cannot change in the middle of a run.
    """
    new = with_values(config, _of_one_length(values))
    before, after = flatten(to_dict(config)), flatten(to_dict(new))
    differences = {name: (before.get(name), after.get(name)) for name in {**after, **before}}
    differences = {name: pair for name, pair in differences.items() if pair[0] != pair[1]}
    for name, (was, wanted) in differences.items():
        if name not in MAY_CHANGE:
            raise ConfigError(
                f"{name} was {was!r} when the run was started and is to be {wanted!r}; expected no change in the "
                "middle of a run: leave it out, or start a new run and take this one's weights with --init"
            )
    return new, differences


def sources_now(config: TrainConfig, before: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, str]:
    """Where each setting of a run came from, by its name of today.

    A run of an earlier version lacks some settings, and has others under another name or value.

    Args:
        config: Configuration of the run as it is read today.
        before: Configuration as it was written.
        sources: Origins as they were written, by the names of then.
    """
    was, defaults = flatten(before), flatten(to_dict(TrainConfig()))
    found = {}
    for name, value in flatten(to_dict(config)).items():
        if name not in was or was[name] != (list(value) if isinstance(value, tuple) else value):
            found[name] = "default" if name in defaults and value == defaults[name] else "earlier version"
        elif name in sources:
            found[name] = sources[name]
    return found


def _of_one_length(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings in which steps replace epochs, or epochs steps."""
    return {"steps": None, "epochs": None, **values} if "steps" in values or "epochs" in values else values
