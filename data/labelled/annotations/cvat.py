"""CVAT's annotations for images 1.1 as label maps: masks, polygons, boxes and ellipses, drawn by their ``z_order``.

The file is read once, to find its labels and where in it each photo is. One photo at a time is read again and
decoded. So memory does not grow with the file. A document type is refused: its entities could fill the memory.
Letters: H W pixels.
"""

import codecs
import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import cv2
import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations import shapes
from slotseg.data.labelled.annotations.common import (
    checked_names,
    checked_size,
    class_name,
    color_of,
    common_colors,
    empty_map,
    quoted,
)
from slotseg.data.labelled.annotations.photo_names import find_photos
from slotseg.errors import DataError

EXPECTED = "annotations.xml as CVAT exports it (CVAT for images 1.1)"
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""

_LABELS = ["labels", "label"]
_END = "</image>"
_UTF16 = {b"\xff\xfe": "utf-16-le", b"<\0": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\0<": "utf-16-be"}


class CvatFile:
    """The annotations of a CVAT XML, by photo.

    Args:
        path: XML file.
        keys: Keys of the photos: paths without suffix.

    Attributes:
        names: Names of the labels, in the order of the file.
        colors: Their colours; None unless all of them have one.
        listed: Name of a photo in the file; empty if there is none.

    Raises:
        DataError: If the file is no such XML, or two of its photos may be one of ``keys``.
    """

    def __init__(self, path: Path, keys: Iterable[str]) -> None:
        self.path, self.description = path, path.name
        index = _read_index(path)
        labels = [label for label in index.labels if "parent" not in label]  # parts of a skeleton have one
        self.names = checked_names([label.get("name", "") for label in labels], str(path))
        self.colors = common_colors([color_of(label.get("color")) for label in labels])
        self.listed = index.names[0] if index.names else ""
        places = find_photos([xml_text(key) for key in keys], index.names, str(path))
        self._spans = {key: index.spans[place] for key, place in places.items()}
        self._codec = codecs.lookup(index.encoding)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Photos that the file does not list."""
        return [self.where(key) for key in keys if xml_text(key) not in self._spans]

    def read(self, key: str) -> NDArray[np.uint16]:
        """Index into ``names`` of each pixel, ``(H, W)``; ``shapes.NOTHING`` where there is no annotation.

        Raises:
            DataError: If the size of the photo or a shape cannot be used.
        """
        try:
            image = self._element(xml_text(key))
            label_map = empty_map(checked_size(image.get("height"), image.get("width")))
            found = [child for child in image if child.tag != "tag"]
            for shape in sorted(found, key=_z_order):
                label_map[_mask(shape, label_map.shape)] = self._class(shape)
        except (ValueError, ElementTree.ParseError) as error:
            raise DataError(f"{self.where(key)} {error}") from error
        return label_map

    def where(self, key: str) -> str:
        """Name in messages: the photo and the file."""
        return f"photo {key} of {self.path}"

    def _element(self, key: str) -> ElementTree.Element:
        start, end = self._spans[key]
        after, _ = self._codec.encode(_END[:-1])
        with self.path.open("rb") as file:
            file.seek(start)
            text, _ = self._codec.decode(file.read(end - start))
            text += _END if file.read(len(after)) == after else ""  # an empty element has no end of its own
        return ElementTree.fromstring(text)

    def _class(self, shape: ElementTree.Element) -> int:
        name = class_name(shape.get("label", ""))
        if name not in self.names:
            raise ValueError(f"has the label {name!r}; expected one of the labels of the file")
        return self.names.index(name)


def xml_text(text: str) -> str:
    """Text as XML can hold it."""
    return NOT_XML.sub("\ufffd", text)


def _mask(shape: ElementTree.Element, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask ``(H, W)`` of a shape."""
    if shape.tag == "mask":
        return _pasted(shape, size_hw)
    if shape.tag == "box":
        xtl, ytl, xbr, ybr = (_number(shape, side) for side in ("xtl", "ytl", "xbr", "ybr"))
        center, size = ((xtl + xbr) / 2, (ytl + ybr) / 2), (xbr - xtl, ybr - ytl)
        corners = cv2.boxPoints((center, size, _number(shape, "rotation", "0"))).ravel().tolist()
        return shapes.decode(shapes.polygon_rle([corners], size_hw))
    if shape.tag == "polygon":
        points = re.split("[,;]", shape.get("points", ""))
        return shapes.decode(shapes.polygon_rle([points], size_hw))  # type: ignore[list-item]
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
        return shapes.ellipse_mask((cx, cy), (rx, ry), _number(shape, "rotation", "0"), size_hw)
    raise ValueError(
        f"has a shape of the kind {shape.tag}; expected masks, polygons, boxes and ellipses: remove or redraw it"
    )


def _pasted(shape: ElementTree.Element, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask ``(H, W)`` of run lengths in a box."""
    left, top, width, height = (int(_number(shape, side)) for side in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size_hw[1] or top + height > size_hw[0]:
        raise ValueError(f"has a mask of {width} x {height} at {left}, {top}; expected one inside the photo")
    mask = np.zeros(size_hw, np.bool_)
    mask[top : top + height, left : left + width] = shapes.row_mask(shape.get("rle", ""), width, height)
    return mask


def _z_order(shape: ElementTree.Element) -> float:
    return _number(shape, "z_order", "0")


def _number(shape: ElementTree.Element, name: str, default: str = "") -> float:
    text = shape.get(name) or default
    if not re.fullmatch(r"\s*-?\d{1,9}(\.\d*)?\s*", text):
        a = "an" if shape.tag == "ellipse" else "a"
        raise ValueError(f"has {a} {shape.tag} with {name} {quoted(shape.get(name))}; expected a number")
    return float(text)


class _Index:
    """Labels and photos of an XML, gathered by the events of its parser."""

    def __init__(self) -> None:
        self.labels: list[dict[str, str]] = []
        self.names: list[str] = []
        self.spans: list[tuple[int, int]] = []
        self.encoding = "utf-8"
        self._path: list[str] = []
        self.parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declared
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        self.encoding = encoding or self.encoding

    def _refuse(self, *_: object) -> None:
        raise ValueError("it has a document type")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        if len(self._path) == 1 and tag != "annotations":
            raise ValueError(f"it begins with {tag}")
        if self._path == ["annotations", "track"]:
            raise ValueError("it has the tracks of a video")
        if self._path == ["annotations", "image"]:
            self.names.append(attributes.get("name", ""))
            self.spans.append((self.parser.CurrentByteIndex, 0))
        if self._path[-2:] == _LABELS:
            self.labels.append({})

    def _end(self, tag: str) -> None:
        if self._path == ["annotations", "image"]:
            self.spans[-1] = self.spans[-1][0], self.parser.CurrentByteIndex
        self._path.pop()

    def _text(self, text: str) -> None:
        if self._path[-3:-1] == _LABELS:
            label = self.labels[-1]
            label[self._path[-1]] = label.get(self._path[-1], "") + text


def _read_index(path: Path) -> _Index:
    index = _Index()
    try:
        with path.open("rb") as file:
            index.parser.ParseFile(file)
            file.seek(0)
            index.encoding = _UTF16.get(file.read(2), index.encoding)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected {EXPECTED}") from error
    except expat.ExpatError as error:
        where = f"line {error.lineno}, column {error.offset}"
        raise DataError(f"{path} cannot be used (no whole XML: {where}); expected {EXPECTED}") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be used ({error}); expected {EXPECTED}") from error
    return index
