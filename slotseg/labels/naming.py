"""Names that a person gave to prototypes: their file ``names.json``, and the label map they make.

Prototypes of one name are one class, whatever its case and spaces. The colour of a class and its place
among the classes follow from its name alone, so masks of two runs that were named alike look alike.
Letters: K prototypes, C classes.
"""

import json
import logging
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slotseg.errors import DataError
from slotseg.labels.colors import hashed_color
from slotseg.labels.label_map import IGNORE, IGNORE_16, NAMED, Color, LabelMap, palette
from slotseg.values import is_whole

log = logging.getLogger(__name__)

FORMAT = 1
"""Format of the file."""
KEEP, LEAVE_OUT = "keep", "ignore"
"""Treatments of prototypes without a name: a class each, or ignored."""

_KEYS = ("format", "checkpoint", "num_prototypes", "unnamed", "names", "same_as", "ignore")


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The names that a person gave to the prototypes of a run.

    Where more than one thing is said of a prototype, ``ignore`` goes before ``same_as``, and that before ``names``.

    Raises:
        DataError: If a prototype is unknown, a name is empty, or prototypes are the same as each other in a circle.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    """Name of each prototype that has one."""
    same_as: Mapping[int, int] = field(default_factory=dict)
    """By prototype, the one whose name it takes, if that has one. Both are one class in any case."""
    ignore: frozenset[int] = frozenset()
    """Prototypes whose pixels are left out, with all that are the same as one of them."""
    unnamed: str = KEEP
    """Treatment of prototypes without a name: ``keep`` or ``ignore``."""
    num_prototypes: int | None = None
    """K of the model, where known."""
    checkpoint: str | None = None
    """Start of the SHA-256 of the checkpoint that was named, where known."""
    where: str = "the names"
    """The file, for messages."""

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if self.unnamed not in (KEEP, LEAVE_OUT):
            raise DataError(f"{self.where} has unnamed {self.unnamed!r}; expected {KEEP!r} or {LEAVE_OUT!r}")
        for prototype, name in self.names.items():
            if not name_key(name):
                raise DataError(f"{self.where} gives prototype {prototype} an empty name; expected a name, or no entry")
        for prototype in self.same_as:
            self.root(prototype)
        if self.num_prototypes is not None:
            self.check(self.num_prototypes)

    def root(self, prototype: int) -> int:
        """The prototype at the end of a chain of same-as."""
        chain = [prototype]
        while chain[-1] in self.same_as:
            chain.append(self.same_as[chain[-1]])
            if chain[-1] in chain[:-1]:
                circle = " as ".join(str(p) for p in chain[chain.index(chain[-1]) :])
                raise DataError(f"{self.where} has a circle, {circle}; expected one of them without same_as")
        return chain[-1]

    def check(self, num_prototypes: int) -> None:
        """Refuse names of a model with another number of prototypes.

        Raises:
            DataError: If they are of another K, or name a prototype that is not there.
        """
        if self.num_prototypes not in (None, num_prototypes):
            raise DataError(
                f"{self.where} names {self.num_prototypes} prototypes and the model has {num_prototypes}; expected the "
                "names of this run, or -k as they were named with"
            )
        mentioned = {*self.names, *self.same_as, *self.same_as.values(), *self.ignore}
        wrong = sorted(p for p in mentioned if not 0 <= p < num_prototypes)
        if wrong:
            raise DataError(f"{self.where} mentions prototype {wrong[0]}; expected 0 to {num_prototypes - 1}")

    def warn_of_another_run(self, checkpoint: str) -> None:
        """Warn if the names were given to another checkpoint than this one, by the start of its SHA-256."""
        if self.checkpoint not in (None, checkpoint):
            log.warning(
                "%s was written for checkpoint %s and this is %s: its prototypes may be other things.",
                self.where,
                self.checkpoint,
                checkpoint,
            )

    def ignored(self, prototype: int) -> bool:
        """Whether a prototype, or one that it is the same as, is in ``ignore``."""
        while prototype not in self.ignore and prototype in self.same_as:
            prototype = self.same_as[prototype]
        return prototype in self.ignore

    def name_of(self, prototype: int) -> str | None:
        """The name of a prototype, which is that of its ``root``; None if it has none or is ignored."""
        name = None if self.ignored(prototype) else self.names.get(self.root(prototype))
        return None if name is None else tidy(name)

    def label_map(self, num_prototypes: int) -> LabelMap:
        """The label map of a model: names in alphabetical order, then what is unnamed and kept, by number.

        Args:
            num_prototypes: K.

        Raises:
            DataError: If the names don't fit the model, or leave nothing to paint.
        """
        self.check(num_prototypes)
        own = {p: name for p in range(num_prototypes) if (name := self.name_of(p)) is not None}
        classes: dict[str, tuple[str, Color]] = {}
        for name in sorted(own.values(), key=lambda name: (name_key(name), name)):
            classes.setdefault(name_key(name), (name, name_color(name)))
        keys = {p: name_key(name) for p, name in own.items()}
        if self.unnamed == KEEP:
            for p, color in enumerate(palette(num_prototypes)):
                if p not in own and not self.ignored(p):
                    keys[p] = name_key(f"prototype {self.root(p)}")
                    if p == self.root(p):
                        classes.setdefault(keys[p], (f"prototype {p}", color))
        if not classes:
            raise DataError(f"{self.where} leaves nothing to paint; expected a name, or unnamed {KEEP!r}")
        ids = {key: i for i, key in enumerate(classes)}
        ignore = IGNORE if len(classes) <= IGNORE else IGNORE_16
        names, colors = zip(*classes.values(), strict=True)
        return LabelMap(
            classes=tuple(ids[keys[p]] if p in keys else ignore for p in range(num_prototypes)),
            names=names,
            colors=colors,
            origin=NAMED,
            source=self.where,
        )

    def to_dict(self) -> dict[str, Any]:
        """The names as JSON-ready values, described in ``docs/concepts.md``."""
        return {
            "format": FORMAT,
            "checkpoint": self.checkpoint,
            "num_prototypes": self.num_prototypes,
            "unnamed": self.unnamed,
            "names": {str(p): tidy(name) for p, name in sorted(self.names.items())},
            "same_as": {str(p): other for p, other in sorted(self.same_as.items())},
            "ignore": sorted(self.ignore),
        }

    @classmethod
    def from_dict(cls, values: Any, where: str = "the names") -> "Naming":
        """Names from the values of ``to_dict``, or from what people write by hand.

        Everything may be absent. ``names`` may be a list with null for a prototype without a name. Numbers may be
        strings. ``same_as`` may say a name instead of a number.

        Raises:
            DataError: If a value doesn't fit; ``where`` names the file.
        """
        if not isinstance(values, dict) or values.get("format", FORMAT) != FORMAT:
            raise DataError(f"{where} is no names.json of format {FORMAT}; expected what the page of concepts saves")
        unknown = [key for key in values if key not in _KEYS]
        if unknown:
            raise DataError(f"{where} has {unknown[0]!r}; expected only {', '.join(_KEYS)}")
        names = {p: _text(name, where) for p, name in _entries(values.get("names"), "names", where).items()}
        by_name = {name_key(name): p for p, name in reversed(names.items())}
        same_as = _entries(values.get("same_as"), "same_as", where)
        number = values.get("num_prototypes")
        checkpoint = values.get("checkpoint")
        return cls(
            names=names,
            same_as={p: _other(other, by_name, where) for p, other in same_as.items()},
            ignore=frozenset(_number(p, where) for p in _list(values.get("ignore"), "ignore", where)),
            unnamed=str(values.get("unnamed") or KEEP),
            num_prototypes=None if number is None else _number(number, where),
            checkpoint=None if checkpoint is None else _text(checkpoint, where),
            where=where,
        )


