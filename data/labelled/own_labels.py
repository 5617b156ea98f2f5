"""Somebody's own labels for a folder of photos: label maps or annotations, and the names of their classes.

Names come from ``classes.json``, from the legend beside slotseg's masks, or from the annotations. Where two of them
are there, the classes are those of ``classes.json``, and names say which is which.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.legend import Legend, legend_of, read_legend
from slotseg.data.labelled.annotations.opening import (
    Annotations,
    annotation_files,
    open_annotations,
)
from slotseg.data.labelled.annotations.shapes import NOTHING
from slotseg.data.labelled.label_search import annotations_at, find_labels
from slotseg.data.labelled.label_sources import LabelSource
from slotseg.data.labelled.own_classes import CLASSES, EXPECTED, OwnClasses, read_classes
from slotseg.data.labelled.taxonomy import Taxonomy, plain_taxonomy
from slotseg.errors import DataError


class OwnLabels(NamedTuple):
    """Labels of photos, and their classes."""

    taxonomy: Taxonomy
    """The classes."""
    source: LabelSource
    """The label map of each photo."""


def open_own_labels(
    path: Path, photos: Mapping[str, Path], *, no_labels: Collection[str] = (), above: int = 1
) -> OwnLabels:
    """Open the labels of photos.

    Args:
        path: Folder of label maps, or annotations: their file, or a folder with them.
        photos: File of each photo by key: its path below the photos, without suffix.
        no_labels: Names below the folder of files that are no label maps, such as the photos themselves.
        above: How many folders above that of the labels may hold ``classes.json``.

    Raises:
        DataError: If labels or names are missing, cannot be used, or do not agree.
    """
    folder = path if path.is_dir() else path.parent
    keys = list(photos)
    found = annotations_at(path, keys, no_labels=no_labels)
    classes = read_classes([folder, *list(folder.parents)[:above]])
    named_there = found is not None and found.is_file()
    legend = None if named_there else _legend(path, needed=classes is None)
    if found:
        names = legend.names if legend else (*classes.taxonomy.names, *classes.void_names) if classes else ()
        return _of_annotations(open_annotations(found, keys, names, photos), classes)
    if not classes and not legend:
        raise DataError(
            f"there is no {CLASSES} in {folder} or beside it; expected {EXPECTED}{annotations_hint(folder)}"
        )
    taxonomy = _of_legend(legend, classes) if legend else classes.taxonomy if classes else None
    assert taxonomy
    unnamed = classes if not legend else None
    source = find_labels(
        path,
        keys,
        id_colors=taxonomy.id_colors,
        maybe_binary=unnamed is not None and unnamed.maybe_binary,
        in_doubt=unnamed.in_doubt if unnamed else "",
        no_labels=no_labels,
    )
    return OwnLabels(taxonomy, source)


def annotations_hint(folder: Path) -> str:
    """What to do where a folder holds annotations of another name than slotseg's, as exports of tools do."""
    found = list(islice(annotation_files(folder), 3))
    names, which = " or ".join(map(str, found)), "this file" if len(found) == 1 else "one of these files"
    return f", or, to read the annotations in {names}, the name of {which}" if found else ""


@dataclass(frozen=True, kw_only=True)
class RenumberedAnnotations:
    """Annotations in the classes of a ``classes.json``."""

    annotations: Annotations
    """The annotations."""
    table: NDArray[np.uint16]
    """Class of each index of the annotations, ``(65536,)``; ``NOTHING`` for void."""

    @property
    def description(self) -> str:
        """The file."""
        return self.annotations.description

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Photos that the annotations lack."""
        return self.annotations.missing(keys)

    def read(self, key: str) -> NDArray[np.uint16]:
        """Classes of a photo, ``(H, W)``."""
        classes: NDArray[np.uint16] = self.table[self.annotations.read(key)]
        return classes

    def where(self, key: str) -> str:
        """Name of a photo's annotations in messages."""
        return self.annotations.where(key)


def _of_annotations(annotations: Annotations, classes: OwnClasses | None) -> OwnLabels:
    if not classes:
        return OwnLabels(plain_taxonomy("folder", annotations.names, annotations.colors, (NOTHING,)), annotations)
    table = np.full(NOTHING + 1, NOTHING, np.uint16)
    table[: len(annotations.names)] = _places(annotations.names, str(annotations.path), classes)
    numbered = [replace(c, ids=(i,)) for i, c in enumerate(classes.taxonomy.classes)]
    taxonomy = replace(classes.taxonomy, classes=tuple(numbered), void=(NOTHING,), id_colors=())
    return OwnLabels(taxonomy, RenumberedAnnotations(annotations=annotations, table=table))


def _of_legend(legend: Legend, classes: OwnClasses | None) -> Taxonomy:
    """Classes of masks whose ids the legend names."""
    if not classes:
        own = tuple((i,) for i in legend.ids)
        taxonomy = plain_taxonomy("folder", legend.names, legend.colors, (legend.ignore_id,), own)
        encoding = f"{taxonomy.encoding}, as {legend.path} says"
        return replace(taxonomy, encoding=encoding, id_colors=legend.id_colors)
    places = _places(legend.names, str(legend.path), classes)
    pairs = list(zip(legend.ids, places, strict=True))
    ids = [tuple(i for i, place in pairs if place == c) for c in range(len(classes.taxonomy.classes))]
    void = (legend.ignore_id, *(i for i, place in pairs if place == NOTHING))
    numbered = [replace(c, ids=ids[i]) for i, c in enumerate(classes.taxonomy.classes)]
    return replace(classes.taxonomy, classes=tuple(numbered), void=void, id_colors=())


def _places(names: Sequence[str], where: str, classes: OwnClasses) -> list[int]:
    """Class of each name; ``NOTHING`` for those that ``classes.json`` ignores."""
    known = {name: i for i, name in enumerate(classes.taxonomy.names)} | dict.fromkeys(classes.void_names, NOTHING)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise DataError(
            f"{where} has the class {unknown!r}, which {classes.path} does not have ({', '.join(list(known)[:10])}); "
            f"expected the same names in both, or no {CLASSES}"
        )
    return [known[name] for name in names]


def _legend(path: Path, *, needed: bool) -> Legend | None:
    """The legend of masks. A file of its name that is no such legend does not matter where it is not needed."""
    if needed:
        return read_legend(legend_of(path))
    with suppress(DataError):
        return read_legend(legend_of(path))
    return None
