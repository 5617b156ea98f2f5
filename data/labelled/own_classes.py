"""The classes of somebody's own labels: the file ``classes.json`` beside them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from slotseg.data.labelled.annotations.common import class_name, id_of, quoted, read_json
from slotseg.data.labelled.annotations.photo_names import file_named
from slotseg.data.labelled.taxonomy import Taxonomy, plain_taxonomy
from slotseg.errors import DataError
from slotseg.labels.label_map import IGNORE, IGNORE_16, Color
from slotseg.values import is_whole

log = logging.getLogger(__name__)

CLASSES = "classes.json"
EXPECTED = '{"names": ["sky", "tree", ...]}, and if need be "ids", "colors" and "ignore_index"'
_KEYS = ("names", "ids", "colors", "ignore_index")


class OwnClasses(NamedTuple):
    """Classes, and what their file leaves open."""

    taxonomy: Taxonomy
    """The classes."""
    maybe_binary: bool
    """Whether label maps of 0 and 255 alone hold the first and the second class, as nothing says otherwise."""
    in_doubt: str
    """The file, if it is not sure what 255 is in label maps of 0 and 255 alone; else empty."""
    void_names: tuple[str, ...]
    """Names of what is ignored."""
    path: Path
    """The file."""


def read_classes(folders: Sequence[Path]) -> OwnClasses | None:
    """Read the first ``classes.json`` in some folders; None if there is none.

    ``names`` is a list, or a mapping of id to name. ``ids`` gives each name of a list its id, or several; by default
    its place in the list. ``ignore_index`` has the ids that are no class; by default 255. The id 65535 is void too,
    and stands for -1. ``colors`` are those of the classes, in pictures and in label maps that are in colour.

    Raises:
        DataError: If it cannot be used.
    """
    path = next((path for f in folders if (path := file_named(f, CLASSES)).is_file()), None)
    if path is None:
        return None
    content = read_json(path, EXPECTED)
    try:
        return _classes(content, path)
    except (ValueError, TypeError, DataError) as error:
        raise DataError(f"{path} cannot be used ({error}); expected {EXPECTED}") from error


def _classes(content: Any, path: Path) -> OwnClasses:
    if not isinstance(content, dict) or "names" not in content:
        raise ValueError('it has no "names"')
    unknown = sorted(content.keys() - set(_KEYS))
    if unknown:
        log.warning("%s has %s, which nothing reads; it may have %s.", path, ", ".join(unknown), ", ".join(_KEYS))
    names, ids = _names_and_ids(content)
    void = _void(content["ignore_index"]) if "ignore_index" in content else (IGNORE,)
    named = {i for of_class in ids for i in of_class}
    if "ignore_index" not in content:
        void = tuple(i for i in void if i not in named)
    void = tuple(dict.fromkeys([*void, *({IGNORE_16} - named)]))
    taxonomy = plain_taxonomy("folder", names, _colors(content.get("colors"), len(names)), void, ids)
    taxonomy = replace(taxonomy, or_else=f'"ids" in {CLASSES} may name others')
    open_void = "ignore_index" not in content and named.isdisjoint((IGNORE, IGNORE_16))
    plain = isinstance(content["names"], list) and "ids" not in content and len(names) == 2
    return OwnClasses(
        taxonomy,
        maybe_binary=open_void and plain,
        in_doubt=str(path) if open_void and not plain else "",
        void_names=tuple(name for name in names if name not in taxonomy.names),
        path=path,
    )


def _names_and_ids(content: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Name and ids of each class."""
    names, ids = content["names"], content.get("ids")
    if isinstance(names, dict):
        if ids is not None:
            raise ValueError('names already say their ids, and there are "ids" too')
        ids, names = [_id_of_text(text) for text in names], list(names.values())
    if not isinstance(names, list):
        raise TypeError("names is no list, and no mapping of id to name")
    if ids is None:
        ids = list(range(len(names)))
    if not isinstance(ids, list) or len(ids) != len(names):
        raise ValueError(f"{len(names)} names and {len(ids) if isinstance(ids, list) else 'no list of'} ids")
    no_name = next((name for name in names if name is None or isinstance(name, list | dict)), names)
    if no_name is not names:
        raise TypeError(f"names has {quoted(no_name)}, which is no name")
    return tuple(map(class_name, names)), tuple(_whole_numbers(i, "ids") for i in ids)


def _id_of_text(text: str) -> int:
    number = id_of(text)
    if number is None:
        raise ValueError(f"names gives {quoted(text)} a meaning, which is no id")
    return number


def _void(value: Any) -> tuple[int, ...]:
    return tuple(IGNORE_16 if i == -1 else i for i in _whole_numbers(value, "ignore_index"))


def _whole_numbers(value: Any, what: str) -> tuple[int, ...]:
    """A whole number, or several, as a tuple."""
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(is_whole(i) for i in numbers):
        raise TypeError(f"{what} has {quoted(value)}, which is no whole number")
    return tuple(dict.fromkeys(numbers))


def _colors(value: Any, number: int) -> tuple[Color, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(_is_color(color) for color in value):
        raise TypeError("colors is no list with three whole numbers for each name")
    colors = tuple((int(r), int(g), int(b)) for r, g, b in value)
    if len(colors) != number:
        raise ValueError(f"{number} names and {len(colors)} colors")
    return colors


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(is_whole, value))
