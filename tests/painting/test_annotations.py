"""Annotation files: what other tools read from them is what was painted."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from slotseg.data.scenes import draw_scene
from slotseg.errors import ConfigError, DataError
from slotseg.labels.label_map import IGNORE, LabelMap, palette
from slotseg.painting.annotations import WRITERS, open_writer
from slotseg.painting.coco import encode_regions
from slotseg.painting.cvat import raw_labels, run_lengths
from slotseg.painting.labelme import IGNORED, shapes
from slotseg.painting.regions import BAND, find_regions
from slotseg.painting.summary import image_summary

NAMES = ("sky", "Bäume & <Büsche>", 'a "road"', "家")
LABELS = LabelMap.of_classes(NAMES, palette(len(NAMES)))
WIDE = LabelMap.prototypes(300)
PHOTOS = {
    "a.jpg": np.array([[0, 0, 1], [0, 255, 1]], np.uint8),
    'deep/er/ü & "b" <1>.png': np.full((3, 2), 3, np.uint8),
    "one.jpg": np.array([[2]], np.uint8),
    "void.jpg": np.full((4, 5), 255, np.uint8),
}

MASKS = ["coco", "cvat", "labelme"]
"""Formats from which masks can be read back."""


def blobs(num_classes: int, smoothness: float, shape: tuple[int, int] = (480, 640)) -> NDArray[np.uint8]:
    """A class map such as bilinear scores make: whichever of some smooth fields is largest."""
    random = np.random.default_rng(0)
    fields = [
        cv2.GaussianBlur(random.standard_normal(shape).astype(np.float32), (0, 0), smoothness)
        for _ in range(num_classes)
    ]
    largest: NDArray[np.uint8] = np.argmax(np.stack(fields), axis=0).astype(np.uint8)
    return largest


def read_coco(path: Path, labels: LabelMap) -> dict[str, NDArray[Any]]:
    with redirect_stdout(io.StringIO()):
        coco = COCO(path)
    found = {}
    for image in coco.imgs.values():
        class_map = np.full((image["height"], image["width"]), labels.ignore)
        for annotation in coco.imgToAnns[image["id"]]:
            mask = coco.annToMask(annotation).astype(bool)
            assert (class_map[mask] == labels.ignore).all(), "masks overlap"
            class_map[mask] = labels.names.index(coco.cats[annotation["category_id"]]["name"])
            encoded = annotation["segmentation"]
            assert annotation["area"] == coco_masks.area(encoded) == mask.sum()
            assert annotation["bbox"] == coco_masks.toBbox(encoded).tolist()
        found[image["file_name"]] = class_map
    return found


def read_cvat(path: Path, labels: LabelMap) -> dict[str, NDArray[Any]]:
    """Decode as the format's documentation says, a pixel at a time."""
    found = {}
    for image in ElementTree.parse(path).getroot().iter("image"):
        class_map = np.full((int(image.attrib["height"]), int(image.attrib["width"])), labels.ignore)
        for mask in image.iter("mask"):
            left, top, width, height = (int(mask.attrib[key]) for key in ("left", "top", "width", "height"))
            pixel, inside = 0, False
            for length in map(int, mask.attrib["rle"].split(",")):
                for position in range(pixel, pixel + length):
                    if inside:
                        class_map[top + position // width, left + position % width] = labels.names.index(
                            mask.attrib["label"]
                        )
                pixel, inside = pixel + length, not inside
            assert pixel == width * height
        found[image.attrib["name"]] = class_map
    return found


def drawn(polygons: list[dict[str, Any]], shape: tuple[int, ...], labels: LabelMap) -> NDArray[Any]:
    """Draw shapes one after the other, as labelme does to make masks of them."""
    class_map = np.full(shape, labels.ignore)
    for polygon in polygons:
        assert len(polygon["points"]) >= 3
        mask = Image.new("1", (shape[1], shape[0]))
        ImageDraw.Draw(mask).polygon([tuple(p) for p in polygon["points"]], fill=1, outline=1)
        name = polygon["label"]
        class_map[np.array(mask)] = labels.ignore if name == IGNORED else labels.names.index(name)
    return class_map


