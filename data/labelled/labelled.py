"""Labelled photos to score on: a list of photos with a source of label maps, and the built-in scenes.

``slotseg.data.labelled.benchmarks`` knows where the sets of the field lie on disk. Letters: C classes, H W pixels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.data.finding.listing import list_images
from slotseg.data.labelled.annotations.photo_names import one_form
from slotseg.data.labelled.image_lists import ImageList, read_image_list
from slotseg.data.labelled.label_search import without_labels
from slotseg.data.labelled.label_sources import LabelSource
from slotseg.data.labelled.own_labels import annotations_hint, open_own_labels
from slotseg.data.labelled.taxonomy import Taxonomy, plain_taxonomy
from slotseg.data.reading.images import AS_TYPED, read_image, read_with_notes, split_missing
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.errors import DataError, LabelError

HELD_OUT_SCENES = 1_000_000
"""Seed of the first scene to score on. Training draws from 0 upwards."""

SCENE_SPLITS = {"val": HELD_OUT_SCENES, "train": 0}
"""Seed of the first scene of each split."""


@dataclass(frozen=True, kw_only=True)
class ScoredPhoto:
    """A photo as a predictor sees it."""

    key: str
    """Key of the photo: its path below the photos of the set, without suffix."""
    image: NDArray[np.uint8]
    """RGB pixels, ``(H, W, 3)``."""
    size_hw: tuple[int, int]
    """Height and width of the photo on disk, in pixels, before a protocol scales and crops it."""


@dataclass(frozen=True, kw_only=True)
class LabelledImage(ScoredPhoto):
    """A photo with its ground truth."""

    class_map: NDArray[Any]
    """Class ids, ``(H, W)``; void pixels have the taxonomy's ``ignore``."""


class LabelledDataset(Protocol):
    """A numbered collection of photos with ground truth."""

    name: str
    """Name of the set."""
    split: str
    """Part of the set."""
    taxonomy: Taxonomy
    """Label set, with the classes."""
    image_list: ImageList
    """List of the photos."""

    @property
    def labels(self) -> str:
        """Description of the label maps, for the result."""
        ...

    def __len__(self) -> int:
        """Number of photos."""
        ...

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """Pixels of a photo alone, ``(H, W, 3)``."""
        ...

    def read(self, index: int) -> LabelledImage:
        """A photo with its ground truth. Raises ``DataError`` if they cannot be used."""
        ...


class LabelledScenes:
    """Built-in scenes.

    Args:
        num_scenes: Number of scenes.
        split: Name of the split: ``train``, or ``val``, whose scenes training never sees.

    Raises:
        DataError: If there is no such split.
    """

    name = "scenes"
    taxonomy = plain_taxonomy("scenes", CLASS_NAMES)
    labels = "drawn"

    def __init__(self, num_scenes: int = 200, split: str = "val") -> None:
        if split not in SCENE_SPLITS:
            raise DataError(f"scenes have no split {split!r}; expected {' or '.join(SCENE_SPLITS)}")
        self.num_scenes, self.split = num_scenes, split
        self.image_list = ImageList.of([f"scene-{i}" for i in range(num_scenes)])

    def __len__(self) -> int:
        return self.num_scenes

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """Pixels of a scene alone, ``(H, W, 3)``."""
        return self.read(index).image

    def read(self, index: int) -> LabelledImage:
        """A scene with its classes."""
        image, class_map = draw_scene(SCENE_SPLITS[self.split] + index)
        return LabelledImage(
            key=f"scene-{index}", image=image, size_hw=(class_map.shape[0], class_map.shape[1]), class_map=class_map
        )


