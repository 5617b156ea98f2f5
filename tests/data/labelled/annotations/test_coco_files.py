"""COCO's annotations of any tool become the right label map, or a sentence."""

import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from slotseg.data.labelled.annotations import shapes
from slotseg.data.labelled.annotations.coco import CocoFile
from slotseg.data.labelled.annotations.shapes import NOTHING
from slotseg.errors import DataError

N = NOTHING
SQUARE = [1, 0, 3, 0, 3, 2, 1, 2]
"""Columns 1 and 2 of rows 0 and 1."""
ALL = [0, 0, 4, 0, 4, 3, 0, 3]


def annotation(segmentation: Any, category: int = 7, image: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "category_id": category, "segmentation": segmentation, **more}


def content(*annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "deep/a.jpg", "height": 3, "width": 4}],
        "annotations": list(annotations),
        "categories": [{"id": 90, "name": "sky"}, {"id": 7, "name": "tree"}],
        **more,
    }


def written(folder: Path, value: Any) -> Path:
    path = folder / "annotations.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def read(folder: Path, value: Any) -> list[list[int]]:
    label_map: list[list[int]] = CocoFile(written(folder, value), ["deep/a"]).read("deep/a").tolist()
    return label_map


def compressed(*rows: list[int]) -> str:
    text: str = coco_masks.encode(np.asfortranarray(np.array(rows, np.uint8)))["counts"].decode()
    return text


TREE = [[N, 1, 1, N], [N, 1, 1, N], [N, N, N, N]]


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        [[float(v) for v in SQUARE]],
        [[1, 0, 2, 0, 2, 2, 1, 2], [2, 0, 3, 0, 3, 2, 2, 2]],
        {"size": [3, 4], "counts": [3, 2, 1, 2, 4]},
        {"size": [3, 4], "counts": compressed([0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0])},
    ],
    ids=["polygon", "floats", "two parts", "counts", "compressed"],
)
@pytest.mark.parametrize("crowd", [{}, {"iscrowd": 0}, {"iscrowd": 1}])
def test_every_segmentation(tmp_path: Path, segmentation: Any, crowd: dict[str, int]) -> None:
    assert read(tmp_path, content(annotation(segmentation, **crowd))) == TREE


def test_ids_with_gaps_and_colours(tmp_path: Path) -> None:
    value = content(annotation([SQUARE]))
    file = CocoFile(written(tmp_path, value), ["deep/a"])
    assert (file.names, file.colors, file.listed) == (("sky", "tree"), None, "deep/a.jpg")
    value["categories"] = [{"id": 1, "name": "sky", "color": [1, 2, 3]}, {"id": "7", "name": "家", "color": [4, 5, 6]}]
    value["annotations"][0]["category_id"] = "7"
    file = CocoFile(written(tmp_path, value), ["deep/a"])
    assert (file.names, file.colors) == (("sky", "家"), ((1, 2, 3), (4, 5, 6)))
    assert file.read("deep/a").tolist() == TREE


