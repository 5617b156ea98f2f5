"""What lies beside a mask for programs of maps: a world file, and GDAL's ``.aux.xml``.

A PNG has no place for a georeference, nor has a GeoTIFF for names of classes. GDAL, and with it QGIS, looks for both
in ``mask.png.aux.xml``. Other programs read a world file, ``mask.pgw``.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

from slotseg.data.reading.georeference import Georeference, world_numbers
from slotseg.files import write_bytes, writing
from slotseg.labels.label_map import LabelMap
from slotseg.painting.cvat import escaped


def sidecars(mask: Path) -> tuple[Path, Path]:
    """Paths of the world file and of the ``.aux.xml`` of a PNG or TIFF."""
    return mask.with_suffix(f".{mask.suffix[1]}{mask.suffix[-1]}w"), mask.with_name(f"{mask.name}.aux.xml")


def save_sidecars(mask: Path, labels: LabelMap, place: Georeference | None) -> None:
    """Write what lies beside a PNG mask, each file whole or not at all.

    Without a georeference, none is written, and those of an earlier mask are removed.

    Args:
        mask: File of the mask.
        labels: Names of the classes.
        place: Georeference of the photo.

    Raises:
        DataError: If a file cannot be written.
    """
    world, aux = sidecars(mask)
    with writing(mask):
        if place is None or place.affine is None:
            world.unlink(missing_ok=True)
        else:
            lines = "".join(f"{number!r}\n" for number in world_numbers(place.affine))
            write_bytes(world, lines.encode(), flush=False)
        if place is None:
            aux.unlink(missing_ok=True)
        else:
            write_bytes(aux, aux_xml(labels, place), flush=False)


def save_names(mask: Path, labels: LabelMap) -> None:
    """Write the ``.aux.xml`` of a GeoTIFF mask, which has the names of the classes.

    Raises:
        DataError: If it cannot be written.
    """
    _, aux = sidecars(mask)
    with writing(aux):
        write_bytes(aux, aux_xml(labels, None), flush=False)


def aux_xml(labels: LabelMap, place: Georeference | None) -> bytes:
    """Content of an ``.aux.xml``: names of the classes, the ignore id, and a georeference but for the world file's."""
    lines = ["<PAMDataset>", *(_system(place) if place else ()), '  <PAMRasterBand band="1">']
    lines += [f"    <NoDataValue>{labels.ignore}</NoDataValue>", "    <CategoryNames>"]
    lines += [f"      <Category>{escaped(name)}</Category>" for name in labels.names]
    lines += ["    </CategoryNames>", "  </PAMRasterBand>", "</PAMDataset>", ""]
    return "\n".join(lines).encode()


def _system(place: Georeference) -> Iterator[str]:
    """Elements of the coordinate system, and of the ground control points if there are any."""
    if place.affine and place.system:
        yield f"  <SRS>{escaped(place.system)}</SRS>"
    if place.points:
        yield f"  <GCPList Projection={quoteattr(place.system)}>"
        for number, point in enumerate(place.points, start=1):
            column, row, x, y, z = point
            yield f'    <GCP Id="{number}" Pixel="{column!r}" Line="{row!r}" X="{x!r}" Y="{y!r}" Z="{z!r}" />'
        yield "  </GCPList>"
