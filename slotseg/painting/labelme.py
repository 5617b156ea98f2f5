"""Labelme annotations: for each photo a JSON file of polygons that people can edit.

Labelme's polygons have no holes, and a later shape is drawn over an earlier one. So a connected part is outlined as
if it had no holes, and the shapes are sorted by the area that they enclose, the largest first. What lies in a hole is
then drawn over it. Ignored pixels in a hole are a shape named ``__ignore__``, as in labelme's own examples. Corners
are centres of border pixels, as labelme fills polygons with their outline.
Letters: H W pixels.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.labelme import IGNORED
from slotseg.errors import DataError
from slotseg.files import write_bytes, writing
from slotseg.labels.label_map import LabelMap
from slotseg.painting.regions import BoxXYWH, find_regions

VERSION = "5.5.0"
"""Version of labelme whose files these are like. Later versions read them too."""
TOLERANCE = 0.5
"""Largest distance of a polygon's simpler outline from the exact one, pixels."""


class LabelmeWriter:
    """Writes a file for each photo at once: ``deep/photo.json`` for ``deep/photo.jpg``.

    Args:
        folder: Folder for the files.
        labels: Names.
        tolerance: Largest distance of outlines from the exact ones, pixels; 0 keeps every pixel.
    """

    per_photo: ClassVar[bool] = True
    wants_confidence: ClassVar[bool] = False

    def __init__(self, folder: Path, labels: LabelMap, tolerance: float = TOLERANCE) -> None:
        self.folder = folder
        self.labels = labels
        self.tolerance = tolerance
        self._written: set[str] = set()

    @classmethod
    def files(cls, folder: Path, name: str = "") -> list[Path]:
        """The file of a photo, where labelme looks for it."""
        return [folder / PurePosixPath(name).with_suffix(".json")]

    def add(
        self,
        name: str,
        class_map: NDArray[Any],
        confidence: NDArray[np.uint8] | None = None,
        photo: Path | None = None,
    ) -> None:
        """Write the file of a photo. See ``slotseg.painting.annotations.Writer.add``."""
        (path,) = self.files(self.folder, name)
        if str(path) in self._written:
            raise DataError(
                f"{name} and another photo would both become {path.relative_to(self.folder)}; expected names that "
                "differ in more than their suffix: rename one of them"
            )
        self._written.add(str(path))
        value = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes(class_map, self.labels, confidence, name, self.tolerance),
            "imagePath": _path_from(path.parent, photo) if photo else PurePosixPath(name).name,
            "imageData": None,
            "imageHeight": class_map.shape[0],
            "imageWidth": class_map.shape[1],
        }
        with writing(path):
            write_bytes(path, json.dumps(value, ensure_ascii=False).encode(errors="replace"), flush=False)

    def close(self) -> None:
        """Do nothing, as every file was written at once."""

    def __enter__(self) -> "LabelmeWriter":
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing, as files written before an interruption are whole."""


def shapes(
    class_map: NDArray[Any],
    labels: LabelMap,
    confidence: NDArray[np.uint8] | None = None,
    name: str = "the photo",
    tolerance: float = TOLERANCE,
) -> list[dict[str, Any]]:
    """Labelme's shapes in the order in which they are drawn.

    Args:
        class_map: Ids ``(H, W)``.
        labels: Names.
        confidence: Confidence ``(H, W)``, 255 for 1. The mean of its class in the photo is the ``score`` of each shape,
            an extra.
        name: Name of the photo, for messages.
        tolerance: Largest distance of outlines from the exact ones, pixels.

    Raises:
        DataError: As in ``slotseg.painting.regions.find_regions``.
    """
    regions = find_regions(class_map, labels, confidence, name)
    covered = np.zeros(class_map.shape, bool)
    found: list[tuple[int, dict[str, Any]]] = []
    for region in regions:
        for area, outline in _parts(class_map == region.class_id, region.box_xywh, tolerance, covered):
            shape = _shape(labels.names[region.class_id], outline)
            if region.confidence is not None:
                shape["score"] = round(region.confidence, 4)
            found.append((area, shape))
    ignored = class_map == labels.ignore
    if (ignored & covered).any():
        height, width = class_map.shape
        for area, outline in _parts(ignored, (0, 0, width, height), tolerance, only=covered):
            found.append((area, _shape(IGNORED, outline)))
    return [shape for _, shape in sorted(found, key=lambda item: -item[0])]


def _parts(
    mask: NDArray[np.bool_],
    box_xywh: BoxXYWH,
    tolerance: float,
    covered: NDArray[np.bool_] | None = None,
    only: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Enclosed area and outline ``(N, 2)`` of each connected part of a mask.

    Parts are connected by edges and not by corners. So no two parts cross, and one in another encloses less.

    Args:
        mask: Mask ``(H, W)``.
        box_xywh: Box around the mask, pixels.
        tolerance: Largest distance of outlines from the exact ones, pixels.
        covered: Mask ``(H, W)``, changed in place: pixels in a hole of a part are set.
        only: Mask ``(H, W)``. Parts that lie outside it are left out.
    """
    x0, y0, box_width, box_height = box_xywh
    inside = np.ascontiguousarray(mask[y0 : y0 + box_height, x0 : x0 + box_width]).view(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=4, ltype=cv2.CV_32S)
    for part in range(1, count):
        x, y, width, height, _ = stats[part].tolist()
        here = slice(y0 + y, y0 + y + height), slice(x0 + x, x0 + x + width)
        pixels = (parts[y : y + height, x : x + width] == part).view(np.uint8)
        if only is not None and not (only[here] & pixels.view(bool)).any():
            continue
        contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros_like(pixels), contours, 0, 1, cv2.FILLED)
        if covered is not None:
            covered[here] |= filled.view(bool) & ~pixels.view(bool)
        outline = cv2.approxPolyDP(contours[0], tolerance, closed=True).reshape(-1, 2)
        yield int(np.count_nonzero(filled)), outline + np.array([x0 + x, y0 + y], np.int32)


def _shape(label: str, outline: NDArray[np.int32]) -> dict[str, Any]:
    """A shape. Labelme wants three points, so the last one is repeated where there are fewer."""
    points = outline.tolist()
    points += points[-1:] * (3 - len(points))
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }


def _path_from(folder: Path, photo: Path) -> str:
    """Path of a photo from a folder, with slashes. It is absolute where the photo is on another drive."""
    try:
        return Path(os.path.relpath(photo.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return photo.resolve().as_posix()
