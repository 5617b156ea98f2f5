"""Where a photo lies: as rasterio says it, whatever the file says it with, and nowhere where the file is odd."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import placed_photos
import pytest
import rasterio
import tifffile
from photo_files import tagged
from PIL import Image
from placed_photos import KINDS

from slotseg.data.reading import georeference
from slotseg.data.reading.georeference import Georeference, read_georeference

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PIXELS = np.zeros((60, 80, 3), np.uint8)
JPEG_WORLD = "0.5\n0\n0\n-0.25\n500000.55\n5400000.575\n"  # of placed_photos.STRAIGHT


def found(photo: Path) -> Georeference:
    place, notes = read_georeference(photo)
    assert place is not None
    assert notes == ()
    return place


def check(place: Georeference, photo: Path) -> None:
    """Compare a georeference with what GDAL makes of the photo."""
    with rasterio.open(photo) as opened:
        if opened.gcps[0]:
            assert place.affine is None
            points = [(row, column, x, y, z) for column, row, x, y, z in place.points]
            assert points == placed_photos.numbers(opened.gcps[0])
        else:
            assert place.affine == pytest.approx(tuple(opened.transform)[:6], rel=1e-13)
            assert place.points == ()


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"camera"}))
@pytest.mark.parametrize("as_bytes", [False, True], ids=["file", "content"])
def test_tags_mean_what_gdal_takes_them_for(kind: str, as_bytes: bool, tmp_path: Path) -> None:
    photo = placed_photos.write(tmp_path / "a.tif", PIXELS, **KINDS[kind])
    place, notes = read_georeference(photo.read_bytes() if as_bytes else photo)
    assert place is not None
    assert notes == ()
    check(place, photo)
    code = str(KINDS[kind].get("crs", "EPSG:4326" if "points" in KINDS[kind] else ""))
    assert place.system == (code if code.startswith("EPSG") else "")


@pytest.mark.parametrize("driver", ["PNG", "JPEG"])
@pytest.mark.parametrize("kind", ["pixel is area", "geographic", "rotated", "ground control points", "no system"])
def test_what_gdal_writes_beside_a_photo(driver: str, kind: str, tmp_path: Path) -> None:
    photo = placed_photos.write(tmp_path / f"a.{driver.lower()}", PIXELS, driver=driver, **KINDS[kind])
    place = found(photo)
    check(place, photo)
    keys = georeference.KEYS in {tag.code for tag in place.tags}
    assert keys == (kind != "no system")


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("a.jpg", "a.jgw"),
        ("a.jpg", "a.jpgw"),
        ("a.jpg", "a.wld"),
        ("a.JPG", "a.JGW"),
        ("a.JPG", "a.jgw"),
        ("a.b.png", "a.b.pgw"),
        ("a.tif", "a.tfw"),
    ],
)
def test_world_files(name: str, beside: str, tmp_path: Path) -> None:
    photo = tmp_path / name
    Image.fromarray(PIXELS).save(photo)
    (tmp_path / beside).write_text(JPEG_WORLD)
    assert found(photo).affine == pytest.approx(tuple(placed_photos.STRAIGHT)[:6], rel=1e-13)
    check(found(photo), photo)
    (tmp_path / beside).write_text("0.5\r\n0.2\r\n0.1\r\n-0.4\r\n7\r\n8")  # rotated
    check(found(photo), photo)


def test_a_world_file_places_a_photo_that_knows_its_system(tmp_path: Path) -> None:
    photo = placed_photos.write(tmp_path / "a.tif", PIXELS, crs="EPSG:32632", tags=placed_photos.POINT)
    (tmp_path / "a.tfw").write_text(JPEG_WORLD)
    place = found(photo)
    check(place, photo)
    assert place.system == "EPSG:32632"
    assert place.affine == pytest.approx(tuple(placed_photos.STRAIGHT)[:6], rel=1e-13)


def test_a_photo_that_is_turned_has_no_place(tmp_path: Path) -> None:
    tags = [(33550, 12, 3, (1.0, 1.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 5.0, 5.0, 0.0), True)]
    for turn in (1, 6):
        tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", extratags=[*tags, (274, 3, 1, turn, True)])
        Image.fromarray(PIXELS).save(tmp_path / "b.jpg", exif=tagged(turn))
        (tmp_path / "b.jgw").write_text(JPEG_WORLD)
        for name in ("a.tif", "b.jpg"):
            place, notes = read_georeference(tmp_path / name)
            assert (place is None, notes) == ((True, (georeference.TURNED,)) if turn == 6 else (False, ()))


def test_photos_of_cameras_have_no_place(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=tagged(6))
    Image.fromarray(PIXELS).save(tmp_path / "b.tif")
    for name in ("a.jpg", "b.tif"):
        assert read_georeference(tmp_path / name) == (None, ())
        assert read_georeference((tmp_path / name).read_bytes()) == (None, ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 2 3 4 5",
        "1 2 3 4 5 6 7",
        "1 0 0 nan 5 6",
        "1 0 0 1 inf 6",
        "1 1 1 1 0 0",
        "0,5 0 0 -0,5 1 1",
        "\0" * 99,
        "9" * 2000,
    ],
)
def test_world_files_that_place_nothing(text: str, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    (tmp_path / "a.jgw").write_text(text)
    assert read_georeference(tmp_path / "a.jpg") == (None, ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<PAMDataset",
        "<PAMDataset/>",
        "<a>" * 100_000,
        "<a>" * 100_000 + "</a>" * 100_000,
        "<PAMDataset><GeoTransform>1, 2, 3</GeoTransform></PAMDataset>",
        "<PAMDataset><GeoTransform>1, 1, 0, 1, 0, nan</GeoTransform></PAMDataset>",
        "<PAMDataset><GCPList/></PAMDataset>",
        "<PAMDataset><GCPList><GCP X='nan'/></GCPList></PAMDataset>",
        '<!DOCTYPE a [<!ENTITY a "1">]><PAMDataset><GeoTransform>0,&a;,0,0,0,&a;</GeoTransform></PAMDataset>',
    ],
)
def test_an_aux_xml_that_places_nothing(text: str, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg.aux.xml").write_text(text)
    assert read_georeference(tmp_path / "a.jpg") == (None, ())


def test_a_number_that_no_system_has_is_left_out(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    (tmp_path / "a.jgw").write_text(JPEG_WORLD)
    wkt = 'PROJCS["odd",AUTHORITY["EPSG","99999"]]'
    (tmp_path / "a.jpg.aux.xml").write_text(f"<PAMDataset><SRS>{wkt}</SRS></PAMDataset>")
    place = found(tmp_path / "a.jpg")
    assert place.system == wkt
    assert {tag.code for tag in place.tags} == {georeference.SCALE, georeference.TIE_POINTS}


SCALE, TIE = (33550, 12, 3, (1.0, 1.0, 0.0)), (33922, 12, 6, (0.0, 0.0, 0.0, 5.0, 5.0, 0.0))


@pytest.mark.parametrize(
    ("tags", "placed"),
    [
        ([SCALE, TIE], True),
        ([(33550, 3, 2, (1, 1)), TIE], True),  # numbers of another type
        ([(33550, 12, 3, (0.0, 0.0, 0.0)), TIE], False),
        ([(33550, 12, 3, (float("nan"), 1.0, 0.0)), TIE], False),
        ([SCALE, (33922, 12, 5, (0.0,) * 5)], False),
        ([SCALE, TIE, (34735, 3, 3, (1, 1, 0))], True),  # keys that end too soon
        ([SCALE, TIE, (34735, 12, 4, (1.0, 1.0, 0.5, 1.0))], False),
        ([(34264, 12, 16, (0.0,) * 16)], False),
        ([(34264, 2, 4, b"abc\0")], False),
    ],
)
def test_odd_tags(tags: list[tuple[Any, ...]], placed: bool, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", extratags=[(*tag, True) for tag in tags])
    place, notes = read_georeference(tmp_path / "a.tif")
    assert notes == ()
    assert (place is not None and place.affine is not None) == placed


def test_damaged_files_have_no_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo = placed_photos.write(tmp_path / "a.tif", PIXELS, **KINDS["pixel is area"])
    content = photo.read_bytes()
    for end in (4, 8, 9, 20, 60, 150):
        assert read_georeference(content[:end])[0] is None
    at = content.rindex(struct.pack("<HHL", 33922, 12, 6))
    huge = content[: at + 4] + b"\xff\xff\xff\x7f" + content[at + 8 :]
    assert getattr(read_georeference(huge)[0], "affine", None) is None
    assert capfd.readouterr() == ("", "")
    assert read_georeference(tmp_path / "none.tif") == (None, ())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    for name in ("a.jgw", "a.jpg.aux.xml", "pipe.tif"):
        os.mkfifo(tmp_path / name)
    assert read_georeference(tmp_path / "a.jpg") == read_georeference(tmp_path / "pipe.tif") == (None, ())
