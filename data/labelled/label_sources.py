"""Sources of label maps: files of numbers or colours, or COCO's annotations (``slotseg.data.labelled.coco``).

A source gives the ids as the data set stores them. A ``Taxonomy`` turns them into classes.
``slotseg.data.labelled.label_search`` finds the source of somebody's own labels or masks. Letters: H W pixels.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.photo_names import one_form
from slotseg.data.reading.label_files import Ids, StoredLabel, numbers_of, read_stored
from slotseg.errors import DataError, LabelError
from slotseg.labels.label_map import IGNORE, IGNORE_16, Color

log = logging.getLogger(__name__)

IdColors = tuple[tuple[int, Color], ...]
"""Ids of a label set with the colours that stand for them in label maps in colour."""


class LabelSource(Protocol):
    """Label maps by the key of their photo: its path below the photos, without suffix."""

    @property
    def description(self) -> str:
        """Description for the result: the files and, if need be, how they are read."""
        ...

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Expected paths of the label maps that are absent for these photos."""
        ...

    def read(self, key: str) -> NDArray[Any]:
        """Ids of a photo's label map, ``(H, W)``. Raises ``DataError`` if it cannot be read."""
        ...

    def where(self, key: str) -> str:
        """Name of a photo's label map in messages."""
        ...


@dataclass(frozen=True, kw_only=True)
class LabelFiles:
    """One label map per photo in a folder.

    Whether the files hold ids or colours is found out once, for all of them: a single black file says neither.
    """

    folder: Path
    """Folder of the files."""
    keys: Sequence[str]
    """Keys of the photos."""
    suffix: str = ".png"
    """End of the file names, after the key."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Name of a photo's file below the folder, where it is not key and suffix."""
    id_colors: IdColors = ()
    """Id of each colour, if the files may be in colour."""
    maybe_binary: bool = False
    """Whether files that hold 0 and 255 alone hold the ids 0 and 1."""
    in_doubt: str = ""
    """File that could say what 255 is in files of 0 and 255 alone, if it is not sure; for messages."""
    or_else: str = ""
    """What else can be done about files in colour, for messages."""

    @property
    def description(self) -> str:
        """The files, and how they are read if they hold no ids."""
        named = ((key, one_form(name)) for key, name in self.names.items())
        ends = (name.rpartition("/")[2][len(key.rpartition("/")[2]) :] for key, name in named)
        suffixes = set(ends) or {self.suffix}
        files = ", ".join(f"*{suffix}" for suffix in sorted(suffixes))
        how = ", by colour" if self.in_color else ", 255 is 1" if self.binary else ""
        return f"{self.folder.name}/{files}{how}"

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Paths of the files that are absent."""
        return [str(path) for path in map(self.path, keys) if not path.is_file()]

    def read(self, key: str) -> NDArray[Any]:
        """Ids ``(H, W)`` of a file.

        Raises:
            DataError: If the file cannot be read, or holds a colour without an id.
        """
        ids = self._ids(key)
        return np.minimum(ids, 1) if self.binary else ids

    def where(self, key: str) -> str:
        """Path of the file."""
        return str(self.path(key))

    def path(self, key: str) -> Path:
        """Path of the file."""
        return self.folder / self.names.get(key, f"{key}{self.suffix}")

    @cached_property
    def in_color(self) -> bool:
        """Whether the files are to be read by their colours.

        Files are read until one tells. Its pixels have colours and no numbers, or its numbers look like no class, or a
        number has another colour than in a file before, so numbers mean nothing.

        Raises:
            DataError: If no file tells, and the colours of a palette are those of other classes than its numbers.
        """
        return self._reading[0]

    @cached_property
    def _reading(self) -> tuple[bool, bool]:
        """Whether the files are read by their colours, and whether a palette gives every class its own colour."""
        seen: dict[int, int] = {}
        from_palette = False
        for path in filter(Path.is_file, map(self.path, self.keys if self.id_colors else ())):
            stored = read_stored(path)
            if stored.ids is None or stored.colors is None:
                return stored.ids is None, False
            ids, used = _known_ids(stored.colors, self.id_colors), np.unique(stored.ids)
            if (ids[used] < 0).any():
                return False, False
            found = dict(zip(used.tolist(), ids[used].tolist(), strict=True))
            if any(seen.get(number, i) != i for number, i in found.items()):
                return True, False
            if all(i > IGNORE or ids[i] == i for i, _ in self.id_colors):
                return False, True
            seen |= found
            from_palette |= bool(np.ptp(stored.colors[used], axis=1).any())
        other = next((number for number, i in seen.items() if number != i), None)
        if other is not None and from_palette:
            raise DataError(
                f"the files in {self.folder} are indexed, and the number {other} has the colour of the class "
                f"{seen[other]}: it is not sure which of the two counts; expected colours saved as RGB, or grey numbers"
            )
        return other is not None, False

    @cached_property
    def binary(self) -> bool:
        """Whether 255 is read as 1: the files hold 0 and the largest number of 8 or of 16 bits, and nothing else."""
        seen: set[int] = set()
        for key in self.keys if self.maybe_binary or self.in_doubt else ():
            if self.path(key).is_file():
                seen.update(np.unique(self._ids(key)).tolist())
            if not seen <= {0, IGNORE, IGNORE_16}:
                return False
        binary = 0 in seen and len(seen) > 1
        if binary and self.in_doubt:
            log.warning(
                "The files in %s hold 0 and %d alone, which is read as void: if it is a class, give %s two names and "
                '"ids": [0, %d].',
                self.folder,
                max(seen),
                self.in_doubt,
                max(seen),
            )
        elif binary:
            log.info("The files in %s hold 0 and %d alone, which is read as 1.", self.folder, max(seen))
        return binary and self.maybe_binary

    def _ids(self, key: str) -> Ids:
        path = self.path(key)
        in_color, palette_agrees = self._reading
        stored = read_stored(path)
        if in_color:
            return ids_of_colors(stored, self.id_colors, path)
        if palette_agrees:
            self._check_palette(stored, path)
        else:
            self._check_colors_stay(stored, path)
        return numbers_of(stored, path, self.or_else)

    @cached_property
    def _colors(self) -> dict[int, int]:
        """Colour of each number in the palettes of the files that were read, as ``_codes``."""
        return {}

    def _check_colors_stay(self, stored: StoredLabel, path: Path) -> None:
        """Refuse a palette that gives a number another colour than that of an earlier file does."""
        if stored.ids is None or stored.colors is None or not np.ptp(stored.colors, axis=1).any():
            return
        used = np.flatnonzero(np.bincount(stored.ids.ravel()))
        for number, color in zip(used.tolist(), _codes(stored.colors[used]).tolist(), strict=True):
            if self._colors.setdefault(number, color) != color:
                raise DataError(
                    f"{path} is indexed, and its number {number} has another colour than in a file before: it is not "
                    f"sure which of the two counts; expected one palette in all files, or grey numbers{self.or_else}"
                )

    def _check_palette(self, stored: StoredLabel, path: Path) -> None:
        """Refuse a palette that gives the numbers other colours than that of an earlier file does."""
        if stored.ids is None or stored.colors is None:
            return
        used = np.intersect1d(stored.ids, [i for i, _ in self.id_colors])  # void may have the colour of a class
        ids = _known_ids(stored.colors[used], self.id_colors)
        if (ids < 0).any() or (ids == used).all() or not np.ptp(stored.colors[used], axis=1).any():
            return
        place = int(np.flatnonzero(ids != used)[0])
        raise DataError(
            f"{path} is indexed, and its number {used[place]} has the colour of the class {ids[place]}, but in another "
            "file the numbers have the colours of their own classes: it is not sure which of the two counts; expected "
            "colours saved as RGB, or grey numbers"
        )


@dataclass(frozen=True, kw_only=True)
class TrainIdFiles:
    """Label maps of train ids, renumbered to the ids of the data set."""

    files: LabelSource
    """The label maps."""
    ids: tuple[int, ...]
    """Id of each train id, from 0 on. The train id 255 stays 255."""
    void: int
    """Id of the data set that void pixels get."""

    @property
    def description(self) -> str:
        """The files, and that they hold train ids."""
        return f"{self.files.description}, train ids"

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Paths of the files that are absent."""
        return self.files.missing(keys)

    def read(self, key: str) -> NDArray[Any]:
        """Ids ``(H, W)`` of a file.

        Raises:
            LabelError: If the file holds an id that is no train id.
        """
        train_ids = self.files.read(key)
        unknown = train_ids[(train_ids >= len(self.ids)) & (train_ids != IGNORE)]
        if unknown.size:
            raise LabelError(
                f"{self.where(key)} holds the id {unknown[0]}, which is no train id; expected 0 to "
                f"{len(self.ids) - 1}, or 255 for void"
            )
        table = np.full(IGNORE + 1, self.void, np.uint8)
        table[: len(self.ids)] = self.ids
        ids: NDArray[np.uint8] = table[train_ids]
        return ids

    def where(self, key: str) -> str:
        """Path of the file."""
        return self.files.where(key)


