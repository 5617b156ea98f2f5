"""COCO annotations: one ``annotations.json`` for all photos, one run-length mask per class and photo.

The masks are COCO's compressed run lengths with ``iscrowd`` 0, as in the files of COCO's own stuff task. A class is
no crowd of objects, and training code leaves crowds out. pycocotools, Datumaro and CVAT decode run lengths whatever
the flag says. Ids start from 1. Two fields are extras: the colour of a category, as in COCO's panoptic files, and the
score of an annotation, as in COCO's result files.
Letters: C classes, H W pixels, R runs, N counts.
"""

import itertools
import json
import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.opening import COCO_NAME
from slotseg.labels.label_map import LabelMap
from slotseg.painting.regions import Region, find_regions
from slotseg.painting.spooled import SpooledFile


class CocoWriter(SpooledFile):
    """Writes ``annotations.json``. See ``SpooledFile``."""

    wants_confidence = True
    file_names = (COCO_NAME,)
    num_spools = 2

    def __init__(self, folder: Path, labels: LabelMap) -> None:
        super().__init__(folder, labels)
        self._num_images = self._num_annotations = 0

    def describe(self, name: str, class_map: NDArray[Any], confidence: NDArray[np.uint8] | None) -> tuple[bytes, ...]:
        """The line of a photo in ``images``, and its lines in ``annotations``."""
        regions = find_regions(class_map, self.labels, confidence, name)
        self._num_images += 1
        lines = []
        for region, counts in zip(regions, encode_regions(regions, class_map.size), strict=True):
            self._num_annotations += 1
            lines.append(_line(self._annotation(region, counts, class_map.shape), first=self._num_annotations == 1))
        height, width = class_map.shape
        image = {"id": self._num_images, "file_name": name, "width": width, "height": height}
        return _line(image, first=self._num_images == 1), b"".join(lines)

    def _annotation(self, region: Region, counts: str, size: tuple[int, ...]) -> dict[str, Any]:
        score = {} if region.confidence is None else {"score": round(region.confidence, 4)}
        return {
            "id": self._num_annotations,
            "image_id": self._num_images,
            "category_id": region.class_id + 1,
            "segmentation": {"size": list(size), "counts": counts},
            "area": region.pixels,
            "bbox": list(region.box_xywh),
            "iscrowd": 0,
            **score,
        }

    def write_whole(self, file: IO[bytes]) -> None:
        """Write categories, images and annotations. Each image and each annotation is a line."""
        head = {"info": {"description": "Masks by slotseg"}, "licenses": [], "categories": categories(self.labels)}
        file.write(_encoded(head)[:-1])
        for key, spool in zip(("images", "annotations"), self.spools, strict=True):
            file.write(f', "{key}": ['.encode())
            shutil.copyfileobj(spool, file)
            file.write(b"\n]")
        file.write(b"}\n")


def categories(labels: LabelMap) -> list[dict[str, Any]]:
    """COCO's categories: class 0 has id 1."""
    return [
        {"id": i + 1, "name": name, "supercategory": "", "color": list(color)}
        for i, (name, color) in enumerate(zip(labels.names, labels.colors, strict=True))
    ]


def encode_regions(regions: list[Region], num_pixels: int) -> list[str]:
    """COCO's compressed run lengths of each region, as ``pycocotools.mask.encode`` makes them.

    Args:
        regions: Regions of one photo.
        num_pixels: Pixels of the photo, H * W.
    """
    if not regions:
        return []
    counts = [_counts(region, num_pixels) for region in regions]
    deltas = np.concatenate([_deltas(c) for c in counts])
    text, ends = _digits(deltas)
    last = np.cumsum([c.size for c in counts]) - 1
    cuts = [0, *ends[last].tolist()]
    return [text[begin:end] for begin, end in itertools.pairwise(cuts)]


def _counts(region: Region, num_pixels: int) -> NDArray[np.int64]:
    """Run lengths of a region, by turns outside and inside it. The first is outside."""
    ends = region.starts + region.lengths
    counts = np.empty(2 * ends.size, np.int64)
    counts[0], counts[2::2] = region.starts[0], region.starts[1:] - ends[:-1]
    counts[1::2] = region.lengths
    rest = num_pixels - ends[-1]
    return np.append(counts, rest) if rest else counts


def _deltas(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts as COCO stores them: from the fourth on, less the count two before."""
    deltas = counts.copy()
    deltas[3:] -= counts[1:-2]
    return deltas


def _digits(numbers: NDArray[np.int64]) -> tuple[str, NDArray[np.int64]]:
    """Signed numbers in COCO's digits of five bits, lowest first, from the character ``0`` on.

    The sixth bit says that more digits follow. The fifth bit of the last digit is the sign.

    Returns:
        The text, and where in it each number ends, ``(N,)``.
    """
    sizes = np.ones(numbers.size, np.int64)
    magnitude = np.where(numbers < 0, ~numbers, numbers) >> 4
    while magnitude.any():
        sizes += magnitude > 0
        magnitude >>= 5
    ends = np.cumsum(sizes)
    text = np.empty(ends[-1], np.uint8)
    at, rest, sizes_left = ends - sizes, numbers, sizes
    while at.size:
        more = sizes_left > 1
        text[at] = (rest & 31) + 32 * more + 48
        at, rest, sizes_left = at[more] + 1, rest[more] >> 5, sizes_left[more] - 1
    return text.tobytes().decode("ascii"), ends


def _line(value: dict[str, Any], *, first: bool) -> bytes:
    return (b"\n" if first else b",\n") + _encoded(value)


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")
