"""Names of one run's prototypes, carried to another's by the pixels that both have in the same photos.

Runs number their prototypes as they like, and have more of them or fewer. What lasts is the pixels that they cover. A
prototype of the new run takes the name that more than half of its pixels had in the old one.
Letters: K prototypes of the new run, P of the old one, N names, H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.concepts.collection import CarriedName, Collection
from slotseg.labels.label_map import IGNORE_16
from slotseg.labels.naming import Naming, name_key

SURE = 0.75
"""Confidence below which a carried name is listed, to be looked over."""
MOST_LISTED = 12
"""Most names that are listed of a kind. The page and ``concepts.json`` have all."""


class Overlap:
    """Gathers how much the prototypes of two runs have in common, over photos that both see.

    Args:
        look: Function that gives a photo's prototype map ``(H, W)`` in the old run, from RGB ``(H, W, 3)``.
        num_old: Number of prototypes of the old run, P.
        num_new: Number of prototypes of the new run, K.

    Attributes:
        table: Share of a photo's pixels that belong to an old and a new prototype, summed over the photos, ``(P, K)``.
    """

    def __init__(self, look: Callable[[NDArray[np.uint8]], NDArray[np.uint16]], num_old: int, num_new: int) -> None:
        self.look = look
        self.table = np.zeros((num_old, num_new))

    def add(self, image: NDArray[np.uint8], new: NDArray[np.uint16]) -> None:
        """Add a photo, by its pixels ``(H, W, 3)`` and the prototype map ``(H, W)`` of the new run.

        Pixels of ``IGNORE_16`` do not count.
        """
        num_old, num_new = self.table.shape
        seen = new != IGNORE_16
        pairs = self.look(image)[seen].astype(np.int64) * num_new + new[seen]
        shared = np.bincount(pairs, minlength=self.table.size).reshape(num_old, num_new)
        self.table += shared / max(len(pairs), 1)


@dataclass(frozen=True, kw_only=True)
class LostName:
    """A name that no prototype of the new run has."""

    name: str | None
    """Name, or None for what was ignored."""
    share: float
    """Share of the pixels of all photos, in the old run, 0..1."""
    most: int | None
    """Prototype of the new run that has most of these pixels. None if there are none."""
    within: float
    """Share of these pixels that it has, 0..1."""


@dataclass(frozen=True, kw_only=True)
class NameTransfer:
    """Outcome of carrying the names of the old run."""

    prototypes: tuple[CarriedName | None, ...]
    """Name that most pixels of each prototype of the new run had, length K.

    None where a prototype has no pixels, or most of them had no name.
    """
    num_names: int
    """Number of names, N. What was ignored is one of them."""
    lost: tuple[LostName, ...]
    """Names that went to no prototype, the largest first."""

    @property
    def carried(self) -> dict[int, CarriedName]:
        """Names that prototypes have now, by prototype."""
        return {k: of for k, of in enumerate(self.prototypes) if of and of.is_majority}

    @property
    def mixed(self) -> dict[int, CarriedName]:
        """Most frequent names in prototypes without a name, as no name had more than half of their pixels."""
        return {k: of for k, of in enumerate(self.prototypes) if of and not of.is_majority}

    def naming(self, unnamed: str, checkpoint: str) -> Naming:
        """The names of the new run.

        Args:
            unnamed: Treatment of unnamed prototypes, as in ``Naming``.
            checkpoint: Start of the SHA-256 of the new run's checkpoint.
        """
        return Naming(
            names={k: of.name for k, of in self.carried.items() if of.name is not None},
            ignore=frozenset(k for k, of in self.carried.items() if of.name is None),
            unnamed=unnamed,
            num_prototypes=len(self.prototypes),
            checkpoint=checkpoint,
            where="the carried names",
        )

    def noted(self, collection: Collection, run: str) -> Collection:
        """A copy of the new run's collection that says of each concept what was carried to it.

        Args:
            collection: Collection of the new run.
            run: Name of the old run.
        """
        concepts = zip(collection.concepts, self.prototypes, strict=True)
        return replace(collection, carried_from=run, concepts=tuple(replace(c, carried=of) for c, of in concepts))

    def report(self, run: str) -> list[str]:
        """Lines that tell a person what became of the names.

        Args:
            run: Name of the old run.
        """
        carried, number = self.carried, len(self.prototypes)
        kept = self.num_names - len(self.lost)
        doubtful = [(k, of) for k, of in _by_doubt(carried) if of.confidence < SURE]
        said = {
            f"Names of {run}": [f"{kept} of {self.num_names} carried, to {len(carried)} of {number} prototypes"],
            "To be looked over": [f"{k} {_word(of.name)} ({of.confidence:.0%})" for k, of in doubtful],
            "Without a name, as none had more than half of the pixels": [
                f"{k} ({of.confidence:.0%} {_word(of.name)})" for k, of in _by_doubt(self.mixed)
            ],
            "No prototype has": [self._fate(lost) for lost in self.lost],
        }
        return [f"{subject}: {_listed(words)}" for subject, words in said.items() if words]

    def _fate(self, lost: LostName) -> str:
        if lost.most is None:
            return f"{_word(lost.name)} (not in these photos)"
        taker = self.carried.get(lost.most)
        called = f" {_word(taker.name)}" if taker else ""
        return f"{_word(lost.name)} ({lost.within:.0%} of it is {lost.most}{called} now)"


def carry(table: NDArray[np.floating[Any]], names: Naming) -> NameTransfer:
    """Find what most pixels of each prototype were called.

    Old prototypes of one name count as one. So do all that are ignored, and all without a name.

    Args:
        table: Pixels by their prototypes in the old and the new run, as in ``Overlap``, ``(P, K)``.
        names: Names of the old run.

    Raises:
        DataError: If the names are not those of P prototypes.
    """
    names.check(len(table))
    called, rows = _named_rows(table, names)
    unnamed, of_each = rows[-1], rows.sum(axis=0)
    prototypes: list[CarriedName | None] = []
    for k, most in enumerate(rows.argmax(axis=0).tolist()):
        is_named = most < len(called) and rows[most, k] > unnamed[k]
        prototypes.append(
            CarriedName(name=called[most], confidence=float(rows[most, k] / of_each[k])) if is_named else None
        )
    taken = {of.name for of in prototypes if of and of.is_majority}
    lost = [
        _lost(name, row, float(rows.sum())) for name, row in zip(called, rows[:-1], strict=True) if name not in taken
    ]
    lost.sort(key=lambda of: -of.share)
    return NameTransfer(prototypes=tuple(prototypes), num_names=len(called), lost=tuple(lost))


def _named_rows(table: NDArray[np.floating[Any]], names: Naming) -> tuple[list[str | None], NDArray[np.floating[Any]]]:
    """Sum the rows of old prototypes by name.

    Returns:
        N names, None for what is ignored, and their rows, ``(N + 1, K)``. The last row is that of no name.
    """
    called: dict[str | None, str | None] = {}
    members: dict[str | None, list[int]] = {}
    without: list[int] = []
    for p in range(len(table)):
        name = names.name_of(p)
        if name is None and not names.ignored(p):
            without.append(p)
            continue
        key = None if name is None else name_key(name)
        called.setdefault(key, name)
        members.setdefault(key, []).append(p)
    return list(called.values()), np.stack([table[of].sum(axis=0) for of in (*members.values(), without)])


def _lost(name: str | None, row: NDArray[np.floating[Any]], total: float) -> LostName:
    size = float(row.sum())
    if not size:
        return LostName(name=name, share=0.0, most=None, within=0.0)
    most = int(row.argmax())
    return LostName(name=name, share=size / total, most=most, within=float(row[most] / size))


def _by_doubt(prototypes: dict[int, CarriedName]) -> list[tuple[int, CarriedName]]:
    return sorted(prototypes.items(), key=lambda item: item[1].confidence)


def _word(name: str | None) -> str:
    return "ignored" if name is None else name


def _listed(words: list[str]) -> str:
    more = len(words) - MOST_LISTED
    return ", ".join(words[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
