"""What to train on: files and folders, or an unlabelled training set of the field by name, and where it lies on disk.

Training on a set is training on these folders, so nothing but this look-up knows its name.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slotseg.data.finding.places import check_data_dir, nothing_complete
from slotseg.errors import ConfigError

NUM_PHOTOS = {"coco": 118_287, "cocoplus": 118_287 + 123_403, "imagenet": 1_281_167}
"""Photos of each set as published: COCO train2017, with unlabeled2017 as well, ImageNet-1k's train."""

DATASETS = tuple(NUM_PHOTOS)
"""Names of the sets."""


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where people have a set."""

    rows: tuple[tuple[str, ...], ...]
    """An example of what each folder holds directly; each row would do, and all of its folders are needed."""
    entry: str
    """Pattern of what each folder holds directly."""

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
        """Files and folders to look for photos in; of a training set, as ``photo_folders`` finds them."""
        return photo_folders(self.dataset, self.data_dir) if self.dataset and self.data_dir else self.paths


NO_PHOTOS = Photos()
"""What stands for the built-in scenes, and for the photos of a run that goes on."""


def photo_folders(name: str, data_dir: Path) -> list[Path]:
    """The folders of a training set's photos.

    Args:
        name: One of ``DATASETS``.
        data_dir: The set's folder, in any of its usual layouts.

    Raises:
        ConfigError: If there is no such set.
        DataError: If it is not there; it says every path that would do, and which are missing.
    """
    if name not in _PLACES:
        raise ConfigError(f"unknown data set {name!r}; expected one of {', '.join(DATASETS)}")
    check_data_dir(data_dir, name)
    places = _PLACES[name]
    for row in places.rows:
        if all(places.is_there(data_dir / example) for example in row):
            return [(data_dir / example).parent for example in row]
    raise nothing_complete(name, data_dir, places.rows, places.is_there)
