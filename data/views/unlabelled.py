"""What to train on: files and folders, or an unlabelled training set of the field by name, and where it lies on disk.

Training on a set is training on these folders, so nothing but this look-up knows its name.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slotseg.errors import ConfigError, DataError

NUM_PHOTOS = {"coco": 118_287, "cocoplus": 118_287 + 123_403, "imagenet": 1_281_167}
"""Photos of each set as published: COCO train2017, with unlabeled2017 as well, ImageNet-1k's train."""

DATASETS = tuple(NUM_PHOTOS)
"""Names of the sets."""


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where people have a set; each row would do, and all folders of a row are needed."""

    rows: tuple[tuple[str, ...], ...]
    entry: str
    """Pattern of what each folder holds directly."""
    example: str
    """Of such an entry, for messages."""


def _coco(*parts: str) -> _Places:
    rows = tuple(tuple(below + part for part in parts) for below in ("", "images/"))
    return _Places(rows=rows, entry=r".+\.jpg", example="*.jpg")


_PLACES = {
    "coco": _coco("train2017"),
    "cocoplus": _coco("train2017", "unlabeled2017"),
    "imagenet": _Places(
        rows=(("train",), ("ILSVRC/Data/CLS-LOC/train",), ("Data/CLS-LOC/train",), ("",)),
        entry=r"n\d{8}",
        example="n01440764/",
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
    if not data_dir.is_dir():
        raise DataError(f"{data_dir} is not a folder; expected the folder of {name}, see --data-dir")
    places = _PLACES[name]
    for row in places.rows:
        if all(_is_there(data_dir / folder, places.entry) for folder in row):
            return [data_dir / folder for folder in row]
    raise DataError(
        f"{name} is not in {data_dir}; expected one of these, of which every path is needed:\n"
        + "\n".join(_described(row, places, data_dir) for row in places.rows)
    )


def _is_there(folder: Path, entry: str) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(re.fullmatch(entry, found.name) for found in entries)


def _described(row: tuple[str, ...], places: _Places, data_dir: Path) -> str:
    shown = [os.path.join(folder, places.example) for folder in row]
    there = [_is_there(data_dir / folder, places.entry) for folder in row]
    return "  " + ", ".join(path if here else f"{path} (missing)" for path, here in zip(shown, there, strict=True))
