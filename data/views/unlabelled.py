"""Photos to train on: files and folders, or an unlabelled training set by name, with its places on disk.

Training on a set is training on its folders, so only this look-up knows the names of sets.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slotseg.data.finding.places import check_data_dir, nothing_complete
from slotseg.errors import ConfigError

NUM_PHOTOS = {"coco": 118_287, "cocoplus": 118_287 + 123_403, "imagenet": 1_281_167}
"""Number of photos of each set as published: COCO train2017, the same with unlabeled2017, ImageNet-1k's train."""

DATASETS = tuple(NUM_PHOTOS)
"""Names of the training sets."""


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Places on disk where people have a set."""

    rows: tuple[tuple[str, ...], ...]
    """Example of a direct entry of each folder. Any one row would do, and it needs all its folders."""
    entry: str
    """Regular expression for the names of direct entries of each folder."""

    def is_there(self, example: Path) -> bool:
        """Whether the folder of an example holds any such entry."""
        if not example.parent.is_dir():
            return False
        with os.scandir(example.parent) as entries:
            return any(re.fullmatch(self.entry, found.name) for found in entries)


def _coco(*parts: str) -> _Places:
    rows = tuple(tuple(f"{below}{part}/*.jpg" for part in parts) for below in ("", "images/"))
    return _Places(rows=rows, entry=r".+\.jpg")


_PLACES = {
    "coco": _coco("train2017"),
    "cocoplus": _coco("train2017", "unlabeled2017"),
    "imagenet": _Places(
        rows=tuple((f"{at}n01440764/",) for at in ("train/", "ILSVRC/Data/CLS-LOC/train/", "Data/CLS-LOC/train/", "")),
        entry=r"n\d{8}",
    ),
}


@dataclass(frozen=True)
class Photos:
    """The photos that a user asks for: files and folders, a training set by name, or neither.

    Raises:
        ConfigError: If a set and its folder are not given together, or beside files and folders.
    """

    paths: Sequence[Path] = ()
    """Files and folders, searched recursively."""
    dataset: str | None = None
    """Name of the training set, one of ``DATASETS``."""
    data_dir: Path | None = None
    """Folder of the training set, as it was published."""

    def __post_init__(self) -> None:
        if bool(self.dataset) != bool(self.data_dir) or (self.dataset and self.paths):
            raise ConfigError(
                "--dataset and --data-dir go together and replace PHOTOS; expected both and no PHOTOS, or neither"
            )

    def __bool__(self) -> bool:
        """Whether any photos are asked for."""
        return bool(self.paths or self.dataset)

    def folders(self) -> Sequence[Path]:
        """Files and folders to search for photos; for a training set, those that ``photo_folders`` finds."""
        return photo_folders(self.dataset, self.data_dir) if self.dataset and self.data_dir else self.paths


NO_PHOTOS = Photos()
"""No request: a new run takes the built-in scenes, and a resumed run its own photos."""


def photo_folders(name: str, data_dir: Path) -> list[Path]:
    """Find the folders of a training set's photos.

    Args:
        name: Name of the set, one of ``DATASETS``.
        data_dir: Folder of the data set, in any of its usual layouts.

    Raises:
        ConfigError: If there is no such set.
        DataError: If no layout is complete, with every path that would do and which of them are missing.
    """
    if name not in _PLACES:
        raise ConfigError(f"unknown data set {name!r}; expected one of {', '.join(DATASETS)}")
    check_data_dir(data_dir, name)
    places = _PLACES[name]
    for row in places.rows:
        if all(places.is_there(data_dir / example) for example in row):
            return [(data_dir / example).parent for example in row]
    raise nothing_complete(name, data_dir, places.rows, places.is_there)