def read_labelme(folder: Path, labels: LabelMap) -> dict[str, NDArray[Any]]:
    found = {}
    for path in folder.rglob("*.json"):
        value = json.loads(path.read_text(encoding="utf-8"))
        class_map = drawn(value["shapes"], (value["imageHeight"], value["imageWidth"]), labels)
        found[(path.parent.relative_to(folder) / value["imagePath"]).as_posix()] = class_map
    return found


def read(form: str, folder: Path, labels: LabelMap) -> dict[str, NDArray[Any]]:
    if form == "labelme":
        return read_labelme(folder, labels)
    return (
        read_coco(folder / "annotations.json", labels)
        if form == "coco"
        else read_cvat(folder / "annotations.xml", labels)
    )


@pytest.mark.parametrize("form", MASKS)
def test_what_was_written_is_read(form: str, tmp_path: Path) -> None:
    with open_writer(form, tmp_path / "out", LABELS) as writer:
        for name, class_map in PHOTOS.items():
            writer.add(name, class_map)
    found = read(form, tmp_path / "out", LABELS)
    assert found.keys() == PHOTOS.keys()
    for name, class_map in PHOTOS.items():
        assert np.array_equal(found[name], class_map), name
    written = {p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert written == {file for name in PHOTOS for file in WRITERS[form].files(tmp_path / "out", name)}


@pytest.mark.parametrize("form", MASKS)
def test_ids_of_16_bits(form: str, tmp_path: Path) -> None:
    class_map = np.array([[299, 299, 0], [65_535, 256, 255]], np.uint16)
    with open_writer(form, tmp_path, WIDE) as writer:
        writer.add("a.jpg", class_map)
    assert np.array_equal(read(form, tmp_path, WIDE)["a.jpg"], class_map)


@pytest.mark.parametrize("form", ["coco", "cvat"])
def test_large_maps_are_read_exactly(form: str, tmp_path: Path) -> None:
    class_map = blobs(4, 3, (90, 120))
    class_map[20:30, 40:70] = IGNORE
    with open_writer(form, tmp_path, LABELS) as writer:
        writer.add("a.jpg", class_map)
    assert np.array_equal(read(form, tmp_path, LABELS)["a.jpg"], class_map)


@pytest.mark.parametrize("form", MASKS)
def test_no_photos_are_a_whole_file_too(form: str, tmp_path: Path) -> None:
    with open_writer(form, tmp_path, LABELS):
        pass
    assert read(form, tmp_path, LABELS) == {}


def masks() -> list[NDArray[np.bool_]]:
    random = np.random.default_rng(0)
    shapes_ = [(1, 1), (1, 40), (40, 1), (7, 5), (64, 48), (300, 500)]
    return [random.random(shape) < share for shape in shapes_ for share in (0, 0.01, 0.5, 0.99, 1)]


def test_masks_are_encoded_as_by_pycocotools() -> None:
    labels = LabelMap.of_classes(("mask",), ((0, 0, 0),))
    long_runs = np.zeros((2_000, 2_000), bool)
    long_runs[1_999, 1_999] = long_runs[0, 0] = True
    for mask in [*masks(), long_runs, blobs(2, 5) == 1]:
        expected = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
        regions = find_regions(np.where(mask, 0, IGNORE).astype(np.uint8), labels)
        assert encode_regions(regions, mask.size) == [expected["counts"].decode()] * bool(mask.any())


def test_documented_example_of_cvats_run_lengths() -> None:
    documented = "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3"
    lengths = [int(length) for length in documented.split(",")]
    disc = np.repeat(np.arange(len(lengths)) % 2, lengths).astype(bool).reshape(15, 13)
    assert disc.sum(axis=1).tolist() == [5, 7, 9, 11, 11, 12, 12, 13, 13, 12, 12, 11, 9, 7, 5][:15]
    assert (np.diff(np.pad(disc, ((0, 0), (1, 1))).astype(int), axis=1) == 1).sum() == 15, "a row is one stroke"
    assert run_lengths(disc) == lengths


def test_annotations_of_coco_are_one_per_class_and_photo(tmp_path: Path) -> None:
    confidence = np.array([[102, 153, 0], [204, 255, 51]], np.uint8)
    with open_writer("coco", tmp_path, LABELS) as writer:
        writer.add("a.jpg", PHOTOS["a.jpg"], confidence)
        writer.add("one.jpg", PHOTOS["one.jpg"])
    value = json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))
    assert [(a["id"], a["image_id"], a["category_id"]) for a in value["annotations"]] == [
        (1, 1, 1),
        (2, 1, 2),
        (3, 2, 3),
    ]
    assert [a.get("score") for a in value["annotations"]] == [0.6, 0.1, None]
    assert value["images"][1] == {"id": 2, "file_name": "one.jpg", "width": 1, "height": 1}
    assert [(c["id"], c["name"]) for c in value["categories"]] == list(enumerate(NAMES, 1))
    assert [tuple(c["color"]) for c in value["categories"]] == list(LABELS.colors)


