"""Label maps from COCO's own annotation files, and a check that label PNGs are not shifted by one.

Letters: H W pixels.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations import shapes
from slotseg.data.labelled.annotations.coco import to_rle
from slotseg.data.labelled.label_sources import LabelSource
from slotseg.data.reading.images import read_image
from slotseg.errors import DataError, LabelError
from slotseg.labels.label_map import IGNORE

log = logging.getLogger(__name__)

LAST_STUFF = 182
"""Largest COCO-Stuff category id. The id 183, "other" in the stuff annotations, marks the pixels of things."""

_CHECKED_PHOTOS = 20
_LARGEST_CHECK = 64 << 20


class AnnotationFile:
    """The annotations of a COCO JSON, by photo, rasterised with pycocotools.

    Args:
        path: JSON file, such as ``instances_val2017.json`` or ``stuff_val2017.json``.

    Raises:
        DataError: If the file is no such JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _read_json(path, ("images", "annotations"))
        self.sizes: dict[int, tuple[int, int]] = {i["id"]: (i["height"], i["width"]) for i in content["images"]}
        self.annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            self.annotations[annotation["image_id"]].append(annotation)

    def masks(self, image_id: int) -> list[tuple[dict[str, Any], NDArray[np.bool_]]]:
        """Annotations of a photo with their masks ``(H, W)``: crowds first, then from large to small.

        COCO gives overlapping instances no order. In this order later ones lie on top, so small things stay
        visible.

        Raises:
            DataError: If one cannot be drawn.
        """
        found = sorted(self.annotations.get(image_id, []), key=lambda a: (not a.get("iscrowd", 0), -a.get("area", 0)))
        try:
            return [(a, shapes.decode(to_rle(a["segmentation"], self.sizes[image_id]))) for a in found]
        except ValueError as error:
            raise DataError(f"photo {image_id} of {self.path} {error}") from error


class CocoAnnotations:
    """COCO-Stuff label maps from its JSON: stuff below, things on top. The encoding is that of its PNGs.

    Args:
        stuff: File ``stuff_<split>.json``; None leaves stuff unlabelled.
        instances: File ``instances_<split>.json``.

    Raises:
        DataError: If a file is no such JSON.
    """

    def __init__(self, stuff: Path | None, instances: Path) -> None:
        self.files = [AnnotationFile(path) for path in (stuff, instances) if path]
        self.sizes = {key: size for file in self.files for key, size in file.sizes.items()}
        self.description = " + ".join(file.path.name for file in self.files)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Photos that the annotations do not list."""
        return [self.where(key) for key in keys if _image_id(key) not in self.sizes]

    def read(self, key: str) -> NDArray[np.uint8]:
        """Category id - 1 of each pixel ``(H, W)``; 255 where there is no annotation."""
        image_id = _image_id(key)
        label_map = np.full(self.sizes[image_id], IGNORE, dtype=np.uint8)
        for file in self.files:
            for annotation, mask in file.masks(image_id):
                if annotation["category_id"] <= LAST_STUFF:
                    label_map[mask] = annotation["category_id"] - 1
        return label_map

    def where(self, key: str) -> str:
        """Name in messages: the photo and the files."""
        return f"photo {key} of {self.description}"


class PanopticAnnotations:
    """COCO category ids from panoptic PNGs (segment id = R + 256 G + 65536 B) and their JSON.

    Args:
        annotations: File ``panoptic_<split>.json``.
        folder: Folder of its PNGs.

    Raises:
        DataError: If the file is no such JSON.
    """

    def __init__(self, annotations: Path, folder: Path) -> None:
        self.folder = folder
        self.description = f"{annotations.name} + {folder.name}/*.png"
        content = _read_json(annotations, ("annotations",))
        self.segments: dict[str, dict[int, int]] = {
            Path(a["file_name"]).stem: {s["id"]: s["category_id"] for s in a["segments_info"]}
            for a in content["annotations"]
        }

    def missing(self, keys: Iterable[str]) -> list[str]:
        """PNGs that are absent or that the JSON does not list."""
        absent = [k for k in keys if k not in self.segments or not (self.folder / f"{k}.png").is_file()]
        return [self.where(key) for key in absent]

    def read(self, key: str) -> NDArray[np.uint16]:
        """Category id of each pixel ``(H, W)``; 0 where there is no segment.

        Raises:
            DataError: If the PNG cannot be read or has a segment that the JSON does not list.
        """
        r, g, b = np.moveaxis(read_image(self.folder / f"{key}.png").astype(np.int32), 2, 0)
        segment_ids = r + 256 * g + 65_536 * b
        label_map = np.zeros(segment_ids.shape, dtype=np.uint16)
        for segment, category in self.segments[key].items():
            label_map[segment_ids == segment] = category
        unknown = (label_map == 0) & (segment_ids != 0)
        if unknown.any():
            raise DataError(
                f"{self.where(key)} has the segment {segment_ids[unknown][0]}, which {self.description} does not list; "
                "expected PNGs and JSON of the same release"
            )
        return label_map

    def where(self, key: str) -> str:
        """Path of the PNG."""
        return str(self.folder / f"{key}.png")


def check_not_shifted(source: LabelSource, instances: Path, keys: Iterable[str]) -> None:
    """Compare label maps with the instance annotations of the same photos.

    In a label map that counts from 1, the pixels of a person have the value 1, which means bicycle.

    Args:
        source: Source of label maps with category id - 1.
        instances: File ``instances_<split>.json``. Nothing is checked if it is absent, or too large to be read for a
            mere check.
        keys: Keys of the photos. The first few with instances are checked.

    Raises:
        LabelError: If more pixels of instances fit the shifted encoding than the expected one.
    """
    if not instances.is_file() or instances.stat().st_size > _LARGEST_CHECK:
        return
    file = AnnotationFile(instances)
    right = shifted = 0
    for key in islice((k for k in keys if file.annotations.get(_image_id(k))), _CHECKED_PHOTOS):
        label_map = source.read(key)
        for annotation, mask in file.masks(_image_id(key)):
            if mask.shape != label_map.shape:
                raise LabelError(
                    f"{source.where(key)} is {label_map.shape[1]} x {label_map.shape[0]} and its photo "
                    f"{mask.shape[1]} x {mask.shape[0]} by {instances.name}; expected the same size"
                )
            inside = label_map[mask]
            right += int((inside == annotation["category_id"] - 1).sum())
            shifted += int((inside == annotation["category_id"]).sum())
    if shifted > right:
        raise LabelError(
            f"{source.description} is shifted by one: of the pixels that {instances.name} gives to instances, "
            f"{shifted} hold the category id and {right} the id - 1; expected id - 1, with 255 for unlabelled pixels"
        )


def _read_json(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); expected COCO annotations in JSON") from error
    if not isinstance(content, dict) or any(not isinstance(content.get(k), list) for k in keys):
        raise DataError(f"{path} has no {' and '.join(keys)}; expected COCO annotations in JSON")
    return content


def _image_id(key: str) -> int:
    try:
        return int(Path(key).name)
    except ValueError:
        raise DataError(f"photo {key} has no number for a name; expected COCO's, such as 000000000139") from None
