"""Masks of photos that lie on a map: GDAL finds the same pixels at the same place, in the same colours."""

import tracemalloc
from pathlib import Path

import numpy as np
import placed_photos
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from PIL import Image
from placed_photos import KINDS, place

from slotseg.data.reading.georeference import read_georeference
from slotseg.data.reading.label_files import read_label
from slotseg.labels.label_map import IGNORE, LabelMap, palette
from slotseg.painting.geotiff import save_geotiff
from slotseg.painting.render import save_mask
from slotseg.painting.sidecars import save_sidecars, sidecars

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NAMES = ("sky", "Bäume & <Büsche>", "home\x01")
LABELS = LabelMap.of_classes(NAMES, palette(3))
WIDE = LabelMap.prototypes(300)


def draw(height: int, width: int, labels: LabelMap = LABELS) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A class map of noise, with void in it."""
    ids = np.random.default_rng(0).integers(0, len(labels.names), (height, width)).astype(labels.dtype)
    ids[: height // 10] = labels.ignore
    return ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_lies_where_its_photo_lies(kind: str, tmp_path: Path) -> None:
    photo = placed_photos.write(tmp_path / "photo.tif", np.zeros((60, 80, 3), np.uint8), **KINDS[kind])
    ids, (where, _) = draw(60, 80), read_georeference(photo)
    save_geotiff(tmp_path / "a.tif", ids, LABELS, where)
    save_mask(tmp_path / "a.png", ids, LABELS)
    save_sidecars(tmp_path / "a.png", LABELS, where)
    with (
        rasterio.open(photo) as of,
        rasterio.open(tmp_path / "a.tif") as mask,
        rasterio.open(tmp_path / "a.png") as png,
    ):
        assert place(mask) == place(of)
        assert mask.tags().get("AREA_OR_POINT") == of.tags().get("AREA_OR_POINT")
        assert (mask.shape, mask.count, mask.dtypes, mask.nodata) == (of.shape, 1, ("uint8",), IGNORE)
        assert mask.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert mask.xy(7, 9) == of.xy(7, 9)
        assert np.array_equal(mask.read(1), ids)
        assert [mask.colormap(1)[i][:3] for i in (0, 1, 2, IGNORE)] == [*palette(3), (0, 0, 0)]
        assert mask.overviews(1) == []

        named = kind != "a system of its own"  # which a GeoTIFF can have, and the file beside a PNG cannot
        assert (png.crs == of.crs) == named
        assert png.transform.almost_equals(of.transform, 1e-6)
        assert (placed_photos.numbers(png.gcps[0]), png.gcps[1]) == (placed_photos.numbers(of.gcps[0]), of.gcps[1])
        assert png.nodata == IGNORE
        assert np.array_equal(png.read(1), ids)
        assert [png.colormap(1)[i][:3] for i in range(3)] == [mask.colormap(1)[i][:3] for i in range(3)]
    assert np.array_equal(read_label(tmp_path / "a.tif"), ids)


def test_a_world_file_is_that_of_gdal(tmp_path: Path) -> None:
    for tags in ({}, placed_photos.POINT):
        options = {"crs": "EPSG:32632", "transform": placed_photos.TURNED, "tags": tags}
        photo = placed_photos.write(tmp_path / "a.tif", np.zeros((6, 8, 3), np.uint8), **options)
        by_gdal = placed_photos.write(
            tmp_path / "b.png", np.zeros((6, 8, 3), np.uint8), driver="PNG", WORLDFILE="YES", **options
        )
        save_sidecars(tmp_path / "c.png", LABELS, read_georeference(photo)[0])
        expected = list(map(float, by_gdal.with_suffix(".wld").read_text().split()))
        assert list(map(float, (tmp_path / "c.pgw").read_text().split())) == pytest.approx(expected, rel=1e-14)


def test_gdal_finds_the_names_beside_a_mask(tmp_path: Path) -> None:
    """QGIS shows them in its legend. rasterio does not give them, but copies them with everything else it has read."""
    save_geotiff(tmp_path / "a.tif", draw(20, 30), LABELS, None)
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "b.tif", driver="GTiff")
    written = (tmp_path / "b.tif.aux.xml").read_text(encoding="utf-8")
    assert "<Category>sky</Category>" in written
    assert "<Category>Bäume &amp; &lt;Büsche&gt;</Category>" in written
    assert "<Category>home\ufffd</Category>" in written


def test_a_mask_of_a_photo_without_a_place(tmp_path: Path) -> None:
    save_geotiff(tmp_path / "a.tif", draw(60, 80), LABELS, None)
    with rasterio.open(tmp_path / "a.tif") as mask:
        assert (mask.crs, mask.transform.is_identity, mask.gcps[0], mask.nodata) == (None, True, [], IGNORE)
        assert np.array_equal(mask.read(1), draw(60, 80))


@pytest.mark.parametrize("labels", [LABELS, WIDE], ids=["8 bits", "16 bits"])
def test_overviews_hold_pixels_of_the_mask_and_no_mixtures(labels: LabelMap, tmp_path: Path) -> None:
    ids = draw(700, 1025, labels)
    photo = placed_photos.write(tmp_path / "photo.tif", np.zeros((700, 1025, 3), np.uint8), **KINDS["pixel is area"])
    save_geotiff(tmp_path / "a.tif", ids, labels, read_georeference(photo)[0])
    with rasterio.open(photo) as of, rasterio.open(tmp_path / "a.tif") as mask:
        assert mask.overviews(1) == [2, 4]
        assert (mask.nodata, place(mask)) == (labels.ignore, place(of))
        assert np.array_equal(mask.read(1), ids)
    for level, step in enumerate((2, 4)):
        with rasterio.open(tmp_path / "a.tif", overview_level=level) as overview:
            assert overview.nodata == labels.ignore
            assert np.array_equal(overview.read(1), ids[::step, ::step])
    assert np.array_equal(read_label(tmp_path / "a.tif"), ids)
    save_geotiff(tmp_path / "b.tif", ids[:, :1024], labels, None)
    with rasterio.open(tmp_path / "b.tif") as mask:
        assert mask.overviews(1) == []


def test_writing_takes_the_memory_of_some_tiles(tmp_path: Path) -> None:
    ids = np.zeros((5000, 6000), np.uint8)
    save_geotiff(tmp_path / "a.tif", ids[:9, :9], LABELS, None)  # imports
    tracemalloc.start()
    save_geotiff(tmp_path / "a.tif", ids, LABELS, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000  # the mask has 30 MB


def test_what_lay_beside_an_earlier_mask_goes(tmp_path: Path) -> None:
    where, _ = read_georeference(
        placed_photos.write(tmp_path / "photo.tif", np.zeros((6, 8, 3), np.uint8), **KINDS["pixel is area"])
    )
    mask = tmp_path / "a.png"
    assert sidecars(mask) == (tmp_path / "a.pgw", tmp_path / "a.png.aux.xml")
    save_sidecars(mask, LABELS, where)
    assert [file.exists() for file in sidecars(mask)] == [True, True]
    save_sidecars(mask, LABELS, None)
    assert [file.exists() for file in sidecars(mask)] == [False, False]


def test_a_large_mask_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slotseg.painting.geotiff._CLASSIC", 99)
    save_geotiff(tmp_path / "a.tif", draw(20, 30), LABELS, None)
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II+\0"
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.array(image), draw(20, 30))
