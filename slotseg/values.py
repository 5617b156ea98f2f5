"""Values that came from outside, and the configs made of them: checked, nested, by dotted name."""

import dataclasses
import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

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


def from_dict(cls: type[T], values: Mapping[str, Any], room: str = "") -> T:
    """Build a config from plain values, nested ones included.

    A config whose settings were renamed has ``upgraded`` and ``REPLACED``. The first gives settings of earlier versions
    their names of today. The second tells a person what they became.

    Args:
        cls: The config's class.
        values: Settings by name.
        room: Start of the settings' dotted names, for messages.

    Raises:
        ConfigError: If a key is unknown, or a value is of the wrong kind or out of range. It names the setting in full.
    """
    assert dataclasses.is_dataclass(cls)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{cls.__name__} is {values!r}; expected settings by name")
    values = getattr(cls, "upgraded", dict)(values)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(map(str, set(values) - set(fields)))
    if unknown:
        raise ConfigError(f"unknown setting {unknown[0]!r} in {cls.__name__}; expected {_known(cls, unknown[0], room)}")
    hints = get_type_hints(cls)
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if rooms := _settings_below(cls).get(name):
            parsed[name] = from_dict(rooms, value, f"{room}{name}.")
        else:
            parsed[name] = _of_kind(value, hints[name])
    try:
        config = cls(**parsed)
    except ConfigError as error:
        below = (name for name, rooms in _settings_below(cls).items() if _first_word(error) in _names(rooms))
        inner = "" if _first_word(error) in fields else next((f"{name}." for name in below), "")
        raise ConfigError(f"{room}{inner}{error}") from error
    except (TypeError, ValueError, LookupError):  # a check that takes the kind for granted
        _require_kinds(cls, parsed, room)
        raise
    _require_kinds(cls, parsed, room)
    return config


def _of_kind(value: Any, hint: Any) -> Any:
    """A value of JSON in Python's kind: lists as tuples, and 1e3 as an int where a whole number is expected."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    return tuple(value) if isinstance(value, list) else value


def _settings_below(cls: type) -> dict[str, type]:
    """Configs that are settings of a config, by name."""
    made: dict[str, Any] = {field.name: field.default_factory for field in dataclasses.fields(cls)}
    return {name: kind for name, kind in made.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _first_word(error: ConfigError) -> str:
    return str(error).partition(" ")[0]


def _known(cls: type, name: str, room: str) -> str:
    """What was expected in place of an unknown setting."""
    today = getattr(cls, "REPLACED", {}).get(name)
    if today:
        return f"{today}, which replaced it"
    for below, kind in _settings_below(cls).items():
        if name in _names(kind):
            return f"{room}{below}.{name}"
    return f"one of {', '.join(_names(cls))}" + (f", each after {room}" if room else "")


def _require_kinds(cls: type, values: Mapping[str, Any], room: str) -> None:
    """Refuse the first value that is not of its setting's type.

    Raises:
        ConfigError: With the setting's dotted name.
    """
    hints = get_type_hints(cls)
    for name, value in values.items():
        if not _is_kind(value, hints[name]):
            raise ConfigError(f"{room}{name} is {value!r}; expected {_kind_in_words(hints[name])}")


def _is_kind(value: object, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_is_kind(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        sized = Ellipsis in get_args(hint) or len(get_args(hint)) == (len(value) if isinstance(value, tuple) else -1)
        return isinstance(value, tuple) and sized and all(map(is_number, value))
    if hint is int:
        return is_number(value) and float(value).is_integer()
    return is_number(value) if hint is float else isinstance(value, get_origin(hint) or hint)


def _kind_in_words(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(map(_kind_in_words, get_args(hint)))
    if get_origin(hint) is tuple:
        number = len(get_args(hint))
        return "numbers in a list" if Ellipsis in get_args(hint) else f"{number} numbers in a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "none"}
    return words.get(hint, "values by name")


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