class LabelledPhotos:
    """Photos on disk with a source of label maps.

    Args:
        name: Name of the set.
        split: Part of the set.
        taxonomy: Label set, which gives the ids of the label maps their meaning.
        photos: Key and file of each photo.
        source: Source of the label maps, by key.
        image_list: List of the photos to keep, in its order; by default all.
        limit: Number of photos, from the first on, that need label maps; by default all.

    Raises:
        DataError: If photos of the list or label maps are absent; the message counts all of them.
    """

    def __init__(
        self,
        *,
        name: str,
        split: str,
        taxonomy: Taxonomy,
        photos: Sequence[tuple[str, Path]],
        source: LabelSource,
        image_list: ImageList | None = None,
        limit: int | None = None,
    ) -> None:
        self.name, self.split, self.taxonomy, self.source = name, split, taxonomy, source
        self.reading = AS_TYPED
        files = dict(photos)
        twice = next(((path, files[key]) for key, path in photos if files[key] != path), None)
        if twice:
            raise DataError(f"{twice[0]} and {twice[1]} would share a label map; expected photos of different names")
        self.image_list = image_list or ImageList.of(list(files))
        _refuse_absent(self.image_list, files, name)
        _refuse_missing(source.missing(self.image_list.keys[:limit]), "label maps", self.image_list.name, name)
        self.photos = [(key, files[key]) for key in self.image_list.keys]

    @property
    def labels(self) -> str:
        """Description of the label maps, for the result."""
        return self.source.description

    def __len__(self) -> int:
        return len(self.photos)

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """Pixels of a photo alone, ``(H, W, 3)``."""
        return read_image(self.photos[index][1], reading=self.reading)

    def read(self, index: int) -> LabelledImage:
        """A photo with its ground truth.

        Raises:
            DataError: If the photo cannot be read.
            LabelError: If the label map cannot be read, has another size, or holds an id without a meaning.
        """
        key, path = self.photos[index]
        image, missing = split_missing(read_with_notes(path, reading=self.reading)[0])
        class_map = self.read_classes(key)
        if image.shape[:2] != class_map.shape:
            raise LabelError(
                f"{self.source.where(key)} is {class_map.shape[1]} x {class_map.shape[0]} and its photo {path.name} "
                f"{image.shape[1]} x {image.shape[0]}; expected the same size: scale labels with nearest neighbour"
            )
        if missing is not None:  # what is no picture is not scored
            class_map = np.where(missing, class_map.dtype.type(self.taxonomy.ignore), class_map)
        return LabelledImage(key=key, image=image, size_hw=(image.shape[0], image.shape[1]), class_map=class_map)

    def read_classes(self, key: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Class ids of a photo, ``(H, W)``.

        Raises:
            LabelError: If the label map cannot be read, or holds an id without a meaning.
        """
        try:
            label_map = self.source.read(key)
        except DataError as error:
            raise LabelError(str(error)) from error
        return self.taxonomy.class_map(label_map, self.source.where(key))


def labelled_folder(
    images: Path,
    labels: Path,
    split: str | None = None,
    *,
    image_list: Path | None = None,
    limit: int | None = None,
) -> LabelledPhotos:
    """Open a folder of photos with somebody's own labels, as ``slotseg.data.labelled.own_labels`` finds them.

    Args:
        images: Folder of the photos, searched recursively.
        labels: Folder of the label maps, with the same relative paths, or annotations of the photos.
        split: Name of a folder in both. If given, only these folders are taken.
        image_list: File with a photo's name a line. If given, only these photos are kept, and need labels.
        limit: Number of photos, from the first on, that need labels; by default all.

    Raises:
        DataError: If a folder, the names of the classes or a label map are missing.
    """
    if split:
        images, whole, labels = images / split, labels, labels if labels.is_file() else labels / split
    if not labels.exists():
        hint = annotations_hint(whole) if split else ""
        raise DataError(f"{labels} is not a folder; expected the folder of label maps, or a file of annotations{hint}")
    root = images if images.is_dir() else images.parent
    files, names = list_images([images]), set[str]()
    if root.samefile(labels):
        files = without_labels(files, root)
        names = {path.relative_to(root).as_posix() for path in files}
    elif labels.is_dir() and labels.resolve().is_relative_to(root.resolve()):
        inside = root / labels.resolve().relative_to(root.resolve())
        files = [path for path in files if not path.is_relative_to(inside)] or files
    photos = _with_keys(files, root)
    by_key = dict(photos)
    listed = read_image_list(image_list, by_key) if image_list else ImageList.of(list(by_key))
    _refuse_absent(listed, by_key, "folder")
    wanted = {key: by_key[key] for key in listed.keys[:limit]}
    taxonomy, source = open_own_labels(labels, wanted, no_labels=names, above=2 if split else 1)
    return LabelledPhotos(
        name="folder",
        split=split or "all",
        taxonomy=taxonomy,
        photos=photos,
        source=source,
        image_list=listed,
        limit=limit,
    )


def _with_keys(photos: Sequence[Path], root: Path) -> list[tuple[str, Path]]:
    """Key and file of each photo. Photos that differ only in their suffix keep it, as their masks do."""
    names = [Path(one_form(str(photo.relative_to(root)))) for photo in photos]
    stems = Counter(name.with_suffix("") for name in names)
    keys = [(name if stems[name.with_suffix("")] > 1 else name.with_suffix("")).as_posix() for name in names]
    return list(zip(keys, photos, strict=True))


def _refuse_absent(image_list: ImageList, files: Mapping[str, Path], name: str) -> None:
    like = f", which are called {next(iter(files))} and so on" if files else ""
    _refuse_missing([key for key in image_list.keys if key not in files], "photos", image_list.name, name, like)


def _refuse_missing(missing: Sequence[str], what: str, image_list: str, name: str, like: str = "") -> None:
    if missing:
        examples = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{len(missing)} {what} of {name} ({image_list} images) are absent: {examples}; expected all of them, "
            f"or --image-list with those that are there{like}"
        )
