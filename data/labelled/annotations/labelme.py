"""Labelme's files as label maps: a JSON for each photo, whose shapes are drawn one over the other.

Shapes are drawn by Pillow, as labelme does to make masks of them. Letters: H W pixels.
"""

import base64
import binascii
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from slotseg.data.labelled.annotations.common import checked_names, checked_size, class_name, empty_map, read_json
from slotseg.data.labelled.annotations.photo_names import PHOTO_SUFFIX, files_of_photos, one_form
from slotseg.data.labelled.annotations.shapes import FARTHEST, NOTHING
from slotseg.data.reading.images import MAX_PIXELS, image_size
from slotseg.data.reading.pillow import opened_image
from slotseg.errors import DataError
from slotseg.labels.label_map import Color

IGNORED = "__ignore__"
"""Label of pixels without a class."""
EXPECTED = "a file of labelme, with shapes, imageHeight and imageWidth"

_END = re.compile(rf"({PHOTO_SUFFIX})?(?P<end>\.json)", re.IGNORECASE)


class LabelmeFolder:
    """Files of labelme, ``<key>.json`` for each photo, or with the photo's suffix ``<key>.jpg.json``.

    Args:
        folder: Folder of the files: in the photos' subfolders or, if no two photos share a name, all in one folder.
        keys: Keys of the photos: paths without suffix.
        names: Names of the classes. Without them, the classes are the labels in the files, in alphabetical order.
        photos: File of each photo by key, whose size is taken where a file of labelme has none.

    Attributes:
        colors: None, as labelme's files hold no colours.
        listed: Empty, as there is a file for each photo.
    """

    colors: tuple[Color, ...] | None = None
    listed = ""

    def __init__(
        self, folder: Path, keys: Sequence[str], names: tuple[str, ...] = (), photos: Mapping[str, Path] | None = None
    ) -> None:
        self.path, self.description = folder, f"{folder.name}/*.json"
        self._keys, self._given, self._photos = keys, names, photos or {}
        self._photo_names = {Path(key).name for key in keys}
        self._flat = len(self._photo_names) == len(keys)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the classes. All files are read if none were given."""
        if self._given:
            return self._given
        labels = {class_name(s["label"]) for key in self._keys for s in _read(self.file(key))["shapes"]} - {IGNORED}
        return checked_names(sorted(labels), str(self.path))

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Paths of the files that are absent."""
        return [str(path) for path in map(self.file, keys) if not path.is_file()]

    def read(self, key: str) -> NDArray[np.uint16]:
        """Index into ``names`` of each pixel, ``(H, W)``; ``shapes.NOTHING`` where there is no shape.

        Raises:
            DataError: If the file or a shape cannot be used.
        """
        content = _read(self.file(key))
        self._check_photo(key, content.get("imagePath"))
        try:
            label_map = empty_map(self._size_hw(key, content))
            for shape in content["shapes"]:
                label_map[_mask(shape, label_map.shape)] = self._class(class_name(shape["label"]))
        except ValueError as error:
            raise DataError(f"{self.where(key)} {error}") from error
        return label_map

    def where(self, key: str) -> str:
        """Path of a photo's file."""
        return str(self.file(key))

    def file(self, key: str) -> Path:
        """Path of a photo's file: in its subfolder, or beside the others.

        Raises:
            DataError: If it has several, and none is called as the photo is.
        """
        own = f"{key}.json"
        found = self._files.get(key) or {own.rpartition("/")[2] if self._flat else own: ""}
        if own not in found and len(found) > 1:
            raise DataError(f"{key} has several files in {self.path}: {' and '.join(found)}; expected one")
        return self.path / (own if own in found else next(iter(found)))

    @cached_property
    def _files(self) -> dict[str, dict[str, str]]:
        return files_of_photos(self.path, self._keys, _END, flat=self._flat)

    def _size_hw(self, key: str, content: dict[str, Any]) -> tuple[int, int]:
        """Size that a file has, or that of its photo: before version 4, labelme did not write it."""
        height, width = content.get("imageHeight"), content.get("imageWidth")
        if height is None and width is None and key in self._photos:
            return image_size(self._photos[key])
        return checked_size(height, width)

    def _check_photo(self, key: str, named: object) -> None:
        """Refuse a file that is of another one of the photos by its ``imagePath``."""
        photo = PureWindowsPath(str(named or ""))  # which / parts too
        names = {one_form(photo.name), one_form(photo.stem)}
        if Path(key).name not in names and names & self._photo_names:
            raise DataError(f"{self.where(key)} is of {photo.name}; expected the file of {key}: name it as its photo")

    def _class(self, label: str) -> int:
        if label == IGNORED:
            return NOTHING
        if label not in self.names:
            raise ValueError(f"has the label {label!r}; expected one of the classes: {', '.join(self.names[:10])}")
        return self.names.index(label)


