"""COCO's annotations as label maps: run lengths, compressed or not, and polygons.

The file is read once. What is kept of it is about as large as the file; one photo at a time is decoded.
Letters: H W pixels.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations import shapes
from slotseg.data.labelled.annotations.common import (
    checked_names,
    checked_size,
    color_of,
    common_colors,
    empty_map,
    quoted,
    read_json,
)
from slotseg.data.labelled.annotations.photo_names import find_photos
from slotseg.errors import DataError

EXPECTED = "COCO's annotations in JSON, with images, annotations and categories"


class CocoFile:
    """The annotations of a COCO JSON, by photo.

    COCO gives overlapping annotations no order. Crowds are drawn first, then the others from large to small, so that
    small things stay visible, as for COCO's own sets.

    Args:
        path: JSON file.
        keys: Keys of the photos: paths without suffix.

    Attributes:
        names: Names of the categories, in the order of the file.
        colors: Their colours; None unless all of them have one.
        listed: Name of a photo in the file; empty if there is none.

    Raises:
        DataError: If the file is no such JSON, or two of its photos may be one of ``keys``.
    """

    def __init__(self, path: Path, keys: Iterable[str]) -> None:
        self.path, self.description = path, path.name
        content = _read(path)
        categories = content["categories"]
        self.names = checked_names([c["name"] for c in categories], str(path))
        self.colors = common_colors([color_of(c.get("color")) for c in categories])
        self._classes = {c["id"]: i for i, c in enumerate(categories)}
        if len(self._classes) < len(categories):
            twice = next(c["id"] for i, c in enumerate(categories) if self._classes[c["id"]] != i)
            raise DataError(f"{path} has two categories of the id {twice}; expected different ids")
        names = [str(image["file_name"]) for image in content["images"]]
        places = find_photos([_as_written(key) for key in keys], names, str(path))
        self._images = {key: content["images"][place] for key, place in places.items()}
        _check_image_ids(content, path)
        wanted = {image["id"] for image in self._images.values()}
        self._annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            if annotation["image_id"] in wanted:
                self._annotations[annotation["image_id"]].append(annotation)
        self.listed = names[0] if names else ""

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Photos that the file does not list."""
        return [self.where(key) for key in keys if _as_written(key) not in self._images]

    def read(self, key: str) -> NDArray[np.uint16]:
        """Index into ``names`` of each pixel, ``(H, W)``; ``shapes.NOTHING`` where there is no annotation.

        Raises:
            DataError: If the size of the photo or a segmentation cannot be used.
        """
        image = self._images[_as_written(key)]
        try:
            size_hw = checked_size(image.get("height"), image.get("width"))
            label_map = empty_map(size_hw)
            found = [self._shape(a, size_hw) for a in self._annotations.get(image["id"], [])]
            for _, _, index, rle in sorted(found, key=lambda shape: shape[:2]):
                label_map[shapes.decode(rle)] = index
        except ValueError as error:
            raise DataError(f"{self.where(key)} {error}") from error
        return label_map

    def where(self, key: str) -> str:
        """Name in messages: the photo and the file."""
        return f"photo {key} of {self.path}"

    def _shape(self, annotation: dict[str, Any], size_hw: tuple[int, int]) -> tuple[bool, int, int, shapes.Rle]:
        """Whether an annotation is drawn after the crowds, its negative area, its class and its run lengths."""
        category = annotation["category_id"]
        if category not in self._classes:
            raise ValueError(f"has the category_id {category}; expected the id of one of the categories")
        rle = to_rle(annotation.get("segmentation"), size_hw)
        return not annotation.get("iscrowd"), -shapes.area(rle), self._classes[category], rle


def to_rle(segmentation: Any, size_hw: tuple[int, int]) -> shapes.Rle:
    """Run lengths of a segmentation: polygons, or run lengths, compressed or not.

    Raises:
        ValueError: If it cannot be drawn in a photo of this size; the message is a clause without a subject.
    """
    if not segmentation or not isinstance(segmentation, list | dict):
        raise ValueError("has an annotation without a segmentation, such as a box; expected a polygon or run lengths")
    if isinstance(segmentation, list):
        return shapes.polygon_rle(segmentation, size_hw)
    if list(segmentation.get("size", ())) != list(size_hw):
        raise ValueError(
            f"has run lengths of size {segmentation.get('size')}; expected [{size_hw[0]}, {size_hw[1]}], its photo's "
            "height and width"
        )
    return shapes.run_length_rle(segmentation.get("counts"), size_hw)


def _check_image_ids(content: dict[str, Any], path: Path) -> None:
    """Refuse images that share an id, and annotations of none of the images. A few left over belong to no photo."""
    counts = Counter(image["id"] for image in content["images"])
    twice = next((i for i, count in counts.items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two images of the id {twice}; expected different ids")
    images_of = [annotation["image_id"] for annotation in content["annotations"]]
    if images_of and not any(i in counts for i in images_of):
        raise DataError(
            f"{path} has annotations of the image_id {quoted(images_of[0])} and so on; expected ids of its images"
        )


def _as_written(key: str) -> str:
    """A key as UTF-8 can hold it. File names may hold bytes that are no text."""
    return key.encode(errors="replace").decode()


def _read(path: Path) -> dict[str, Any]:
    """The JSON, with every entry that is used checked for its fields."""
    content = read_json(path, EXPECTED, _compact)
    fields = {"images": {"id", "file_name"}, "annotations": {"image_id", "category_id"}, "categories": {"id", "name"}}
    for key, needed in fields.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"{path} has no {key}; expected {EXPECTED}")
        wrong = next((e for e in entries if not isinstance(e, dict) or not needed <= e.keys()), None)
        if wrong is not None:
            raise DataError(f"{path} has {quoted(wrong)} in its {key}; expected {' and '.join(sorted(needed))} there")
        for entry in entries:
            if any(isinstance(entry[name], list | dict) for name in needed):
                raise DataError(f"{path} has {quoted(entry)} in its {key}; expected numbers and names there")
    assert isinstance(content, dict)
    return content


def _compact(value: dict[str, Any]) -> dict[str, Any]:
    """An annotation without what is not used, and with numbers that take 8 bytes each."""
    if "image_id" not in value or "category_id" not in value:
        return value
    kept = {key: value.get(key) for key in ("image_id", "category_id", "iscrowd", "segmentation")}
    try:
        if isinstance(kept["segmentation"], list):
            kept["segmentation"] = [array("d", polygon) for polygon in kept["segmentation"]]
    except (TypeError, OverflowError):
        pass  # no polygons; they are refused when their photo is read
    return kept
