"""Labelled sources, to score against: the built-in scenes and a folder of photos with label maps.

Letters: C classes, H W pixels.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.data.images import list_images, read_image, read_label
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.errors import DataError, LabelError
from slotseg.labels import IGNORE, Color, palette

HELD_OUT_SCENES = 1_000_000
"""Seed of the first scene to score on; training draws from 0 upwards."""


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """A photo and its ground truth."""

    name: str
    """What to call it in a message."""
    image: NDArray[np.uint8]
    """RGB, ``(H, W, 3)``."""
    class_map: NDArray[Any]
    """Class ids, ``(H, W)``."""


class LabelledDataset(Protocol):
    """A numbered collection of photos with ground truth."""

    name: str
    class_names: tuple[str, ...]
    colors: tuple[Color, ...]
    ignore_index: int

    def __len__(self) -> int:
        """Number of photos."""
        ...

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """The photo alone."""
        ...

    def read(self, index: int) -> LabelledImage:
        """Photo and ground truth; raises ``DataError`` where they cannot be used."""
        ...


class LabelledScenes:
    """Held-out built-in scenes.

    Args:
        num_scenes: How many.
    """

    name = "scenes"
    class_names = CLASS_NAMES
    colors = palette(len(CLASS_NAMES))
    ignore_index = IGNORE

    def __init__(self, num_scenes: int = 200) -> None:
        self.num_scenes = num_scenes

    def __len__(self) -> int:
        return self.num_scenes

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """The picture alone."""
        return self.read(index).image

    def read(self, index: int) -> LabelledImage:
        """Picture and classes."""
        image, class_map = draw_scene(HELD_OUT_SCENES + index)
        return LabelledImage(name=f"scene-{index}", image=image, class_map=class_map)


class LabelledFolder:
    """A folder of photos and a folder of indexed PNGs of the same names.

    ``classes.json``, in the label folder or beside it, holds ``names`` and, if they differ from
    255 and the standard palette, ``ignore_index`` and ``colors``.

    Args:
        images: Photos, recursively.
        labels: Label maps under the same relative paths, with the suffix ``.png``.

    Raises:
        DataError: If a folder, ``classes.json`` or a label is missing.
    """

    name = "folder"

    def __init__(self, images: Path, labels: Path) -> None:
        if not labels.is_dir():
            raise DataError(f"{labels} is not a folder; expected the folder of label maps")
        self.class_names, self.colors, self.ignore_index = _read_classes(labels)
        self.image_paths = list_images([images])
        root = images if images.is_dir() else images.parent
        self.label_paths = [(labels / p.relative_to(root)).with_suffix(".png") for p in self.image_paths]
        missing = [p for p in self.label_paths if not p.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self.label_paths)} photos have no label map, the first is {missing[0]}; "
                "expected an indexed PNG of the same name for each photo"
            )

    def __len__(self) -> int:
        return len(self.image_paths)

    def read_image(self, index: int) -> NDArray[np.uint8]:
        """The photo alone."""
        return read_image(self.image_paths[index])

    def read(self, index: int) -> LabelledImage:
        """Photo and label map.

        Raises:
            DataError: If the photo cannot be read.
            LabelError: If the label map cannot, or is of another size.
        """
        photo, label = self.image_paths[index], self.label_paths[index]
        image = read_image(photo)
        try:
            class_map = read_label(label)
        except DataError as error:
            raise LabelError(str(error)) from error
        if image.shape[:2] != class_map.shape:
            raise LabelError(
                f"{label} is {class_map.shape[1]} x {class_map.shape[0]} and its photo {photo.name} "
                f"{image.shape[1]} x {image.shape[0]}; expected the same size: scale labels with nearest neighbour"
            )
        return LabelledImage(name=str(photo), image=image, class_map=class_map)


def _read_classes(labels: Path) -> tuple[tuple[str, ...], tuple[Color, ...], int]:
    candidates = [labels / "classes.json", labels.parent / "classes.json"]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise DataError(
            f"there is no classes.json in {labels} or beside it; "
            'expected {"names": ["sky", "tree", ...], "ignore_index": 255}'
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content["names"], list):
            raise TypeError("names is no list")
        names = tuple(str(name) for name in content["names"])
        ignore_index = int(content.get("ignore_index", IGNORE))
        colors = tuple((int(r), int(g), int(b)) for r, g, b in content.get("colors", palette(len(names))))
        if any(not 0 <= value <= 255 for color in colors for value in color):
            raise ValueError("colors go beyond 0 to 255")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path} cannot be used ({error!r}); expected {{"names": ["sky", "tree", ...], "ignore_index": 255}}'
        ) from error
    if not names or len(colors) != len(names):
        raise DataError(f"{path} has {len(names)} names and {len(colors)} colors; expected as many, at least one")
    return names, colors, ignore_index
