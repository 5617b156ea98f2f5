"""Photos that lie on a map, as GDAL writes them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

STRAIGHT = Affine(0.5, 0.0, 500_000.3, 0.0, -0.25, 5_400_000.7)
TURNED = Affine(0.5, 0.1, 500_000.0, 0.2, -0.4, 5_400_000.0)
POINT = {"AREA_OR_POINT": "Point"}
POINTS = [
    (0, 0, 11.0, 48.0, 500.0),
    (0, 80, 11.1, 48.01, 0.0),
    (60.5, 0, 11.02, 47.9, 0.0),
    (60, 80, 11.15, 47.92, 7.0),
]
CAMERA = RPC(
    *(5.0, 1.0, 48.0, 0.1, [0.0, 1.0, *[0.0] * 18], [1.0, *[0.0] * 19], 30.0, 30.0),
    *(11.0, 0.1, [0.0, 0.0, 1.0, *[0.0] * 17], [1.0, *[0.0] * 19], 40.0, 40.0),
)
KINDS: dict[str, dict[str, Any]] = {
    "pixel is area": {"crs": "EPSG:32632", "transform": STRAIGHT},
    "pixel is point": {"crs": "EPSG:32632", "transform": STRAIGHT, "tags": POINT},
    "geographic": {"crs": "EPSG:4326", "transform": Affine(1e-5, 0.0, 11.0, 0.0, -1e-5, 48.0)},
    "rotated": {"crs": "EPSG:25832", "transform": TURNED},
    "rotated, pixel is point": {"crs": "EPSG:25832", "transform": TURNED, "tags": POINT},
    "south up": {"crs": "EPSG:32632", "transform": Affine(0.5, 0.0, 1.0, 0.0, 0.5, 2.0)},
    "ground control points": {"points": POINTS},
    "ground control points, pixel is point": {"points": POINTS, "tags": POINT},
    "camera": {"rpcs": CAMERA},
    "big-endian BigTIFF": {"crs": "EPSG:32632", "transform": STRAIGHT, "ENDIANNESS": "BIG", "BIGTIFF": "YES"},
    "a system of its own": {"crs": "+proj=laea +lat_0=40 +lon_0=11", "transform": STRAIGHT},
    "no system": {"transform": STRAIGHT},
}
"""Options of ``write``, by the kind of georeference."""


def write(path: Path, pixels: NDArray[np.uint8], *, driver: str = "GTiff", **options: Any) -> Path:
    """Write RGB pixels ``(H, W, 3)`` with a georeference."""
    points, tags = options.pop("points", None), options.pop("tags", {})
    height, width, _ = pixels.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver=driver, width=width, height=height, count=3, dtype="uint8", **options
    ) as photo:
        photo.write(pixels.transpose(2, 0, 1))
        photo.update_tags(**tags)
        if points:
            known = [GroundControlPoint(row=r, col=c, x=x, y=y, z=z) for r, c, x, y, z in points]
            photo.gcps = (known, rasterio.CRS.from_epsg(4326))
    return path


def place(photo: Any) -> tuple[Any, ...]:
    """Where an opened photo or mask lies: system, affine, ground control points and their system, camera."""
    points, system = photo.gcps
    return photo.crs, photo.transform, *numbers(points), system, photo.rpcs


def numbers(points: Iterable[GroundControlPoint]) -> list[tuple[float, ...]]:
    """Row, column and map coordinates of ground control points."""
    return [(p.row, p.col, p.x, p.y, p.z) for p in points]
