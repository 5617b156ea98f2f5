"""What may change in the middle of a run: how long and how fast it learns, not what or from what."""

from collections.abc import Mapping
from typing import Any

from slotseg.config import TrainConfig, to_dict, with_values
from slotseg.errors import ConfigError
from slotseg.presets import flatten

MAY_CHANGE = (
    "steps",
    "epochs",
    "optimizer.learning_rate",
    "optimizer.final_learning_rate",
    "optimizer.weight_decay",
    "optimizer.backbone_scale",
    "segment.scales",
    "segment.mirror",
    "segment.refinement",
    "segment.edges",
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


def changed(config: TrainConfig, values: Mapping[str, Any]) -> tuple[TrainConfig, dict[str, tuple[Any, Any]]]:
    """The configuration of a run that goes on with other settings.

    Args:
        config: It was started with.
        values: Settings by dotted name; those that are as they were change nothing.

    Returns:
        The new configuration; by name, what was and what is.

    Raises:
        ConfigError: If a setting is unknown or out of range, or cannot change in the middle of a run.
    """
    if "steps" in values or "epochs" in values:  # one replaces the other
        values = {"steps": None, "epochs": None, **values}
    new = with_values(config, values)
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
