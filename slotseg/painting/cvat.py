"""CVAT annotations: one ``annotations.xml`` for all photos, in CVAT's own format for images, version 1.1.

A class of a photo is one ``mask``: the box around it and the lengths of the runs, row by row in the box. Runs lie by
turns outside and inside the class, and the first is outside (docs.cvat.ai, XML annotation format).
``cvat_labels.json`` beside it holds the labels as CVAT's constructor takes them under Raw. A task must have them
before annotations are uploaded. The format has no place for a confidence. Letters: H W pixels.
"""

import shutil
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.cvat import xml_text
from slotseg.data.labelled.annotations.opening import CVAT_NAME
from slotseg.files import write_json
from slotseg.labels.label_map import LabelMap
from slotseg.painting.regions import find_regions
from slotseg.painting.spooled import SpooledFile

LABELS_NAME = "cvat_labels.json"


class CvatWriter(SpooledFile):
    """Writes ``annotations.xml`` and ``cvat_labels.json``. See ``SpooledFile``."""

    file_names = (CVAT_NAME, LABELS_NAME)

    def __init__(self, folder: Path, labels: LabelMap) -> None:
        super().__init__(folder, labels)
        self._num_images = 0

    def describe(self, name: str, class_map: NDArray[Any], confidence: NDArray[np.uint8] | None) -> tuple[bytes, ...]:
        """The ``image`` element of a photo."""
        regions = find_regions(class_map, self.labels, confidence, name)
        height, width = class_map.shape
        lines = [f'  <image id="{self._num_images}" name={_quoted(name)} width="{width}" height="{height}">']
        for region in regions:
            x, y, box_width, box_height = region.box_xywh
            inside = class_map[y : y + box_height, x : x + box_width] == region.class_id
            lines += [
                f"    <mask label={_quoted(self.labels.names[region.class_id])} "
                f'source="auto" occluded="0" rle="{", ".join(map(str, run_lengths(inside)))}" '
                f'left="{x}" top="{y}" width="{box_width}" height="{box_height}" z_order="0">',
                "    </mask>",
            ]
        lines.append("  </image>\n")
        self._num_images += 1
        return ("\n".join(lines).encode(),)

    def write_whole(self, file: IO[bytes]) -> None:
        """Write labels and photos. The labels also get a file of their own."""
        write_json(self.path.with_name(LABELS_NAME), raw_labels(self.labels))
        file.write(_head(self.labels, self._num_images).encode())
        shutil.copyfileobj(self.spools[0], file)
        file.write(b"</annotations>\n")


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of a mask ``(H, W)``, row by row, by turns outside and inside. The first is outside."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths: list[int] = np.diff(edges, prepend=0, append=flat.size).tolist()
    return [0, *lengths] if flat[0] else lengths


def raw_labels(labels: LabelMap) -> list[dict[str, Any]]:
    """Labels as CVAT's label constructor takes them under Raw."""
    return [
        {"name": name, "color": _hex(color), "type": "mask", "attributes": []}
        for name, color in zip(labels.names, labels.colors, strict=True)
    ]


def _head(labels: LabelMap, num_images: int) -> str:
    entries = "".join(
        f"        <label>\n          <name>{escaped(name)}</name>\n          <color>{_hex(color)}</color>\n"
        "          <type>mask</type>\n          <attributes>\n          </attributes>\n        </label>\n"
        for name, color in zip(labels.names, labels.colors, strict=True)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
        f"      <name>slotseg</name>\n      <size>{num_images}</size>\n      <mode>annotation</mode>\n"
        f"      <labels>\n{entries}      </labels>\n    </task>\n  </meta>\n"
    )


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def escaped(text: str) -> str:
    """Text as it stands in an element of XML."""
    return escape(xml_text(text), {"\r": "&#13;"})


def _quoted(text: str) -> str:
    return quoteattr(xml_text(text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
