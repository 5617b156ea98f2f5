"""Somebody's own labels: which files are read, and which names their classes have."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slotseg.data.labelled.labelled import LabelledPhotos, labelled_folder
from slotseg.errors import DataError, LabelError

VOID = 255
SQUARE = [[VOID, 1, 1, VOID], [VOID, 1, 1, VOID], [VOID] * 4]
SQUARE_OF_ONE = [[VOID, 0, 0, VOID], [VOID, 0, 0, VOID], [VOID] * 4]
POLYGON = [1, 0, 3, 0, 3, 2, 1, 2]
LABELME = {
    "shapes": [{"label": "tree", "points": [[1, 0], [2, 1]], "shape_type": "rectangle"}],
    "imageHeight": 3,
    "imageWidth": 4,
    "imagePath": "a.jpg",
}
CVAT = """<annotations><meta><task><labels>
<label><name>sky</name></label><label><name>tree</name></label></labels></task>
</meta><image id="0" name="a.jpg" width="4" height="3"><polygon label="tree" points="1,0;3,0;3,2;1,2"/></image>
</annotations>"""


def coco(*names: str, category: int = 2, **more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 3, "width": 4}],
        "annotations": [{"image_id": 1, "category_id": category, "segmentation": [POLYGON]}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names or ("sky", "tree"), 1)],
        **more,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo of 4 x 3 pixels, and an empty folder for its labels."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "a.jpg")
    return tmp_path


def write(folder: Path, name: str, value: Any) -> Path:
    path = folder / "labels" / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith(".png"):
        Image.fromarray(np.array(value, np.uint8)).save(path)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def opened(folder: Path, labels: str = "labels") -> LabelledPhotos:
    return labelled_folder(folder / "images", folder / labels)


def class_map(dataset: LabelledPhotos) -> list[list[int]]:
    classes: list[list[int]] = dataset.read(0).class_map.tolist()
    return classes


FORMS = [("annotations.json", coco()), ("annotations.xml", CVAT), ("a.json", LABELME)]


@pytest.mark.parametrize(("name", "value"), FORMS)
def test_annotations_in_a_folder_bring_their_names(folder: Path, name: str, value: Any) -> None:
    write(folder, name, value)
    dataset = opened(folder)
    assert dataset.taxonomy.names == (("tree",) if name == "a.json" else ("sky", "tree"))
    tree = dataset.taxonomy.names.index("tree")
    assert class_map(dataset) == np.where(np.array(SQUARE) == 1, tree, VOID).tolist()
    assert dataset.labels == ("labels/*.json" if name == "a.json" else name)


@pytest.mark.parametrize("name", ["instances_default.json", "result.JSON"])
def test_a_file_of_any_name_and_place(folder: Path, name: str) -> None:
    write(folder, f"deep/{name}", coco())
    assert class_map(opened(folder, f"labels/deep/{name}")) == SQUARE


@pytest.mark.parametrize(("name", "value"), FORMS)
def test_the_classes_of_classes_json_go_by_name(folder: Path, name: str, value: Any) -> None:
    write(folder, name, value)
    write(folder, "classes.json", {"names": {"7": "tree", "3": "sea", "12": "sky", "0": "none"}, "ignore_index": 0})
    dataset = opened(folder)
    assert dataset.taxonomy.names == ("tree", "sea", "sky")
    assert class_map(dataset) == np.where(np.array(SQUARE) == 1, 0, VOID).tolist()


@pytest.mark.parametrize(("name", "value"), FORMS)
def test_a_name_that_is_ignored_is_void(folder: Path, name: str, value: Any) -> None:
    write(folder, name, value)
    write(folder, "classes.json", {"names": ["sky", "tree"], "ignore_index": 1})
    dataset = opened(folder)
    assert dataset.taxonomy.names == ("sky",)
    assert class_map(dataset) == [[VOID] * 4] * 3


@pytest.mark.parametrize(("name", "value"), FORMS)
def test_names_that_do_not_agree_are_one_sentence(folder: Path, name: str, value: Any) -> None:
    write(folder, name, value)
    write(folder, "classes.json", {"names": ["sky", "grass"]})
    with pytest.raises(DataError, match=r"has the (class|label) 'tree'.* (expected|does not have).*sky, grass"):
        opened(folder).read(0)


def test_the_legend_names_labels_of_labelme_and_ids_of_masks(folder: Path) -> None:
    classes = [{"id": i, "name": name, "color": [i, 9, 9]} for i, name in enumerate(("sky", "tree", "sea"))]
    write(folder, "legend.json", {"classes": classes, "ignore_id": 255})
    write(folder, "a.json", LABELME)
    assert (opened(folder).taxonomy.names, class_map(opened(folder))) == (("sky", "tree", "sea"), SQUARE)
    (folder / "labels" / "a.json").unlink()
    write(folder, "a.png", SQUARE)
    dataset = opened(folder)
    assert (dataset.taxonomy.names, class_map(dataset)) == (("sky", "tree", "sea"), SQUARE)
    assert dataset.taxonomy.colors == ((0, 9, 9), (1, 9, 9), (2, 9, 9))
    write(folder, "classes.json", {"names": ["tree", "sky", "sea"]})
    assert class_map(opened(folder)) == np.where(np.array(SQUARE) == 1, 0, VOID).tolist()
    write(folder, "classes.json", {"names": ["sky", "tree", "sea"], "ignore_index": 1})
    assert class_map(opened(folder)) == [[VOID] * 4] * 3
    write(folder, "classes.json", {"names": ["sky", "tree"]})
    with pytest.raises(DataError, match=r"legend\.json has the class 'sea', which .*classes\.json does not have"):
        opened(folder)


@pytest.mark.parametrize(
    "legend",
    ["{", "[]", {"classes": [{"id": 0}]}, {"classes": [{"id": 1.5, "name": "sky"}]}, {"classes": [], "ignore_id": 255}],
)
def test_a_file_that_is_no_legend_matters_only_where_it_is_needed(folder: Path, legend: Any) -> None:
    write(folder, "a.png", SQUARE)
    write(folder, "legend.json", legend)
    with pytest.raises(
        DataError, match=r"legend\.json (is no whole JSON|has no classes|has the id 1\.5|gives the id 0 no name)"
    ):
        opened(folder)
    write(folder, "classes.json", {"names": ["sky", "tree"]})
    assert class_map(opened(folder)) == SQUARE
    (folder / "labels" / "classes.json").unlink()
    (folder / "labels" / "a.png").unlink()
    write(folder, "annotations.xml", CVAT)
    assert class_map(opened(folder)) == SQUARE


@pytest.mark.parametrize(("name", "value"), FORMS)
def test_label_maps_beside_annotations_are_read_and_a_line_says_so(
    folder: Path, name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, name, value)
    write(folder, "a.png", [[0] * 4] * 3)
    write(folder, "classes.json", {"names": ["sky", "tree"]})
    with caplog.at_level(logging.WARNING):
        assert class_map(opened(folder)) == [[0] * 4] * 3
    told = "labelme's files" if name == "a.json" else name
    assert f"has label maps and {told}; the label maps are read" in caplog.text
    if name != "a.json":
        assert class_map(opened(folder, f"labels/{name}")) == SQUARE


def test_all_annotations_beside_label_maps_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, value in FORMS:
        write(folder, name, value)
    write(folder, "a.png", SQUARE)
    write(folder, "classes.json", {"names": ["sky", "tree"]})
    assert class_map(opened(folder)) == SQUARE
    labels = folder / "labels"
    assert "maps and annotations.json and annotations.xml and labelme's files; the label maps are read" in caplog.text
    for hint in (
        f"name {labels / 'annotations.json'} to read it",
        f"name {labels / 'annotations.xml'} to",
        "move labelme",
    ):
        assert hint in caplog.text


@pytest.mark.parametrize(("name", "value"), [("Annotations.JSON", coco()), ("ANNOTATIONS.XML", CVAT)])
def test_large_and_small_letters_of_names_do_not_matter(folder: Path, name: str, value: Any) -> None:
    write(folder, name, value)
    write(folder, "Classes.JSON", {"names": ["tree", "sky"]})
    assert class_map(opened(folder)) == np.where(np.array(SQUARE) == 1, 0, VOID).tolist()


@pytest.mark.parametrize(("name", "value"), FORMS)
def test_names_go_without_needless_spaces(folder: Path, name: str, value: Any) -> None:
    text = (value if isinstance(value, str) else json.dumps(value)).replace("tree", " tree ")
    write(folder, name, text)
    write(folder, "classes.json", {"names": ["sky", "tree\t"]})
    assert (opened(folder).taxonomy.names, class_map(opened(folder))) == (("sky", "tree"), SQUARE)


def test_annotations_in_utf_16(folder: Path) -> None:
    (folder / "labels" / "all.json").write_bytes(json.dumps(coco()).encode("utf-16"))
    assert class_map(opened(folder, "labels/all.json")) == SQUARE


def test_a_legend_with_gaps_and_ids_as_text(folder: Path) -> None:
    classes = [{"id": 7, "name": "sky"}, {"id": "11", "name": "tree"}]
    write(folder, "legend.json", {"classes": classes})
    write(folder, "a.png", np.where(np.array(SQUARE) == 1, 11, 7))
    assert class_map(opened(folder)) == [[0, 1, 1, 0], [0, 1, 1, 0], [0] * 4]
    write(folder, "classes.json", {"names": ["tree", "sky"], "ignore_index": 1})
    assert class_map(opened(folder)) == SQUARE_OF_ONE
    (folder / "labels" / "classes.json").unlink()
    write(folder, "a.png", np.full((3, 4), 3))
    with pytest.raises(
        LabelError, match=r"the id 3, .*; expected value = class id \(7, 11\) or void \(255\), as .*legend"
    ):
        opened(folder).read(0)


def test_label_maps_in_the_colours_of_a_legend(folder: Path) -> None:
    """Black is void, unless a class is black: then void has a number alone."""
    colors = [[9, 9, 200], [0, 200, 0]]
    classes = [{"id": i, "name": name, "color": colors[i]} for i, name in enumerate(("sky", "tree"))]
    write(folder, "legend.json", {"classes": classes, "ignore_id": 255})
    write(folder, "a.png", np.where(np.array(SQUARE)[..., None] == 1, colors[1], 0))
    assert class_map(opened(folder)) == SQUARE
    write(folder, "legend.json", {"classes": [{**classes[0], "color": [0, 0, 0]}, classes[1]], "ignore_id": 255})
    assert class_map(opened(folder)) == [[0, 1, 1, 0], [0, 1, 1, 0], [0] * 4]
    image = Image.fromarray(np.array(SQUARE, np.uint8))
    image.putpalette(np.array([[0, 0, 0], colors[1], *[[0, 0, 0]] * 254], np.uint8).tobytes())
    image.save(folder / "labels" / "a.png")
    assert class_map(opened(folder)) == SQUARE


@pytest.mark.parametrize(
    ("legend", "message"),
    [
        ({"classes": [{"id": 0, "name": "a"}, {"id": "0", "name": "b"}]}, "gives the id 0 two meanings"),
        ({"classes": [{"id": 3, "name": "a"}], "ignore_id": 3}, "gives the id 3 two meanings"),
        ({"classes": [{"id": 65536, "name": "a"}]}, "has the id 65536; expected a whole number from 0 to 65535"),
        ({"classes": [{"id": "one", "name": "a"}]}, 'has the id "one"; expected a whole number'),
        ({"classes": [{"name": "a"}]}, "has the id null; expected a whole number"),
        ({"classes": [{"id": 0, "name": "a"}], "ignore_id": True}, "has the id true; expected"),
        ({"classes": [{"id": 0, "name": "a"}, {"id": 1, "name": "a "}]}, "has two classes named 'a'"),
        ('{"classes": [], "classes": []}', 'has the key "classes" twice'),
    ],
)
def test_a_legend_that_cannot_be_used_is_one_sentence(folder: Path, legend: Any, message: str) -> None:
    write(folder, "a.png", SQUARE)
    write(folder, "legend.json", legend)
    with pytest.raises(DataError, match=rf"legend\.json {message}"):
        opened(folder)


def test_annotations_above_a_split_are_told(folder: Path) -> None:
    (folder / "images").rename(folder / "val")
    (folder / "images").mkdir()
    (folder / "val").rename(folder / "images" / "val")
    path = write(folder, "annotations.json", coco())
    with pytest.raises(DataError, match=rf"val is not a folder; .* the annotations in {path}, the name of this file$"):
        labelled_folder(folder / "images", folder / "labels", "val")
    assert class_map(labelled_folder(folder / "images", path, "val")) == SQUARE


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_labelmes_files_beside_the_photos(folder: Path, suffix: str) -> None:
    Image.new("RGB", (4, 3)).save(folder / "labels" / f"a{suffix}")
    write(folder, "a.json", LABELME)
    dataset = labelled_folder(folder / "labels", folder / "labels")
    assert dataset.read(0).class_map[0].tolist() == [VOID, 0, 0, VOID]


def test_several_kinds_are_refused(folder: Path) -> None:
    for name, value in FORMS:
        write(folder, name, value)
    with pytest.raises(DataError, match=r"has annotations\.json and annotations\.xml and labelme's files; expected"):
        opened(folder)
    assert class_map(opened(folder, "labels/annotations.xml")) == SQUARE


def test_photos_without_annotations_are_counted(folder: Path) -> None:
    for name in ("b.jpg", "c.jpg"):
        Image.new("RGB", (4, 3)).save(folder / "images" / name)
    path = write(folder, "annotations.json", coco())
    with pytest.raises(DataError, match=rf"2 of 3 photos have no annotations in {path}, which lists a\.jpg and so on"):
        opened(folder)
    path.rename(folder / "annotations.json")
    write(folder, "a.json", LABELME)
    with pytest.raises(DataError, match=r"2 of 3 photos have no annotations in .*labels; the first is .*b\.json"):
        opened(folder)


def test_annotations_of_another_size_are_told(folder: Path) -> None:
    write(folder, "annotations.json", coco(images=[{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}]))
    with pytest.raises(LabelError, match=r"photo a of .*annotations.json is 8 x 6 and its photo a\.jpg 4 x 3"):
        opened(folder).read(0)


def test_a_file_of_one_photo(folder: Path) -> None:
    write(folder, "b_legend.json", {"classes": [{"id": 0, "name": "sky"}, {"id": 1, "name": "tree"}]})
    write(folder, "b.png", SQUARE)
    dataset = opened(folder, "labels/b.png")
    assert (class_map(dataset), dataset.taxonomy.names) == (SQUARE, ("sky", "tree"))
    write(folder, "a.json", LABELME)
    with pytest.raises(DataError, match=r"a\.json is labelme's file of one photo; expected its folder"):
        opened(folder, "labels/a.json")


def test_no_names_at_all(folder: Path) -> None:
    write(folder, "a.png", SQUARE)
    with pytest.raises(DataError, match=r"there is no classes\.json in .*labels or beside it; expected"):
        opened(folder)


@pytest.mark.parametrize("name", ["result.json", "export/instances_default.json", "export/annotations.xml"])
def test_annotations_of_another_name_are_found_and_told(folder: Path, name: str) -> None:
    path = write(folder, name, CVAT if name.endswith(".xml") else coco())
    with pytest.raises(DataError, match=rf"or, to read the annotations in {path}, the name of this file$"):
        opened(folder)


def test_damaged_annotations_are_one_sentence(folder: Path) -> None:
    for name, value in (("annotations.json", json.dumps(coco())[:-9]), ("annotations.xml", CVAT[:-9])):
        path = write(folder, name, value)
        with pytest.raises(DataError, match=rf"{name} (is no whole JSON|cannot be used)"):
            opened(folder)
        path.unlink()
