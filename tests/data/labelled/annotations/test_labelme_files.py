"""Labelme's files become the right label map, or a sentence."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slotseg.data.labelled.annotations.labelme import LabelmeFolder
from slotseg.data.labelled.annotations.shapes import NOTHING
from slotseg.errors import DataError

N = NOTHING


def picture(*rows: list[int], mode: str = "L") -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8)).convert(mode).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(points: list[Any], kind: str | None = "polygon", label: str = "tree", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def written(folder: Path, *shapes: dict[str, Any], name: str = "a.json", **more: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"shapes": shapes, "imageHeight": 3, "imageWidth": 5, **more}), encoding="utf-8")
    return path


def read(folder: Path, key: str = "a", names: tuple[str, ...] = ("sky", "tree")) -> list[list[int]]:
    label_map: list[list[int]] = LabelmeFolder(folder, [key], names).read(key).tolist()
    return label_map


SQUARE = [[N, 1, 1, N, N], [N, 1, 1, N, N], [N, N, N, N, N]]
CORNERS = [[1, 0], [2, 1]]


@pytest.mark.parametrize(
    "drawn",
    [
        shape([[1, 0], [2, 0], [2, 1], [1, 1]]),
        shape([[1, 0], [2, 0], [2, 1], [1, 1]], None),
        shape(CORNERS, "rectangle"),
        shape([[2.0, 0.0], [1.0, 1.0]], "rectangle"),
        shape(CORNERS, "mask", mask=picture([1, 1], [1, 1])),
        shape(CORNERS, "mask", mask=picture([255, 255], [255, 255], mode="1")),
    ],
)
def test_every_shape(tmp_path: Path, drawn: dict[str, Any]) -> None:
    written(tmp_path, drawn)
    assert read(tmp_path) == SQUARE


@pytest.mark.parametrize("named", ["a.jpg", "..\\photos\\a.png", "../old/c.jpg", "", None])
def test_the_photo_that_a_file_names_is_its_own_or_unknown(tmp_path: Path, named: str | None) -> None:
    written(tmp_path, shape(CORNERS, "rectangle"), imagePath=named)
    assert LabelmeFolder(tmp_path, ["a", "b"], ("sky", "tree")).read("a").tolist() == SQUARE


def test_a_file_of_another_of_the_photos_is_refused(tmp_path: Path) -> None:
    written(tmp_path, shape(CORNERS, "rectangle"), imagePath="../photos/b.jpg")
    with pytest.raises(DataError, match=r"a\.json is of b\.jpg; expected the file of a: name it as its photo"):
        LabelmeFolder(tmp_path, ["a", "b"], ("sky", "tree")).read("a")


def test_a_circle_is_its_middle_and_a_point_of_its_edge(tmp_path: Path) -> None:
    written(tmp_path, shape([[2, 1], [3, 1]], "circle"))
    assert read(tmp_path) == [[N, N, 1, N, N], [N, 1, 1, 1, N], [N, N, 1, N, N]]


def test_parts_of_a_mask(tmp_path: Path) -> None:
    written(tmp_path, shape([[1.0, 0.0], [3.0, 1.0]], "mask", mask=picture([1, 0, 1], [0, 1, 0])))
    assert read(tmp_path) == [[N, 1, N, 1, N], [N, N, 1, N, N], [N] * 5]


def test_later_shapes_lie_on_top_and_ignored_ones_are_void(tmp_path: Path) -> None:
    everything = shape([[0, 0], [4, 2]], "rectangle", "sky")
    tree, hole = shape(CORNERS, "rectangle"), shape([[1, 0], [1, 0], [1, 0]], label="__ignore__")
    written(tmp_path, everything, tree, hole)
    assert read(tmp_path) == [[0, N, 1, 0, 0], [0, 1, 1, 0, 0], [0] * 5]
    written(tmp_path, tree, everything)
    assert read(tmp_path) == [[0] * 5] * 3
    written(tmp_path)
    assert read(tmp_path) == [[N] * 5] * 3


def test_names_are_those_given_or_the_labels_of_all_files(tmp_path: Path) -> None:
    written(tmp_path, shape(CORNERS, "rectangle"), shape(CORNERS, "rectangle", "__ignore__"))
    written(tmp_path, shape(CORNERS, "rectangle", "家"), shape(CORNERS, "rectangle", "car"), name="deep/b.json")
    folder = LabelmeFolder(tmp_path, ["a", "deep/b"])
    assert (folder.names, folder.colors) == (("car", "tree", "家"), None)
    assert folder.read("deep/b")[0, 1] == 0
    given = LabelmeFolder(tmp_path, ["a", "deep/b"], ("sky", "tree"))
    assert given.names == ("sky", "tree")
    with pytest.raises(DataError, match=r"b\.json has the label '家'; expected one of the classes: sky, tree"):
        given.read("deep/b")


def test_files_of_all_subfolders_may_lie_side_by_side(tmp_path: Path) -> None:
    path = written(tmp_path, name="b.json")
    folder = LabelmeFolder(tmp_path, ["deep/b", "a"])
    assert (folder.file("deep/b"), folder.missing(["a", "deep/b"])) == (path, [str(tmp_path / "a.json")])
    twice = LabelmeFolder(tmp_path, ["deep/b", "b"])
    assert twice.missing(["deep/b", "b"]) == [str(tmp_path / "deep" / "b.json")]


@pytest.mark.parametrize("name", ["a.JSON", "a.jpg.json", "a.JPG.Json"])
def test_every_end_of_the_names(tmp_path: Path, name: str) -> None:
    written(tmp_path, shape(CORNERS, "rectangle"), name=name)
    assert read(tmp_path) == SQUARE
    assert LabelmeFolder(tmp_path, ["a"]).missing(["a"]) == []


def test_the_file_of_the_photos_name_goes_before_others_and_two_others_are_not_sure(tmp_path: Path) -> None:
    for name in ("a.jpg.json", "a.png.json"):
        written(tmp_path, name=name)
    with pytest.raises(DataError, match=r"a has several files in .*: a\.jpg\.json and a\.png\.json; expected one"):
        read(tmp_path)
    written(tmp_path, shape(CORNERS, "rectangle"))
    assert read(tmp_path) == SQUARE


def test_names_of_another_form_of_unicode(tmp_path: Path) -> None:
    drawn = shape(CORNERS, "rectangle", "e\u0301 ")
    written(tmp_path, drawn, name="o\u0308/u\u0308.json", imagePath="u\u0308.jpg")
    key = "\u00f6/\u00fc"
    folder = LabelmeFolder(tmp_path, [key])
    assert (folder.names, folder.read(key)[0].tolist()) == (("\u00e9",), [N, 0, 0, N, N])


def test_a_file_without_a_size_has_that_of_its_photo(tmp_path: Path) -> None:
    """The size of the photo as it is looked at, which its EXIF may turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 5)).save(tmp_path / "a.jpg", exif=exif)
    written(tmp_path, shape(CORNERS, "rectangle"), imageHeight=None, imageWidth=None)
    folder = LabelmeFolder(tmp_path, ["a"], ("sky", "tree"), {"a": tmp_path / "a.jpg"})
    assert folder.read("a").tolist() == SQUARE


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (shape([[1, 1], [2, 2]], "line"), "has a shape of the kind line; expected polygon, rectangle, circle or mask"),
        (shape([[1, 1]], "point"), "of the kind point"),
        (shape([[1, 1], [2, 2]]), "has a polygon of 2 points; expected 3"),
        (shape([[1, 1]], "circle"), "has a circle of 1 points; expected 2"),
        (shape([[1, 1]] * 4, "rectangle"), "has a rectangle of 4 points; expected 2"),
        (shape([[1, 1], [2]]), "whose points are no x and y"),
        (shape([["x", 1], [1, 1], [2, 2]]), "whose points are no x and y"),
        (shape([[1e9, 1], [1, 1], [2, 2]]), "far beyond the photo"),
        (shape([[float("nan"), 1], [1, 1], [2, 2]]), "far beyond the photo"),
        (shape(CORNERS, "mask"), "has a mask that is no picture; expected a PNG in base64"),
        (shape(CORNERS, "mask", mask="AAAA"), "no picture"),
        (shape(CORNERS, "mask", mask=picture([1, 1])), "does not fit its two points"),
        (shape([[4, 0], [5, 1]], "mask", mask=picture([1, 1], [1, 1])), "does not fit its two points"),
        (shape([[-1, 0], [0, 1]], "mask", mask=picture([1, 1], [1, 1])), "does not fit its two points"),
        (shape([], "mask", mask=picture([1, 1])), "does not fit its two points"),
        (shape(CORNERS, "mask", mask=picture([1, 1], [1, 1], mode="RGB")), "does not fit its two points"),
        (shape(CORNERS, "rectangle", "sea"), "has the label 'sea'; expected one of the classes: sky, tree"),
    ],
)
def test_a_shape_that_cannot_be_drawn_names_the_file(tmp_path: Path, drawn: dict[str, Any], message: str) -> None:
    written(tmp_path, drawn)
    with pytest.raises(DataError, match=rf"a\.json has .*{message.removeprefix('has ')}"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no whole JSON"),
        ('{"shapes": [', "is no whole JSON"),
        ("[]", "has no shapes"),
        ('{"shapes": [{}]}', "has no shapes with label and points"),
        ('{"shapes": [3]}', "has no shapes with label and points"),
        ('{"shapes": []}', "has width null and height null; expected the size of the photo"),
        ('{"shapes": [], "imageHeight": null, "imageWidth": 3}', "has width 3 and height null"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=rf"a\.json {message}"):
        read(tmp_path)