def test_small_ones_lie_over_large_ones_and_all_over_crowds(tmp_path: Path) -> None:
    small, large = annotation([SQUARE], 7), annotation([ALL], 90)
    both = [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    for order in ([small, large], [large, small]):
        assert read(tmp_path, content(*order)) == both
    crowd = annotation({"size": [3, 4], "counts": [3, 2, 1, 2, 4]}, 7, iscrowd=1)
    assert read(tmp_path, content(large, crowd)) == [[0] * 4] * 3


def test_a_photo_without_annotations_is_void_and_others_do_not_matter(tmp_path: Path) -> None:
    assert read(tmp_path, content()) == [[N] * 4] * 3
    broken = annotation("nothing", image=5)
    more = [{"id": 1, "file_name": "deep/a.jpg", "height": 3, "width": 4}, {"id": 5, "file_name": "b.jpg"}]
    assert read(tmp_path, content(annotation([SQUARE]), broken, images=more)) == TREE


def test_names_that_utf8_cannot_hold(tmp_path: Path) -> None:
    value = content(annotation([SQUARE]), images=[{"id": 1, "file_name": "deep/?.jpg", "height": 3, "width": 4}])
    assert CocoFile(written(tmp_path, value), ["deep/\udcff"]).read("deep/\udcff").tolist() == TREE


def test_a_byte_order_mark(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + json.dumps(content(annotation([SQUARE])))) == TREE


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "has an annotation without a segmentation, such as a box; expected a polygon or run lengths"),
        ([], "without a segmentation"),
        ("3 4", "without a segmentation"),
        ([[1, 0, 3, 2]], "has a polygon of 2 points; expected 3 or more"),
        ([[1, 0, 3, 0, 3, 2, 1]], "no list of x and y"),
        ([[[1, 0], [3, 0], [3, 2]]], "no list of x and y"),
        ([1, 0, 3, 0, 3, 2], "no list of x and y"),
        ([["a"] * 6], "no list of x and y"),
        ([[1, 0, 3, 0, 3, 1e9]], "far beyond the photo"),
        ([[1, 0, 3, 0, 3, float("nan")]], "far beyond the photo"),
        ({"size": [4, 3], "counts": [12]}, r"run lengths of size \[4, 3\]; expected \[3, 4\]"),
        ({"counts": [12]}, "run lengths of size None"),
        ({"size": [3, 4]}, "no whole numbers"),
        ({"size": [3, 4], "counts": [11]}, "do not cover 4 x 3 pixels"),
        ({"size": [3, 4], "counts": []}, "do not cover"),
        ({"size": [3, 4], "counts": [13, -1]}, "do not cover"),
        ({"size": [3, 4], "counts": ["a"]}, "no whole numbers"),
        ({"size": [3, 4], "counts": ""}, "no whole numbers, nor COCO's"),
        ({"size": [3, 4], "counts": "P"}, "no whole numbers, nor COCO's"),
        ({"size": [3, 4], "counts": "\u00e9"}, "no whole numbers, nor COCO's"),
        ({"size": [3, 4], "counts": "PPPPPPPP1"}, "no whole numbers, nor COCO's"),
        ({"size": [3, 4], "counts": compressed([0, 1, 1, 0])}, "do not cover"),
        ({"size": [3, 4], "counts": compressed(*[[0, 1, 1, 0, 1]] * 3)}, "do not cover"),
    ],
)
def test_a_segmentation_that_cannot_be_drawn_names_the_photo(tmp_path: Path, segmentation: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^photo deep/a of .*annotations.json has .*{message.removeprefix('has ')}"):
        read(tmp_path, content(annotation(segmentation)))


def test_run_lengths_of_one_pixel(tmp_path: Path) -> None:
    one = [{"id": 1, "file_name": "deep/a.jpg", "height": 1, "width": 1}]
    assert read(tmp_path, content(annotation({"size": [1, 1], "counts": "01"}), images=one)) == [[1]]
    with pytest.raises(DataError, match="do not cover 1 x 1 pixels"):
        read(tmp_path, content(annotation({"size": [1, 1], "counts": "0"}), images=one))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is no whole JSON"),
        (json.dumps(content(annotation([SQUARE])))[:150], "is no whole JSON"),
        ("[" * 100_000, "is no whole JSON"),
        ([], "has no images; expected COCO's annotations"),
        ({"images": [], "annotations": []}, "has no categories"),
        (content(images={}), "has no images"),
        (content(images=[{"id": 1}]), "in its images; expected file_name and id there"),
        (content(images=[3]), "in its images"),
        (content({"image_id": 1}), "in its annotations; expected category_id and image_id there"),
        (content({"image_id": [1], "category_id": 2}), "in its annotations"),
        (content(categories=[{"id": 1}]), "in its categories; expected id and name there"),
        (content(categories=[]), "has no classes"),
        (content(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]), "two classes named 'a'"),
        (content(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "two categories of the id 1"),
        (
            content(images=[{"id": 1, "file_name": "deep/a.jpg"}, {"id": 1, "file_name": "b.jpg"}]),
            "two images of the id 1",
        ),
        (
            content({"image_id": "1", "category_id": 2}),
            'annotations of the image_id "1" and so on; expected ids of its',
        ),
        (content(annotation([SQUARE], 3)), "has the category_id 3; expected the id of one of the categories"),
        (content(images=[{"id": 1, "file_name": "deep/a.jpg"}]), "has width null and height null; expected the size"),
        (content(images=[{"id": 1, "file_name": "deep/a.jpg", "height": 0, "width": 4}]), "has width 4 and height 0"),
        (content(images=[{"id": 1, "file_name": "deep/a.jpg", "height": 1e6, "width": 1e6}]), "has width 1000000"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, value)
    assert "annotations.json" in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        CocoFile(tmp_path / "none.json", ["a"])


def test_absent_photos_are_told(tmp_path: Path) -> None:
    file = CocoFile(written(tmp_path, content()), ["deep/a", "b"])
    assert file.missing(["deep/a", "b"]) == [f"photo b of {tmp_path / 'annotations.json'}"]


def test_every_compressed_text_of_pycocotools(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        size = tuple(random.integers(1, 200, 2).tolist())
        mask = (random.random(size) < random.random()) ^ (random.random((size[0], 1)) < 0.5)
        text = compressed(*mask.tolist())
        assert np.array_equal(shapes.decode(shapes.run_length_rle(text, size)), mask)
        for wrong in ((size[0] + 1, size[1]), (size[0], size[1] + 1)):
            with pytest.raises(ValueError, match="do not cover"):
                shapes.run_length_rle(text, wrong)
    long = compressed(*(np.arange(4_000_000) == 3_999_999).reshape(2_000, 2_000).tolist())
    assert shapes.area(shapes.run_length_rle(long, (2_000, 2_000))) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such count")
def test_photos_are_forgotten_once_they_are_read(tmp_path: Path) -> None:
    """Nor does pycocotools keep anything of them: its memory is not Python's."""
    import resource

    images = [{"id": 1, "file_name": "deep/a.jpg", "height": 2_000, "width": 2_000}]
    text = {"size": [2_000, 2_000], "counts": compressed(*np.eye(2_000, dtype=np.uint8).tolist())}
    file = CocoFile(written(tmp_path, content(annotation(text), annotation([ALL]), images=images)), ["deep/a"])
    file.read("deep/a")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        file.read("deep/a")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * (1 if sys.platform == "darwin" else 1024) < 10 * 4_000_000


def test_memory_is_that_of_the_file_and_not_of_its_masks(tmp_path: Path) -> None:
    """Masks of 4 GB in a file of 8 MB."""
    size = 1_000
    polygon = [float(v) for v in np.random.default_rng(0).integers(0, size, 100)]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": size, "width": size} for i in range(2_000)]
    annotations = [annotation([polygon], image=i % 2_000) for i in range(4_000)]
    path = written(tmp_path, content(*annotations, images=images))
    keys = [str(i) for i in range(2_000)]
    tracemalloc.start()
    file = CocoFile(path, keys)
    file.read("7")
    file.read("8")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * path.stat().st_size + 20 * size * size
