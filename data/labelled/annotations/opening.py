"""Which annotations a user's path stands for, and what their names mean beside a ``classes.json``.

Letters: H W pixels.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.coco import CocoFile
from slotseg.data.labelled.annotations.cvat import CvatFile
from slotseg.data.labelled.annotations.labelme import LabelmeFolder
from slotseg.data.labelled.annotations.photo_names import file_named, names_in
from slotseg.errors import DataError
from slotseg.labels.label_map import Color

COCO_NAME = "annotations.json"
"""Name of the COCO file that slotseg writes into a folder."""
CVAT_NAME = "annotations.xml"
"""Name of the CVAT file that slotseg writes into a folder."""

_HEAD = 1 << 20
_COCO = re.compile(r'"(images|annotations|categories|licenses|image_id)"\s*:')
_LABELME = re.compile(r'"(shapes|imagePath)"\s*:')


class Annotations(Protocol):
    """Label maps by the key of their photo, drawn from annotations."""

    path: Path
    """File or folder of the annotations."""
    description: str
    """Description for the result."""
    colors: tuple[Color, ...] | None
    """Colour of each class; None if some have none."""
    listed: str
    """Name of a photo in the file; empty if there is a file for each photo."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Names of the annotations that are absent for these photos."""
        ...

    def read(self, key: str) -> NDArray[np.uint16]:
        """Index into ``names`` of each pixel, ``(H, W)``; ``shapes.NOTHING`` where there is no annotation."""
        ...

    def where(self, key: str) -> str:
        """Name of a photo's annotations in messages."""
        ...


def is_annotations(path: Path) -> bool:
    """Whether a file is one of annotations, or meant to be, rather than of names."""
    return path.suffix.lower() == ".xml" or _is(path, _COCO) or _is(path, _LABELME)


def is_of_one_photo(path: Path) -> bool:
    """Whether a file is one of labelme."""
    return _is(path, _LABELME)


def annotation_files(folder: Path) -> Iterator[Path]:
    """Find the annotations of any name, in a folder and its subfolders, each of which is about several photos."""
    for place in (folder, *sorted(path for path in folder.glob("*/") if path.is_dir())):
        files = (place / name for name in names_in(place) if name.lower().endswith((".json", ".xml")))
        yield from (path for path in files if is_annotations(path) and not is_of_one_photo(path))


def find_annotations(folder: Path, keys: Sequence[str]) -> list[Path]:
    """Find the annotations in a folder: files of COCO and CVAT, and the folder itself if it holds files of labelme."""
    files = [file_named(folder, COCO_NAME), file_named(folder, CVAT_NAME)]
    found = [path for path in files if path.is_file() and is_annotations(path) and not is_of_one_photo(path)]
    labelme = LabelmeFolder(folder, keys)
    return [*found, *([folder] if any(is_of_one_photo(labelme.file(key)) for key in keys) else [])]


def open_annotations(
    path: Path, keys: Sequence[str], names: tuple[str, ...] = (), photos: Mapping[str, Path] | None = None
) -> Annotations:
    """Open the annotations of some photos.

    Args:
        path: Result of ``find_annotations``, or a file that a user named.
        keys: Keys of the photos: paths without suffix. All of them must be there.
        names: Names of the classes, for labelme, whose files have no list of them.
        photos: File of each photo by key, for labelme, whose files may lack its size.

    Raises:
        DataError: If the annotations cannot be used, or lack photos; the message counts them.
    """
    annotations: Annotations
    if path.is_dir():
        annotations = LabelmeFolder(path, keys, names, photos)
    elif is_of_one_photo(path):
        raise DataError(f"{path} is labelme's file of one photo; expected its folder")
    else:
        annotations = (CvatFile if path.suffix.lower() == ".xml" else CocoFile)(path, keys)
    if missing := annotations.missing(keys):
        listed = f", which lists {annotations.listed} and so on" if annotations.listed else ""
        raise DataError(
            f"{len(missing)} of {len(keys)} photos have no annotations in {path}{listed}; the first is {missing[0]}: "
            "expected each photo by its name, or --image-list with the photos that are there"
        )
    return annotations


def _is(path: Path, kind: re.Pattern[str]) -> bool:
    """Whether a file begins like a JSON of a kind. It may be too large to be parsed twice."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        return kind.search(head.decode(json.detect_encoding(head), "ignore")) is not None
    except OSError:
        return False
