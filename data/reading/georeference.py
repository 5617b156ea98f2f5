"""The place of a photo on a map: the GeoTIFF tags of its file, or what lies beside it.

A mask has the grid of its photo. So the tags are kept as they are stored, and a mask gets the same. A photo whose
file has no place may have a world file beside it (``photo.jgw``), or GDAL's ``photo.jpg.aux.xml``.
Sources: OGC GeoTIFF 1.1; of the files beside a photo, and of what no standard says, what GDAL does.
"""

import logging
import math
import os
import re
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from slotseg.data.reading.pillow import opened_file, opened_image, orientation
from slotseg.data.reading.tiff_pages import TIFF_MARKS
from slotseg.errors import DataError

TURNED = "turned upright, so the mask has no georeference"
"""Note on a photo whose pixels do not lie in the order of its georeference."""

SCALE, TIE_POINTS, MATRIX, KEYS, DOUBLES, TEXTS, CAMERA = 33550, 33922, 34264, 34735, 34736, 34737, 50844
_TAGS = (SCALE, TIE_POINTS, MATRIX, KEYS, DOUBLES, TEXTS, CAMERA)
_PLACES = (SCALE, TIE_POINTS, MATRIX, CAMERA)
_ASCII, _SHORT, _DOUBLE = 2, 3, 12
_MODEL, _RASTER, _GEOGRAPHIC, _PROJECTED = 1024, 1025, 2048, 3072
_IS_POINT, _USER_DEFINED = 2, 32767
_ORIENTATION = 274

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its warnings would go to the screen

_MOST_XML, _MOST_NUMBERS = 1 << 23, 1 << 10
_CODE = re.compile(r'(?:AUTHORITY|ID)\["EPSG", ?"?(\d{4,5})"?\]\s*\]\s*$')

Affine = tuple[float, float, float, float, float, float]
"""Numbers a, b, c, d, e, f: the corner (column, row) of a pixel lies at (a column + b row + c, d column + e row + f).

The upper left corner of the photo is (0, 0).
"""


class Tag(NamedTuple):
    """A tag of a TIFF."""

    code: int
    """Number of the tag."""
    kind: int
    """TIFF's number of the type of its values."""
    values: tuple[float, ...] | bytes
    """Values; of a text its bytes."""


class ControlPoint(NamedTuple):
    """A place in a photo that is known on the map."""

    column: float
    """Pixels from the left border of the photo."""
    row: float
    """Pixels from its upper border."""
    x: float
    """Coordinate on the map, eastward in most systems."""
    y: float
    """Coordinate on the map, northward in most systems."""
    z: float
    """Height."""


@dataclass(frozen=True, kw_only=True)
class Georeference:
    """The place of a photo on a map."""

    tags: tuple[Tag, ...]
    """GeoTIFF tags, for a TIFF of the same pixels."""
    affine: Affine | None
    """Map coordinates of the pixels; None if they are no affine function of column and row."""
    points: tuple[ControlPoint, ...] = ()
    """Ground control points; none if there is an ``affine``."""
    system: str = ""
    """Coordinate system of the map, as ``EPSG:32632`` or as WKT; empty if it is not known or has no such name."""


def read_georeference(source: Path | bytes) -> tuple[Georeference | None, tuple[str, ...]]:
    """Read where a photo lies. A photo that cannot be read has no place.

    Args:
        source: File, or its content.

    Returns:
        The georeference of the upright photo, or None if it has none; and notes: ``TURNED``, or nothing.
    """
    try:
        with opened_file(source, "the photo") as file:
            is_tiff = file.read(4) in TIFF_MARKS
        found, turn = _in_tiff(source) if is_tiff else (None, 0)
        if isinstance(source, Path) and (found is None or not any(tag.code in _PLACES for tag in found.tags)):
            found = _beside(source, found.tags if found else ())
        if found and not turn:
            with opened_image(source, sys.maxsize) as image:
                turn = orientation(image)
    except (OSError, DataError):
        return None, ()
    return (None, (TURNED,)) if found and 1 < turn <= 8 else (found, ())


