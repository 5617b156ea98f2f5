"""Label sets: the classes, their ids in a label map, their colours, and the ids that are void.

Every set is one file of the same form under ``data/taxonomies/``. It is checked when it is loaded.
Letters: C classes, H W pixels.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.label_files import MAX_ID
from slotseg.errors import DataError, LabelError
from slotseg.labels.label_map import IGNORE, IGNORE_16, Color, voc_color

_UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class LabelClass:
    """One class of a label set."""

    name: str
    """Name, unique within the label set."""
    ids: tuple[int, ...]
    """Ids of a label map that mean this class."""
    color: Color
    """Colour, RGB in 0..255."""
    kind: str | None = None
    """Kind, ``thing`` or ``stuff``; None if the set does not tell them apart."""


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """A label set.

    Raises:
        DataError: If ids, names or colours contradict each other.
    """

    name: str
    """Name in a result."""
    classes: tuple[LabelClass, ...]
    """The C classes. A class id is an index into them."""
    void: tuple[int, ...] = (IGNORE,)
    """Ids of a label map that are void, so not scored."""
    title: str = ""
    """Title for people."""
    encoding: str = "value = class id"
    """Meaning of the values of a label map, for people."""
    or_else: str = ""
    """What else can be done about an unknown id, if classes may be given other ids, for people."""
    unused: tuple[int, ...] = ()
    """Ids that occur in no genuine label map. If one occurs, the encoding is another."""
    mistaken: str = "counted from 1"
    """Encoding that such ids give away, for people."""
    id_colors: tuple[tuple[int, Color], ...] = field(default=(), repr=False)
    """Ids and their colours, if label maps are also given as RGB images."""

    def __post_init__(self) -> None:
        """Check that every id has one meaning."""
        if not self.classes:
            raise DataError(f"the label set {self.name} has no class; expected at least one")
        ids = Counter(i for c in self.classes for i in set(c.ids)) + Counter(set(self.void))
        twice = sorted(i for i, count in ids.items() if count > 1)
        outside = sorted(i for i in [*ids, *self.unused] if not 0 <= i <= MAX_ID)
        names = [n for n, count in Counter(self.names).items() if count > 1]
        if twice or outside:
            which = f"gives id {twice[0]} two meanings" if twice else f"has the id {outside[0]}"
            raise DataError(f"the label set {self.name} {which}; expected ids from 0 to {MAX_ID}, each once")
        if "" in self.names:
            raise DataError(f"the label set {self.name} has a class with an empty name; expected a name for each")
        if names:
            raise DataError(f"the label set {self.name} has two classes named {names[0]!r}; expected different names")
        if any(not 0 <= v <= 255 for c in self.classes for v in c.color):
            raise DataError(
                f"the label set {self.name} has a colour beyond 0 to 255; expected three numbers from 0 to 255"
            )
        if len({c.kind is None for c in self.classes}) > 1 or {c.kind for c in self.classes} - {None, "thing", "stuff"}:
            raise DataError(f"{self.name} has a class of an unknown kind; expected thing or stuff for all, or for none")

    @property
    def names(self) -> tuple[str, ...]:
        """Class names, length C."""
        return tuple(c.name for c in self.classes)

    @property
    def colors(self) -> tuple[Color, ...]:
        """Class colours, length C."""
        return tuple(c.color for c in self.classes)

    @property
    def ignore(self) -> int:
        """Id of void pixels in a class map."""
        return IGNORE if len(self.classes) <= IGNORE else IGNORE_16

    def of_kind(self, kind: str) -> list[int]:
        """Ids of the classes of a kind, ``thing`` or ``stuff``."""
        return [i for i, c in enumerate(self.classes) if c.kind == kind]

    def class_map(self, label_map: NDArray[Any], where: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Turn the ids of a label map, ``(H, W)``, into class ids, ``(H, W)``. Void pixels become ``ignore``.

        Args:
            label_map: Ids as the data set stores them.
            where: Name of the label map in messages.

        Raises:
            LabelError: If the label map holds an id that the set does not have, or never uses.
        """
        classes: NDArray[np.int32] = self._table[label_map]
        if classes.min(initial=0) == _UNKNOWN:
            raise LabelError(f"{where} {self._refusal(label_map)}")
        return classes.astype(np.uint8) if self.ignore == IGNORE else classes.astype(np.uint16)

    @cached_property
    def _table(self) -> NDArray[np.int32]:
        table = np.full(MAX_ID + 1, _UNKNOWN, dtype=np.int32)
        for index, label_class in enumerate(self.classes):
            table[list(label_class.ids)] = index
        table[list(self.void)] = self.ignore
        table[list(self.unused)] = _UNKNOWN
        return table

    def _refusal(self, label_map: NDArray[Any]) -> str:
        """What is wrong with a label map that has an unknown id, as a clause without a subject."""
        held: list[int] = np.unique(label_map).tolist()
        unknown = next(i for i in held if self._table[i] == _UNKNOWN)
        if self.unused:
            return (
                f"holds the id {unknown}, which no label map of {self.name} does, so it is encoded otherwise "
                f"({self.mistaken}, for instance); expected {self.encoding}"
            )
        ways = ([i for i in held if i not in self.void], held)
        ids = next((ids for ids in ways if len(ids) == len(self.classes)), None)
        example = f', such as "ids": {ids} for those of this file' if ids else ""
        or_else = f"; {self.or_else}{example}" if self.or_else else ""
        return (
            f"holds the id {unknown}, which the label set {self.name} does not have; expected {self.encoding}{or_else}"
        )