def _mask(shape: dict[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask ``(H, W)`` of a shape."""
    kind = shape.get("shape_type") or "polygon"
    if kind == "mask":
        return _pasted(shape, size_hw)
    needed = {"polygon": 3, "rectangle": 2, "circle": 2}
    if kind not in needed:
        raise ValueError(f"has a shape of the kind {kind}; expected {', '.join(needed)} or mask: remove or redraw it")
    points = _points(shape, max(size_hw))
    if len(points) < needed[kind] or (kind != "polygon" and len(points) > needed[kind]):
        raise ValueError(f"has a {kind} of {len(points)} points; expected {needed[kind]}: remove or redraw it")
    picture = Image.new("L", (size_hw[1], size_hw[0]))
    draw = ImageDraw.Draw(picture)
    if kind == "polygon":
        draw.polygon(points, fill=1, outline=1)
    elif kind == "rectangle":
        (x0, x1), (y0, y1) = map(sorted, zip(*points, strict=True))
        draw.rectangle((x0, y0, x1, y1), fill=1, outline=1)
    else:
        (x, y), radius = points[0], math.dist(*points)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    return np.asarray(picture).view(np.bool_)


def _pasted(shape: dict[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask ``(H, W)`` of a shape that is a picture in a box."""
    try:
        png = base64.b64decode(str(shape.get("mask")), validate=True)
        with opened_image(png, MAX_PIXELS, name="its picture") as image:
            inside = np.asarray(image).astype(np.bool_)
    except (binascii.Error, DataError):
        raise ValueError("has a mask that is no picture; expected a PNG in base64") from None
    corners = [(int(x), int(y)) for x, y in _points(shape, max(size_hw))]
    left, top = corners[0] if corners else (0, 0)
    right, bottom = left + inside.shape[-1] - 1, top + inside.shape[0] - 1
    outside = min(left, top) < 0 or bottom >= size_hw[0] or right >= size_hw[1]
    if outside or inside.ndim != 2 or corners != [(left, top), (right, bottom)]:
        raise ValueError("has a mask that does not fit its two points; expected the corners of its picture")
    mask = np.zeros(size_hw, np.bool_)
    mask[top : bottom + 1, left : right + 1] = inside
    return mask


def _points(shape: dict[str, Any], side: int) -> list[tuple[float, float]]:
    """Corners of a shape in pixels. Pillow draws lines of any length, so those far beyond the photo are refused."""
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
    except (TypeError, ValueError):
        raise ValueError("has a shape whose points are no x and y; expected [[x0, y0], [x1, y1], ...]") from None
    if not all(abs(v - side / 2) <= FARTHEST * side for point in points for v in point):
        raise ValueError("has a shape far beyond the photo; expected x and y in pixels of the photo")
    return points


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path, EXPECTED)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(s, dict) and {"label", "points"} <= s.keys() for s in shapes):
        raise DataError(f"{path} has no shapes with label and points; expected {EXPECTED}")
    assert isinstance(content, dict)
    return content