def world_numbers(affine: Affine) -> Affine:
    """The numbers of a world file: a, d, b, e, and the map coordinates of the centre of the upper left pixel."""
    a, b, c, d, e, f = affine
    return a, d, b, e, c + (a + b) / 2, f + (d + e) / 2


def _in_tiff(source: Path | bytes) -> tuple[Georeference | None, int]:
    """The georeference of the first page of a TIFF, which may lack a place, and the orientation of the page."""
    import tifffile

    try:
        with tifffile.TiffFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
            stored = file.pages.first.tags
            tags = tuple(_stored(file, stored[code]) for code in _TAGS if code in stored and stored[code].count)
            turn = stored[_ORIENTATION].value if _ORIENTATION in stored else 1
        return (_of_tags(tags) if tags else None), int(turn)
    except Exception:  # of a damaged file tifffile raises nearly anything
        return None, 0


def _stored(file: Any, tag: Any) -> Tag:
    """A tag as it is stored, its numbers in the type that GeoTIFF has for it.

    Texts are read anew, as keys refer to places in them and tifffile strips them.
    """
    if tag.code == TEXTS:
        file.filehandle.seek(tag.valueoffset)
        return Tag(TEXTS, _ASCII, file.filehandle.read(min(tag.count, file.filehandle.size)))
    values = tag.value if isinstance(tag.value, tuple) else (tag.value,)
    if len(values) != tag.count:
        raise ValueError(f"{len(values)} of {tag.count} values")
    if tag.code == KEYS:
        return Tag(KEYS, _SHORT, struct.unpack(f"{len(values)}H", struct.pack(f"{len(values)}H", *values)))
    return Tag(tag.code, _DOUBLE, tuple(map(float, values)))


def _of_tags(tags: tuple[Tag, ...], system: str = "") -> Georeference:
    """The georeference that tags describe. Coordinates of the centre of a pixel become those of its corner."""
    values = {tag.code: tag.values for tag in tags if not isinstance(tag.values, bytes)}
    keys = _keys(values.get(KEYS, ()))
    half = 0.5 if keys.get(_RASTER) == _IS_POINT else 0.0
    affine = _affine(values, half)
    ties = values.get(TIE_POINTS, ()) if affine is None else ()
    points = (ties[i : i + 6] for i in range(0, len(ties) - 5, 6))
    return Georeference(
        tags=tags,
        affine=affine,
        points=tuple(ControlPoint(p[0] + half, p[1] + half, *p[3:]) for p in points if all(map(math.isfinite, p))),
        system=_system(keys) or system,
    )


def _affine(values: dict[int, tuple[float, ...]], half: float) -> Affine | None:
    scale, tie, matrix = (values.get(code, ()) for code in (SCALE, TIE_POINTS, MATRIX))
    if len(scale) >= 2 and scale[0] and scale[1] and len(tie) >= 6:
        a, b, d, e = scale[0], 0.0, 0.0, -abs(scale[1])  # GDAL too takes a negative scale for a mistake
        c, f = tie[3] - tie[0] * a, tie[4] - tie[1] * e
    elif len(matrix) == 16:
        a, b, _, c, d, e, _, f = matrix[:8]
    else:
        return None
    return _usable((a, b, c - half * (a + b), d, e, f - half * (d + e)))


def _usable(affine: Affine) -> Affine | None:
    a, b, _, d, e, _ = affine
    return affine if all(map(math.isfinite, affine)) and a * e != b * d else None


def _keys(values: tuple[float, ...]) -> dict[int, int]:
    """Numbers by the id of their key. Keys that are doubles or texts are left out."""
    entries = (values[i : i + 4] for i in range(4, len(values) - 3, 4))
    return {int(key): int(value) for key, place, _, value in entries if place == 0}


def _system(keys: dict[int, int]) -> str:
    """Name of the coordinate system of geo keys; empty if it has none."""
    code = keys.get({1: _PROJECTED, 2: _GEOGRAPHIC}.get(keys.get(_MODEL, 0), 0), 0)
    return f"EPSG:{code}" if 1024 <= code < _USER_DEFINED else ""


