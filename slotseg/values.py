"""Values that came from outside, and the configs made of them: checked, nested, by dotted name."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

from slotseg.errors import ConfigError

T = TypeVar("T")


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number; true and false are none, though Python counts them as such."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def require(ok: bool, config: object, name: str, expected: str) -> None:
    """Refuse a setting unless it is in order.

    Raises:
        ConfigError: If not ``ok``, with the field's name and value, and what was expected.
    """
    if not ok:
        raise ConfigError(f"{name} is {getattr(config, name)!r}; expected {expected}")


def require_range(config: object, low: float, high: float, *names: str) -> None:
    """Refuse settings that are no numbers from ``low`` to ``high``, both included.

    Raises:
        ConfigError: For the first of them.
    """
    for name in names:
        value = getattr(config, name)
        require(is_number(value) and low <= value <= high, config, name, f"a number from {low} to {high}")


def require_positive(config: object, *names: str) -> None:
    """Refuse settings that are no finite numbers above 0.

    Raises:
        ConfigError: For the first of them.
    """
    for name in names:
        value = getattr(config, name)
        require(is_number(value) and 0 < value < math.inf, config, name, "a number above 0")


def to_dict(config: object) -> dict[str, Any]:
    """A config as plain, JSON-ready values."""
    assert dataclasses.is_dataclass(config)
    assert not isinstance(config, type)
    return dataclasses.asdict(config)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a config from plain values, nested ones included.

    A config whose settings were renamed has ``upgraded`` and ``REPLACED``. The first gives settings of earlier versions
    their names of today. The second tells a person what they became.

    Raises:
        ConfigError: If a key is unknown or a value is out of range.
    """
    assert dataclasses.is_dataclass(cls)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{cls.__name__} is {values!r}; expected settings by name")
    values = getattr(cls, "upgraded", dict)(values)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        today = getattr(cls, "REPLACED", {}).get(unknown[0])
        expected = f"{today}, which replaced it" if today else f"one of {', '.join(fields)}"
        raise ConfigError(f"unknown setting {unknown[0]!r} in {cls.__name__}; expected {expected}")
    parsed = {}
    for name, value in values.items():
        nested = fields[name].default_factory
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            parsed[name] = from_dict(nested, value)
        else:
            parsed[name] = tuple(value) if isinstance(value, list) else value
    return cls(**parsed)


def with_values(config: T, values: Mapping[str, Any]) -> T:
    """A copy with some settings changed, addressed by dotted names such as ``model.num_prototypes``.

    Raises:
        ConfigError: If a name is unknown or a value is out of range.
    """
    tree = to_dict(config)
    for dotted, value in values.items():
        *parents, leaf = dotted.split(".")
        branch: Any = tree
        for parent in parents:
            branch = branch.get(parent)
            if not isinstance(branch, dict):
                raise ConfigError(f"unknown setting {dotted!r}; {parent!r} has no settings below it")
        branch[leaf] = value
    return from_dict(type(config), tree)
