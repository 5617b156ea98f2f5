"""``segments.jsonl``: what each photo holds, a JSON object a line."""

import json
import shutil
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from slotseg.labels.label_map import LabelMap
from slotseg.painting.regions import find_regions
from slotseg.painting.spooled import SpooledFile


class SummaryWriter(SpooledFile):
    """Writes ``segments.jsonl``. See ``SpooledFile``."""

    wants_confidence = True
    file_names = ("segments.jsonl",)

    def describe(self, name: str, class_map: NDArray[Any], confidence: NDArray[np.uint8] | None) -> tuple[bytes, ...]:
        """The line of a photo."""
        line = json.dumps(image_summary(name, class_map, self.labels, confidence), ensure_ascii=False) + "\n"
        return (line.encode(errors="replace"),)

    def write_whole(self, file: IO[bytes]) -> None:
        """Write all lines."""
        shutil.copyfileobj(self.spools[0], file)


def image_summary(
    name: str, class_map: NDArray[Any], labels: LabelMap, confidence: NDArray[np.uint8] | None = None
) -> dict[str, Any]:
    """Summary of a photo's class map, JSON-ready. Classes that cover nothing are left out.

    Args:
        name: Name of the photo's file.
        class_map: Ids ``(H, W)``.
        labels: Names and colours.
        confidence: Confidence ``(H, W)``, 255 for 1.

    Returns:
        Values ``file``, ``width``, ``height``, ``classes`` and ``ignored_pixels``. ``classes`` is sorted by falling
        size. Each has ``id``, ``name``, ``color``, ``pixels``, ``share`` of all pixels of the photo, 0..1, and
        ``mean_confidence`` or null.

    Raises:
        DataError: As in ``slotseg.painting.regions.find_regions``.
    """
    regions = find_regions(class_map, labels, confidence, name)
    height, width = class_map.shape
    return {
        "file": name,
        "width": width,
        "height": height,
        "classes": [
            {
                "id": region.class_id,
                "name": labels.names[region.class_id],
                "color": list(labels.colors[region.class_id]),
                "pixels": region.pixels,
                "share": round(region.pixels / class_map.size, 6),
                "mean_confidence": None if region.confidence is None else round(region.confidence, 4),
            }
            for region in sorted(regions, key=lambda r: -r.pixels)
        ],
        "ignored_pixels": class_map.size - sum(region.pixels for region in regions),
    }