def taxonomies() -> list[str]:
    """Names of the label sets that come with slotseg."""
    return sorted(f.name.removesuffix(".json") for f in _folder().iterdir() if f.name.endswith(".json"))


def load_taxonomy(name: str) -> Taxonomy:
    """Load a label set by its name.

    Raises:
        DataError: If there is no such label set, or its file is damaged.
    """
    file = _folder() / f"{name}.json"
    if name not in taxonomies():
        raise DataError(f"there is no label set {name!r}; expected one of {', '.join(taxonomies())}")
    return taxonomy_from_dict(json.loads(file.read_text(encoding="utf-8")), file.name)


def taxonomy_from_dict(values: dict[str, Any], where: str) -> Taxonomy:
    """Build a label set from the JSON of its file. ``where`` is the name of the file in messages.

    Raises:
        DataError: If a key is missing, unknown or of the wrong type, or the set contradicts itself.
    """
    try:
        unknown = values.keys() - {"name", "title", "encoding", "void", "unused", "mistaken", "id_colors", "classes"}
        if unknown:
            raise ValueError(f"unknown key {min(unknown)}")
        return Taxonomy(
            name=str(values["name"]),
            title=str(values["title"]),
            encoding=str(values["encoding"]),
            void=tuple(int(i) for i in values["void"]),
            unused=tuple(int(i) for i in values.get("unused", [])),
            mistaken=str(values.get("mistaken", "counted from 1")),
            id_colors=tuple((int(i), _color(c)) for i, c in values.get("id_colors", [])),
            classes=tuple(
                LabelClass(
                    name=str(c["name"]),
                    ids=tuple(int(i) for i in c["ids"]),
                    color=_color(c["color"]),
                    kind=c.get("kind"),
                )
                for c in values["classes"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} is no label set ({error!r}); expected the form of data/taxonomies/") from error


def plain_taxonomy(
    name: str,
    names: tuple[str, ...],
    colors: tuple[Color, ...] | None = None,
    void: tuple[int, ...] = (IGNORE,),
    ids: tuple[tuple[int, ...], ...] | None = None,
) -> Taxonomy:
    """Make a label set of names. What is void is no class, wherever it stands among the names.

    Args:
        name: Name of the label set.
        names: Names of the classes.
        colors: Colours of the names, also in label maps that are in colour; by default those of Pascal VOC without
            its black, and label maps hold ids.
        void: Ids that are not scored.
        ids: Ids of each name in a label map; by default its place among them.
    """
    ids = ids or tuple((i,) for i in range(len(names)))
    shown = colors or tuple(voc_color(i + 1) for i in range(len(names)))
    scored = [tuple(i for i in of_class if i not in void) for of_class in ids]
    classes = tuple(
        LabelClass(name=n, ids=kept, color=c) for n, kept, c in zip(names, scored, shown, strict=True) if kept
    )
    return Taxonomy(
        name=name,
        classes=classes,
        void=void,
        encoding=f"value = class id ({_ranges(i for c in classes for i in c.ids)}) or void ({_ranges(void)})",
        id_colors=tuple((of_class[0], color) for of_class, color in zip(ids, colors or (), strict=False)),
    )


def _ranges(ids: Iterable[int]) -> str:
    """Ids for people: 0..2, 7."""
    runs: list[list[int]] = []
    for i in sorted(ids):
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _color(values: Any) -> Color:
    red, green, blue = values
    return int(red), int(green), int(blue)


def _folder() -> Any:
    return resources.files("slotseg.data") / "taxonomies"