def test_labels_of_cvat(tmp_path: Path) -> None:
    with open_writer("cvat", tmp_path, LABELS) as writer:
        writer.add("bad \x00\x1b\udcff\n.jpg", PHOTOS["one.jpg"])
    root = ElementTree.parse(tmp_path / "annotations.xml").getroot()
    assert [e.text for e in root.findall("meta/task/labels/label/name")] == list(NAMES)
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/size") == "1"
    assert root.find("image").attrib["name"] == "bad \ufffd\ufffd\ufffd\n.jpg"  # type: ignore[union-attr]
    raw = json.loads((tmp_path / "cvat_labels.json").read_text(encoding="utf-8"))
    assert raw == raw_labels(LABELS)
    assert raw[0] == {"name": "sky", "color": "#800000", "type": "mask", "attributes": []}


@pytest.mark.parametrize(
    "class_map",
    [np.pad(draw_scene(0)[1], 20, constant_values=2), blobs(6, 30), blobs(27, 30), blobs(3, 10)],
    ids=["scene", "6 classes", "27 classes", "rough"],
)
def test_polygons_of_labelme_are_nearly_the_mask(class_map: NDArray[np.uint8]) -> None:
    labels = LabelMap.prototypes(27)
    class_map[100:110, 60:90] = IGNORE
    polygons = shapes(class_map, labels)
    assert (drawn(polygons, class_map.shape, labels) == class_map).mean() >= 0.99
    exact = shapes(class_map, labels, tolerance=0)
    assert np.array_equal(drawn(exact, class_map.shape, labels), class_map)
    assert sum(len(p["points"]) for p in polygons) < 0.8 * sum(len(p["points"]) for p in exact)


def test_exact_polygons_of_noise() -> None:
    random = np.random.default_rng(0)
    labels = LabelMap.prototypes(3)
    for _ in range(100):
        class_map = random.choice(np.array([0, 1, 2, IGNORE], np.uint8), random.integers(1, 20, 2))
        polygons = shapes(class_map, labels, tolerance=0)
        assert np.array_equal(drawn(polygons, class_map.shape, labels), class_map)


def test_ignored_pixels_are_a_shape_only_inside_another() -> None:
    class_map = np.zeros((20, 20), np.uint8)
    class_map[:, :3] = IGNORE
    assert [p["label"] for p in shapes(class_map, LABELS)] == ["sky"]
    class_map[8:12, 8:12] = IGNORE
    class_map[9, 9] = 1
    assert [p["label"] for p in shapes(class_map, LABELS)] == ["sky", IGNORED, NAMES[1]]


def test_labelme_finds_the_photo(tmp_path: Path) -> None:
    with open_writer("labelme", tmp_path / "out", LABELS) as writer:
        writer.add("deep/a.jpg", PHOTOS["a.jpg"], photo=tmp_path / "photos" / "deep" / "a.jpg")
        with pytest.raises(DataError, match=r"would both become deep/a\.json"):
            writer.add("deep/a.png", PHOTOS["a.jpg"])
    value = json.loads((tmp_path / "out" / "deep" / "a.json").read_text())
    assert value["imagePath"] == "../../photos/deep/a.jpg"
    assert value["imageData"] is None