def ids_of_colors(stored: StoredLabel, id_colors: IdColors, path: Path) -> Ids:
    """Ids ``(H, W)`` of a label map by its colours. Numbers without a colour, as deeper ones are, stay.

    Raises:
        DataError: If it has a colour that is not among them, or two ids share one.
    """
    if stored.colors is None:
        assert stored.ids is not None
        return stored.ids
    colors = [color for _, color in id_colors]
    if len(set(colors)) < len(colors):
        raise DataError(f"{path} is in colour, and two classes have the same; expected different colours")
    ids = _known_ids(stored.colors, id_colors)
    if stored.ids is not None:
        ids = ids[stored.ids]
    if (ids < 0).any():
        pixels = stored.colors if stored.ids is None else stored.colors[stored.ids]
        color = tuple(int(v) for v in pixels[ids < 0][0])
        raise DataError(
            f"{path} has the colour {color}, which is no class; expected one of the {len(colors)} colours of the label "
            "set, in which void has one too"
        )
    return ids.astype(np.uint8) if max(i for i, _ in id_colors) <= IGNORE else ids.astype(np.uint16)


def _known_ids(colors: NDArray[np.uint8], id_colors: IdColors) -> NDArray[np.int32]:
    """Id of each colour ``(..., 3)``; -1 for one that stands for none."""
    ids, known = zip(*sorted(id_colors, key=lambda item: item[1]), strict=True)
    codes = _codes(np.array(known))
    found = _codes(colors)
    places = np.searchsorted(codes, found).clip(max=len(codes) - 1)
    all_ids: NDArray[np.int32] = np.where(codes[places] == found, np.array(ids, np.int32)[places], -1)
    return all_ids


def _codes(colors: NDArray[Any]) -> NDArray[np.int32]:
    r, g, b = np.moveaxis(colors.astype(np.int32), -1, 0)
    codes: NDArray[np.int32] = (r << 16) | (g << 8) | b
    return codes