def _beside(photo: Path, tags: tuple[Tag, ...]) -> Georeference | None:
    """The georeference that lies beside a photo. Its own tags, which may know the coordinate system, are kept."""
    affine, points, system = _in_aux_xml(f"{photo}.aux.xml")
    affine = affine or (None if points else _in_world_file(photo))
    keys = next((tag.values for tag in tags if tag.code == KEYS and not isinstance(tag.values, bytes)), ())
    half = 0.5 if _keys(keys).get(_RASTER) == _IS_POINT else 0.0
    if affine:
        place = _affine_tags(affine, half)
    elif points:
        ties = ((p.column - half, p.row - half, 0.0, p.x, p.y, p.z) for p in points)
        place = (Tag(TIE_POINTS, _DOUBLE, tuple(chain.from_iterable(ties))),)
    else:
        return None
    return _of_tags((*place, *(tags if keys else _key_tags(system))), system)


def _affine_tags(affine: Affine, half: float) -> tuple[Tag, ...]:
    a, b, c, d, e, f = affine
    c, f = c + half * (a + b), f + half * (d + e)
    if b == d == 0 and a > 0 > e:
        return Tag(SCALE, _DOUBLE, (a, -e, 0.0)), Tag(TIE_POINTS, _DOUBLE, (0.0, 0.0, 0.0, c, f, 0.0))
    return (Tag(MATRIX, _DOUBLE, (a, b, 0.0, c, d, e, 0.0, f, *(0.0,) * 7, 1.0)),)


def _key_tags(system: str) -> tuple[Tag, ...]:
    """Geo keys of a coordinate system in WKT; none if it is no projected or geographic one of EPSG."""
    model, key = (1, _PROJECTED) if system.startswith("PROJ") else (2, _GEOGRAPHIC)
    code = _CODE.search(system) if system.startswith(("PROJ", "GEOG")) else None
    if code is None or int(code[1]) >= _USER_DEFINED:
        return ()
    entries = ((1, 1, 0, 3), (_MODEL, 0, 1, model), (_RASTER, 0, 1, 1), (key, 0, 1, int(code[1])))
    return (Tag(KEYS, _SHORT, tuple(chain.from_iterable(entries))),)


def _in_world_file(photo: Path) -> Affine | None:
    start, end = os.path.splitext(photo)
    ends = {f".{end[1]}{end[-1]}w", f"{end}w", ".wld"} if len(end) > 1 else {".wld"}
    for name in sorted(ends | {end.lower() for end in ends} | {end.upper() for end in ends}):
        if not os.path.isfile(start + name):
            continue
        with suppress(OSError, ValueError), open(start + name, "rb") as file:
            a, d, b, e, x, y = map(float, file.read(_MOST_NUMBERS).split())
            return _usable((a, b, x - (a + b) / 2, d, e, y - (d + e) / 2))
    return None


def _in_aux_xml(file: str) -> tuple[Affine | None, tuple[ControlPoint, ...], str]:
    """Map coordinates of the pixels, control points, and coordinate system as GDAL keeps them beside a photo."""
    if not os.path.isfile(file) or os.path.getsize(file) > _MOST_XML:
        return None, (), ""
    with suppress(OSError, ValueError, ElementTree.ParseError):
        content = Path(file).read_bytes()
        if b"<!" in content or b"\0" in content:  # GDAL writes none, and entities could fill the memory
            return None, (), ""
        top = ElementTree.fromstring(content)
        listed = top.find("GCPList")
        points = tuple(_point(point) for point in listed) if listed is not None else ()
        system = (listed.get("Projection") if listed is not None else None) or top.findtext("SRS") or ""
        affine = None
        if numbers := top.findtext("GeoTransform"):
            c, a, b, f, d, e = map(float, numbers.split(","))
            affine = _usable((a, b, c, d, e, f))
        return affine, () if affine else points, system.strip()
    return None, (), ""


def _point(element: ElementTree.Element) -> ControlPoint:
    point = ControlPoint(*(float(element.get(name, 0)) for name in ("Pixel", "Line", "X", "Y", "Z")))
    if not all(map(math.isfinite, point)):
        raise ValueError("a number is not finite")
    return point