def test_summary() -> None:
    confidence = np.array([[102, 153, 0], [204, 255, 51]], np.uint8)
    assert image_summary("a.jpg", PHOTOS["a.jpg"], LABELS, confidence) == {
        "file": "a.jpg",
        "width": 3,
        "height": 2,
        "classes": [
            {"id": 0, "name": "sky", "color": [128, 0, 0], "pixels": 3, "share": 0.5, "mean_confidence": 0.6},
            {"id": 1, "name": NAMES[1], "color": [0, 128, 0], "pixels": 2, "share": 0.333333, "mean_confidence": 0.1},
        ],
        "ignored_pixels": 1,
    }
    summary = image_summary("one.jpg", PHOTOS["one.jpg"], LABELS)
    assert [c["mean_confidence"] for c in summary["classes"]] == [None]
    assert image_summary("void.jpg", PHOTOS["void.jpg"], LABELS)["classes"] == []
    assert json.loads(json.dumps(summary)) == summary


def test_confidence_is_the_mean_over_all_bands_of_rows() -> None:
    rng = np.random.default_rng(0)
    class_map = rng.integers(0, 3, (2 * BAND + 5, 7), np.uint8)
    confidence = rng.integers(0, 256, class_map.shape, np.uint8)
    for region in find_regions(class_map, LABELS, confidence):
        expected = confidence[class_map == region.class_id].mean() / 255
        assert region.confidence == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("class_map", "confidence", "message"),
    [
        (np.array([[4]], np.uint8), None, "a.jpg holds id 4; expected 0 to 3 or 255"),
        (np.zeros((0, 3), np.uint8), None, "of shape"),
        (np.zeros((2, 2, 3), np.uint8), None, "of shape"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), "confidence map of a.jpg is of shape"),
    ],
)
@pytest.mark.parametrize("form", MASKS)
def test_maps_that_do_not_fit_are_refused_and_the_others_kept(
    form: str, class_map: NDArray[np.uint8], confidence: NDArray[np.uint8] | None, message: str, tmp_path: Path
) -> None:
    with open_writer(form, tmp_path, LABELS) as writer:
        with pytest.raises(DataError, match=message):
            writer.add("a.jpg", class_map, confidence)
        writer.add("one.jpg", PHOTOS["one.jpg"])
    assert read(form, tmp_path, LABELS).keys() == {"one.jpg"}


@pytest.mark.parametrize("form", ["coco", "cvat"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_an_interruption_leaves_the_earlier_file(form: str, error: type[BaseException], tmp_path: Path) -> None:
    with open_writer(form, tmp_path, LABELS) as writer:
        writer.add("a.jpg", PHOTOS["a.jpg"])
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def interrupted() -> None:
        with open_writer(form, tmp_path, WIDE) as writer:
            writer.add("one.jpg", PHOTOS["one.jpg"])
            raise error

    with pytest.raises(error):
        interrupted()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_closing_twice_writes_once(tmp_path: Path) -> None:
    with open_writer("coco", tmp_path, LABELS) as writer:
        writer.add("a.jpg", PHOTOS["a.jpg"])
        writer.close()
        (tmp_path / "annotations.json").unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", WRITERS)
def test_an_unwritable_folder_is_one_sentence(form: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), open_writer(form, tmp_path / "file", LABELS) as writer:
        writer.add("a.jpg", PHOTOS["a.jpg"])


def test_an_unknown_format_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of coco, cvat, labelme"):
        open_writer("voc", tmp_path, LABELS)


PEAK = """
import os, sys, tracemalloc
from pathlib import Path
import numpy as np
from slotseg.painting.annotations import open_writer
from slotseg.labels.label_map import LabelMap

os.fsync = lambda _: None  # thousands of files
class_map = np.zeros((64, 64), np.uint8)
class_map[20:, 20:] = 1
tracemalloc.start()
with open_writer(sys.argv[1], Path(sys.argv[2]), LabelMap.prototypes(4)) as writer:
    for i in range(int(sys.argv[3])):
        writer.add(f"{i}.jpg", class_map.copy())
print(tracemalloc.get_traced_memory()[1])
"""
"""Prints the most memory, bytes, that a writer takes; in a process of its own, as all of a process counts."""


@pytest.mark.parametrize("form", WRITERS)
def test_memory_does_not_grow_with_the_photos(form: str, tmp_path: Path) -> None:
    def peak(num_photos: int) -> int:
        command = [sys.executable, "-c", PEAK, form, str(tmp_path / str(num_photos)), str(num_photos)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    few, many = peak(20), peak(2_000)
    assert many - few < 2_000_000  # the maps are 8 MB; the names that labelme's writer keeps are less than one
