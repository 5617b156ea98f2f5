"""Masks read back exactly; pictures have the size they should; failures are one sentence."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slotseg.errors import DataError
from slotseg.labels.label_map import LabelMap
from slotseg.painting import render

NAMED = LabelMap(classes=(0, 1, 255), names=("sky", "sea"), colors=((10, 20, 30), (200, 100, 50)), origin="majority")


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_small_masks_are_indexed_with_the_palette() -> None:
    ids = np.array([[0, 1, 255], [1, 0, 0]], np.uint8)
    image = opened(render.mask_png(ids, NAMED))
    assert (image.mode, image.size) == ("P", (3, 2))
    assert np.array_equal(np.asarray(image), ids)
    assert np.asarray(image.convert("RGB"))[0].tolist() == [[10, 20, 30], [200, 100, 50], [0, 0, 0]]


@pytest.mark.parametrize(("num_prototypes", "mode"), [(2, "P"), (255, "P"), (256, "I;16"), (2048, "I;16")])
def test_every_id_and_ignore_survive(tmp_path: Path, num_prototypes: int, mode: str) -> None:
    labels = LabelMap.prototypes(num_prototypes)
    ids = np.append(labels.class_map(np.arange(num_prototypes)), labels.ignore)[None]
    render.save_mask(tmp_path / "m.png", ids, labels)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), ids)
        if mode == "P":
            colors = np.asarray(image.convert("RGB"))[0].tolist()
            assert colors == [*map(list, labels.colors), [0, 0, 0]]


def test_legend_names_every_id(tmp_path: Path) -> None:
    render.save_legend(tmp_path / "legend.json", NAMED)
    assert json.loads((tmp_path / "legend.json").read_text()) == {
        "classes": [
            {"id": 0, "name": "sky", "color": [10, 20, 30]},
            {"id": 1, "name": "sea", "color": [200, 100, 50]},
        ],
        "ignore_id": 255,
        "origin": "majority",
    }


def test_overlay_mixes_colors_darkens_ignored_and_draws_edges() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    ids = np.zeros((4, 6), np.uint8)
    ids[:, 3:] = 255
    picture = render.overlay(image, ids, NAMED, alpha=0.25)
    assert picture.dtype == np.uint8
    assert picture.shape == image.shape
    assert (picture[:, :3] == [77, 80, 82]).all()
    assert (picture[:, 3] == 255).all()
    assert (picture[:, 4:] == 75).all()
    assert (image == 100).all(), "the photo itself stays"
    assert (render.overlay(image, ids.T[:4, :4].repeat(2, 1)[:, :6], NAMED, 0.0)[0] == 100).all()


def test_overlay_is_the_same_over_the_borders_of_bands() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2 * render.BAND + 1, 5, 3), np.uint8)
    ids = rng.integers(0, 2, (len(image), 5), np.uint8)
    expected = 0.5 * image + 0.5 * np.array(NAMED.colors)[ids]
    expected[:, 1:][ids[:, 1:] != ids[:, :-1]] = 255
    expected[1:][ids[1:] != ids[:-1]] = 255
    assert np.array_equal(render.overlay(image, ids, NAMED), expected.astype(np.uint8))


def test_pictures_do_not_wait_for_the_disk(tmp_path: Path, flushed: list[str]) -> None:
    render.save_mask(tmp_path / "m.png", np.zeros((2, 2), np.uint8), NAMED)
    render.save_picture(tmp_path / "p.jpg", np.zeros((2, 2, 3), np.uint8))
    assert flushed == []


def test_colors_of_sixteen_bit_ids() -> None:
    labels = LabelMap.prototypes(300)
    picture = render.colored(np.array([[0, 299, 65_535]], np.uint16), labels)
    assert picture[0].tolist() == [list(labels.colors[0]), list(labels.colors[299]), [0, 0, 0]]


@pytest.mark.parametrize("size", [(10, 10), (1, 300), (500, 3)])
def test_contact_sheet_fits_any_picture(size: tuple[int, int]) -> None:
    red = np.zeros((*size, 3), np.uint8)
    red[..., 0] = 255
    sheet = render.contact_sheet([[red, red], [red]], ["photo", "classes"], NAMED)
    pixels = np.asarray(sheet)
    assert sheet.width == 2 * render.TILE
    first = pixels[24 : 24 + render.TILE, : render.TILE].reshape(-1, 3)
    assert (first == [255, 0, 0]).all(1).any()
    empty = pixels[24 + render.TILE : 24 + 2 * render.TILE, render.TILE :]
    assert (empty == 255).all()
    legend = pixels[24 + 2 * render.TILE :].reshape(-1, 3)
    assert all((legend == color).all(1).sum() > 100 for color in NAMED.colors)


@pytest.mark.parametrize(("name", "form"), [("a.png", "PNG"), ("a.jpg", "JPEG")])
@pytest.mark.parametrize("as_array", [True, False])
def test_pictures_by_suffix(tmp_path: Path, name: str, form: str, as_array: bool) -> None:
    picture = np.full((5, 7, 3), 90, np.uint8)
    render.save_picture(tmp_path / name, picture if as_array else Image.fromarray(picture))
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.size) == (form, (7, 5))
        assert np.abs(np.asarray(image).astype(int) - 90).max() <= 2


@pytest.mark.parametrize(
    "write",
    [
        lambda path: render.save_mask(path, np.zeros((2, 2), np.uint8), NAMED),
        lambda path: render.save_picture(path, np.zeros((2, 2, 3), np.uint8)),
        lambda path: render.save_legend(path, NAMED),
    ],
    ids=["mask", "picture", "legend"],
)
def test_where_nothing_can_be_written(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"x\.png cannot be written \(.*\); choose another --output"):
        write(tmp_path / "file" / "x.png")
