"""Options, progress and rates in a checkpoint of the published code, and our settings from them."""

import logging
import math
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from slotseg.config import TrainConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.presets import DATASET_PRESETS, resolve
from slotseg.values import is_number, is_whole

log = logging.getLogger(__name__)

NAME = "official"
"""Name in place of a preset's. Folders of imported runs are named after it too."""
SOURCE = "official checkpoint"
"""Source of a setting that the file gives."""
ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""Backbones of the published code; timm has them under the same names."""
WHOLE_OPTIONS = {
    "dim_hidden": "model.hidden_dim",
    "dim_out": "model.projection_dim",
    "num_prototypes": "model.num_prototypes",
    "epochs": "epochs",
    "image_size": "views.image_size",
    "seed": "seed",
}
"""Options that are whole numbers, with the setting that each becomes."""
NUMBER_OPTIONS = {
    "teacher_momentum": "teacher_momentum",
    "teacher_temp": "model.teacher_temperature",
    "student_temp": "model.student_temperature",
    "center_momentum": "model.center_momentum",
    "group_loss_weight": "model.grouping_weight",
    "base_lr": "optimizer.learning_rate",
    "warmup_epoch": "optimizer.warmup_epochs",
    "weight_decay": "optimizer.weight_decay",
    "momentum": "optimizer.momentum",
}
"""Options that are any number, with the setting that each becomes."""
NEEDED = ("arch", "optimizer", "batch_size", "epochs", "base_lr", "warmup_epoch")
"""Options without which steps and rates cannot be known."""
LARGEST = 1e15
"""Largest absolute value of an option or a count."""
PEAK = 100
"""Ratio of the peak rate to the first rate of the warm-up, in the published code and in ours."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a run of the published code."""

    epoch: int
    """Epochs done."""
    steps_per_epoch: int
    """Steps of one epoch."""
    batch_size: int
    """Photos per step, over all processes."""


def read_options(args: Any) -> dict[str, Any]:
    """The training options by name, all of them values that a header can keep.

    Raises:
        CheckpointError: If ``args`` holds no plain options, lacks a needed one, or names a network or an optimiser
            that we lack.
    """
    options = vars(args) if isinstance(args, Namespace) else args
    if not isinstance(options, dict):
        raise refusal(f"args is a {type(args).__name__}", "an argparse.Namespace of options")
    for name, value in options.items():
        if not isinstance(name, str) or not _is_option(value):
            raise refusal(f"the option {shown(name)} is {shown(value)}", "a text, a number, true, false or none")
    missing = [name for name in NEEDED if name not in options]
    if missing:
        raise refusal(f"args lacks {listed(missing)}", f"at least {listed(NEEDED)}")
    if options["arch"] not in ARCHITECTURES:
        raise refusal(f"arch is {shown(options['arch'])}", f"one of {', '.join(ARCHITECTURES)}")
    if options["optimizer"] != "lars":
        raise refusal(f"optimizer is {shown(options['optimizer'])}", "lars, whose momenta can be taken over")
    return dict(options)


def _is_option(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_option(v) for v in value)
    return value is None or isinstance(value, str | int | float)


def read_progress(options: Mapping[str, Any], parts: Mapping[str, Any]) -> Progress:
    """Read epochs, steps and photos per step. The file says them only by its schedule and rates.

    Args:
        options: Options from ``read_options``.
        parts: Parts of the whole file. ``scheduler``, ``optimizer`` and ``epoch`` are used.

    Raises:
        CheckpointError: If these do not fit each other.
    """
    epochs, warmup = _whole(options, "epochs", 1), _number(options, "warmup_epoch")
    after = parts["scheduler"].get("after_scheduler", parts["scheduler"])
    if not isinstance(after, dict):
        raise refusal(f"scheduler.after_scheduler is {shown(after)}", "the state of a cosine schedule")
    steps = _whole(after, "T_max", 1, "scheduler.after_scheduler.")
    if not 0 <= warmup < epochs:
        raise refusal(f"warmup_epoch is {warmup:g} of {epochs} epochs", "fewer than them")
    per_epoch = steps / (epochs - warmup)
    if per_epoch != round(per_epoch) or per_epoch < 1:
        raise refusal(
            f"the cosine has {steps} steps in the {epochs - warmup:g} epochs after warm-up",
            "whole steps per epoch: T_max / (epochs - warmup_epoch)",
        )
    epoch = _whole(parts, "epoch", 1)
    if epoch > epochs:
        raise refusal(f"epoch is {epoch} of {epochs}", "at most all of them")
    progress = Progress(epoch=epoch, steps_per_epoch=round(per_epoch), batch_size=_batch_size(options, parts))
    _compare_schedule(parts["scheduler"], after, epoch * progress.steps_per_epoch)
    return progress


