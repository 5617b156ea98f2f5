"""Painting photos that lie on a map among others that do not: what is written beside which mask, and what stays."""

from pathlib import Path

import numpy as np
import placed_photos
import pytest
import rasterio
from PIL import Image
from placed_photos import KINDS, place

from slotseg.data.finding.inputs import Inputs
from slotseg.data.reading.georeference import TURNED
from slotseg.data.reading.label_files import read_label
from slotseg.data.scenes import draw_scene
from slotseg.errors import DataError
from slotseg.painting import paint as painting
from slotseg.painting.outputs import OutputOptions, Outputs
from slotseg.painting.paint import NO_PLACE, paint
from slotseg.segmenting.segmenter import Segmenter

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PNGS = {"a.jpg.png", "a.tif.png", "b.png", "deep/c.png"}
BESIDE = {"a.tif.pgw", "a.tif.png.aux.xml", "deep/c.png.aux.xml"}
GEOTIFFS = {"a.jpg.tif", "a.tif.tif", "b.tif", "deep/c.tif"}
NAMES = {f"{name}.aux.xml" for name in GEOTIFFS}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos that lie on a map, and two of a camera."""
    folder = tmp_path / "photos"
    placed_photos.write(folder / "a.tif", draw_scene(0)[0], **KINDS["pixel is area"])
    placed_photos.write(folder / "deep" / "c.tif", draw_scene(1)[0], **KINDS["ground control points"])
    for i, name in enumerate(("a.jpg", "b.jpg")):
        Image.fromarray(draw_scene(i + 2)[0]).save(folder / name)
    return folder


def outputs(photos: Path, *, geotiff: bool) -> Outputs:
    return Outputs(Inputs([photos]), photos.parent / "m", OutputOptions(geotiff=geotiff))


def written(photos: Path) -> set[str]:
    folder = photos.parent / "m"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return files - {"legend.json"}


def contents(photos: Path, names: set[str]) -> dict[str, bytes]:
    return {name: (photos.parent / "m" / name).read_bytes() for name in names}


def test_only_masks_of_placed_photos_have_files_beside_them(segmenter: Segmenter, photos: Path) -> None:
    assert paint(segmenter, outputs(photos, geotiff=False)).notes == {}
    assert written(photos) == PNGS | BESIDE


def test_every_mask_as_geotiff(segmenter: Segmenter, photos: Path) -> None:
    painted = paint(segmenter, outputs(photos, geotiff=True))
    assert painted.notes == {NO_PLACE: (2, str(photos / "a.jpg"))}
    assert written(photos) == PNGS | BESIDE | GEOTIFFS | NAMES
    out = photos.parent / "m"
    for name in GEOTIFFS:
        assert np.array_equal(read_label(out / name), read_label((out / name).with_suffix(".png")))
    for photo, mask in (("a.tif", "a.tif.tif"), ("deep/c.tif", "deep/c.tif")):
        with rasterio.open(photos / photo) as of, rasterio.open(out / mask) as opened:
            assert (place(opened), opened.shape) == (place(of), of.shape)


def test_geotiffs_are_added_to_masks_that_are_kept(segmenter: Segmenter, photos: Path) -> None:
    paint(segmenter, outputs(photos, geotiff=False))
    before = contents(photos, PNGS)
    planned = outputs(photos, geotiff=True)
    assert (planned.survey().num_masks, planned.survey().num_lacking) == (4, 4)
    painted = paint(segmenter, planned, skip_existing=True)
    assert (painted.num_masks, painted.num_kept, painted.notes[NO_PLACE][0]) == (0, 4, 2)
    assert contents(photos, PNGS) == before
    added = contents(photos, GEOTIFFS)
    paint(segmenter, outputs(photos, geotiff=True), overwrite=True)
    assert contents(photos, GEOTIFFS) == added
    (photos.parent / "m" / "b.tif").write_text("mine")
    assert paint(segmenter, planned, skip_existing=True).notes == {}
    assert (photos.parent / "m" / "b.tif").read_text() == "mine"


def test_a_kept_mask_of_other_labels_becomes_no_geotiff(segmenter: Segmenter, photos: Path) -> None:
    paint(segmenter, outputs(photos, geotiff=False))
    Image.fromarray(np.full((96, 96), 200, np.uint8)).save(photos.parent / "m" / "b.png")
    with pytest.raises(DataError, match=r"class map of b\.jpg holds id 200; expected 0 to 5 or 255"):
        paint(segmenter, outputs(photos, geotiff=True), skip_existing=True)
    assert "b.tif" not in written(photos)


def test_a_mask_that_is_replaced_lies_where_its_photo_lies_now(segmenter: Segmenter, photos: Path) -> None:
    paint(segmenter, outputs(photos, geotiff=True))
    turned = {"transform": KINDS["rotated"]["transform"]}
    placed_photos.write(photos / "deep" / "c.tif", draw_scene(1)[0], **turned)
    Image.fromarray(draw_scene(0)[0]).save(photos / "a.tif", tiffinfo={274: 3, 33550: (1.0, 1.0, 0.0)})
    painted = paint(segmenter, outputs(photos, geotiff=True), overwrite=True)
    assert painted.notes == {NO_PLACE: (2, str(photos / "a.jpg")), TURNED: (1, str(photos / "a.tif"))}
    beside = {"deep/c.pgw", "deep/c.png.aux.xml"}
    assert written(photos) == PNGS | beside | GEOTIFFS | NAMES
    with rasterio.open(photos.parent / "m" / "a.tif.tif") as mask:
        assert mask.transform.is_identity


@pytest.mark.parametrize("last", ["save_geotiff", "save_sidecars", "save_mask"])
def test_an_interruption_leaves_whole_files_and_the_next_call_all(
    last: str, segmenter: Segmenter, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(painting, last, interrupted)
        with pytest.raises(KeyboardInterrupt):
            paint(segmenter, outputs(photos, geotiff=True), batch_size=1)
    assert written(photos) <= BESIDE | GEOTIFFS | NAMES
    paint(segmenter, outputs(photos, geotiff=True), skip_existing=True)
    assert written(photos) == PNGS | BESIDE | GEOTIFFS | NAMES