def read_labels_or_names(path: Path) -> LabelMap | Naming:
    """Read a label map, or the names that a person gave: whichever the file holds.

    Raises:
        DataError: If it is missing, no JSON, or neither.
    """
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected a labels.json or a names.json") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); expected a labels.json or a names.json") from error
    if isinstance(values, dict) and "classes" in values:
        return LabelMap.from_dict(values, str(path))
    return Naming.from_dict(values, str(path))


def read_names(path: Path) -> Naming:
    """Read the names that a person gave.

    Raises:
        DataError: If the file is missing, no JSON, or holds something else.
    """
    found = read_labels_or_names(path)
    if isinstance(found, LabelMap):
        raise DataError(f"{path} is a label map; expected a names.json, as the page of concepts saves it")
    return found


def tidy(name: str) -> str:
    """A name on one line, without control characters and needless spaces."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in name)
    return " ".join(unicodedata.normalize("NFC", kept).split())


def name_key(name: str) -> str:
    """The key that all spellings of a name share: no capitals, spaces, hyphens or underscores."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", tidy(name)).lower())


def name_color(name: str) -> Color:
    """The colour of a name, from nothing but its key; the page of concepts computes the same one."""
    return hashed_color(name_key(name))


def _entries(values: Any, key: str, where: str) -> dict[int, Any]:
    """Values by prototype, from an object or a list; null is no entry."""
    if not isinstance(values, dict | list | None):
        raise DataError(f'{where} has {key} {values!r}; expected an object such as {{"3": "grass"}}')
    pairs = enumerate(values) if isinstance(values, list) else (values or {}).items()
    return {_number(p, where): value for p, value in pairs if value is not None}


def _list(values: Any, key: str, where: str) -> list[Any]:
    if not isinstance(values, list | None):
        raise DataError(f"{where} has {key} {values!r}; expected a list of prototypes such as [3, 5]")
    return values or []


def _number(value: Any, where: str) -> int:
    """A prototype, as a number or as text such as ``3`` or ``prototype 3``."""
    if is_whole(value):
        return value
    found = re.fullmatch(r"\s*(?:prototype)?\s*(\d{1,9})\s*", value) if isinstance(value, str) else None
    if not found:
        raise DataError(f"{where} has {value!r} for a prototype; expected its number")
    return int(found[1])


def _other(value: Any, by_name: Mapping[str, int], where: str) -> int:
    """The prototype of a same-as, by its number or by the name it has."""
    known = by_name.get(name_key(value)) if isinstance(value, str) else None
    return _number(value, where) if known is None else known


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where} has {value!r} for a name; expected text in quotes")
    return value
