"""Masks as GeoTIFF: the ids of the PNG mask, and the georeference of the photo.

A mask has the grid of its photo, so the photo's own tags hold for it. Compression is deflate, which keeps ids. A large
mask has overviews of every second pixel, never of means, which would be ids that nobody painted.
Letters: H W pixels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.georeference import Georeference
from slotseg.files import replacing, writing
from slotseg.labels.label_map import IGNORE, LabelMap
from slotseg.painting.render import color_table
from slotseg.painting.sidecars import save_names

TILE = 256
"""Side of the tiles, pixels."""
OVERVIEWS_FROM = 1024
"""Longest side, in pixels, of a mask without overviews."""
SMALLEST = 512
"""The longest side of the last overview is the first that is less, in pixels."""

_NODATA, _ASCII = 42113, 2
_CLASSIC = 2**32 - 2**25  # bytes of pixels beyond which offsets of 32 bits may not do


def save_geotiff(path: Path, class_map: NDArray[Any], labels: LabelMap, place: Georeference | None) -> None:
    """Write a mask as GeoTIFF and the names of its classes beside it, each file whole or not at all.

    Beside the class map it takes the memory of a tile.

    Args:
        path: File to write.
        class_map: Ids ``(H, W)`` as from ``LabelMap.class_map``. They become 8 bits, or 16 where ids need it.
        labels: Label map with the palette, which 16 bits have not. Its ignore id is the file's nodata value.
        place: Georeference of the photo; None writes a plain TIFF.

    Raises:
        DataError: If a file cannot be written.
    """
    import tifffile

    save_names(path, labels)
    nodata = f"{labels.ignore}\0".encode()
    tags = [(tag.code, tag.kind, len(tag.values), tag.values, True) for tag in (place.tags if place else ())]
    colors: dict[str, Any] = {"photometric": "minisblack"}
    if labels.ignore == IGNORE:
        colors = {"photometric": "palette", "colormap": color_table(labels).T.astype(np.uint16) * 257}
    with (
        writing(path),
        replacing(path, flush=False) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=class_map.nbytes > _CLASSIC) as file,
    ):
        for step in _steps(max(class_map.shape)):
            level = class_map[::step, ::step]
            file.write(
                _tiles(level, labels),
                shape=level.shape,
                dtype=labels.dtype,
                tile=(TILE, TILE),
                compression="zlib",
                subfiletype=1 if step > 1 else 0,
                extratags=[(_NODATA, _ASCII, len(nodata), nodata, False), *(tags if step == 1 else ())],
                metadata=None,
                software=False,
                maxworkers=1,
                **colors,
            )


def _steps(side: int) -> Iterator[int]:
    """Distances of the pixels, in pixels of the mask, of the mask and of its overviews."""
    step = 1
    yield step
    while side > OVERVIEWS_FROM and -(-side // step) >= SMALLEST:
        step *= 2
        yield step


def _tiles(ids: NDArray[Any], labels: LabelMap) -> Iterator[NDArray[Any]]:
    """Tiles ``(TILE, TILE)`` from left to right and from the top down. Beyond the mask they hold the ignore id."""
    for top in range(0, ids.shape[0], TILE):
        for left in range(0, ids.shape[1], TILE):
            tile = np.full((TILE, TILE), labels.ignore, labels.dtype)
            part = ids[top : top + TILE, left : left + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