def _batch_size(options: Mapping[str, Any], parts: Mapping[str, Any]) -> int:
    """Photos per step, over all processes. The rate was set to ``base_lr * photos / 256``."""
    rate = _number(parameter_group(parts["optimizer"]), "initial_lr", "optimizer.param_groups.")
    of_process, base = _whole(options, "batch_size", 1), _number(options, "base_lr")
    photos = 256 * rate / base if base > 0 else math.inf
    if not math.isfinite(photos) or photos < 1 or not math.isclose(photos, round(photos), rel_tol=1e-6):
        raise refusal(f"initial_lr {rate:g} is not base_lr {base:g} for a batch of whole photos", "base_lr * n / 256")
    if round(photos) % of_process:
        raise refusal(
            f"initial_lr {rate:g} and base_lr {base:g} mean batches of {round(photos)} photos, and batch_size is "
            f"{of_process} for each process",
            "a multiple of it",
        )
    return round(photos)


def parameter_group(optimizer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The optimiser's only group of parameters.

    Raises:
        CheckpointError: If there is not exactly one group.
    """
    groups = optimizer.get("param_groups")
    if not isinstance(groups, list) or len(groups) != 1 or not isinstance(groups[0], dict):
        raise refusal("optimizer.param_groups is not what was expected", "a list of one group")
    return groups[0]


def _compare_schedule(scheduler: Mapping[str, Any], after: Mapping[str, Any], step: int) -> None:
    """Warn where the schedule counted other steps, or warmed up in another way, than ours will continue."""
    counts = [s.get("last_epoch", 0) for s in (scheduler, after)]
    if isinstance(counts[0], int) and isinstance(counts[1], int) and step not in (counts[0], sum(counts)):
        log.warning("Its schedule has counted %d steps and its epochs are %d, which is taken", max(counts), step)
    if scheduler.get("multiplier", PEAK) != PEAK:
        log.warning("Its warm-up rises %s-fold; here it rises %d-fold", scheduler["multiplier"], PEAK)


def our_settings(
    options: Mapping[str, Any], progress: Progress, parts: Mapping[str, Any]
) -> tuple[TrainConfig, dict[str, str]]:
    """Make our settings from those that the file gives, over the preset for its data set.

    Args:
        options: Options from ``read_options``.
        progress: Progress from ``read_progress``.
        parts: Parts of the whole file. ``scheduler`` and ``optimizer`` are used.

    Returns:
        The configuration, and the source of each value by dotted name.

    Raises:
        CheckpointError: If an option is out of range.
    """
    group, after = parameter_group(parts["optimizer"]), parts["scheduler"].get("after_scheduler", parts["scheduler"])
    values: dict[str, Any] = {"backbone.name": options["arch"], "batch_size": progress.batch_size}
    for state, name, setting in (
        (group, "eta", "optimizer.trust_coefficient"),
        (group, "momentum", "optimizer.momentum"),
        (group, "weight_decay", "optimizer.weight_decay"),
        (after, "eta_min", "optimizer.final_learning_rate"),
    ):
        if state.get(name) is not None:
            values[setting] = _number(state, name)
    values |= {
        setting: _whole(options, name, 0) for name, setting in WHOLE_OPTIONS.items() if options.get(name) is not None
    }
    values |= {
        setting: _number(options, name) for name, setting in NUMBER_OPTIONS.items() if options.get(name) is not None
    }
    if options.get("teacher_temp") is not None:  # the published code assigns cells to slots at the same temperature
        values["model.assignment_temperature"] = values["model.teacher_temperature"]
    if options.get("min_scale") is not None:
        values["views.area"] = (_number(options, "min_scale"), 1.0)
    preset = DATASET_PRESETS.get(str(options.get("dataset", "")).lower(), "coco-r50")
    try:
        config, sources = resolve(preset, values)
    except ConfigError as error:
        raise CheckpointError(f"its options are out of range: {error}") from error
    return config, {name: SOURCE if source == "option" else source for name, source in sources.items()}


def _number(values: Mapping[str, Any], name: str, where: str = "") -> float:
    value = values.get(name)
    if not is_option_number(value):
        raise refusal(f"{where}{name} is {shown(value)}", "a number")
    return float(value)


def _whole(values: Mapping[str, Any], name: str, least: int, where: str = "") -> int:
    value = values.get(name)
    if not is_whole(value) or not least <= value <= LARGEST:
        raise refusal(f"{where}{name} is {shown(value)}", f"a whole number of at least {least}")
    return value


def is_option_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number that an option or a state of the optimiser can be."""
    return is_number(value) and abs(value) <= LARGEST


def shown(value: Any) -> str:
    """Text of a value for a sentence, however long or strange the value is."""
    return repr(value)[:60] if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


def listed(names: Iterable[str]) -> str:
    """Text of names for a sentence."""
    return ", ".join(names)


def refusal(wrong: str, expected: str) -> CheckpointError:
    """An error that says what is wrong and what was expected."""
    return CheckpointError(f"{wrong}; expected {expected}")
