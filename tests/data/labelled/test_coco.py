"""COCO's annotation files: the same synthetic truth as PNGs, as JSON and as panoptic gives the same labels."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_tools

from slotseg.data.labelled.benchmarks import open_set
from slotseg.data.labelled.coco import AnnotationFile, CocoAnnotations, PanopticAnnotations, check_not_shifted
from slotseg.data.labelled.label_sources import LabelFiles
from slotseg.data.labelled.taxonomy import load_taxonomy
from slotseg.errors import DataError, LabelError

KEYS = ["000000000007", "000000000012"]
SIZE = (40, 60)


def truth(index):
    """COCO-Stuff ids - 1 of a photo: sky above, grass below, a person behind a bird, a void corner."""
    label_map = np.full(SIZE, 156, np.uint8)
    label_map[20:] = 123
    label_map[0:4, 0:4] = 255
    label_map[10:30, 10 + index : 30 + index] = 0
    label_map[15:25, 25:45] = 15
    return label_map


def encoded(mask):
    run_lengths = mask_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": run_lengths["size"], "counts": run_lengths["counts"].decode()}


def annotation(label_map, value, image_id, identifier, **more):
    mask = label_map == value
    return {
        "id": identifier,
        "image_id": image_id,
        "category_id": value + 1,
        "segmentation": encoded(mask),
        "area": int(mask.sum()),
        "iscrowd": 0,
        **more,
    }


def write_json(path, annotations):
    path.parent.mkdir(exist_ok=True)
    images = [{"id": int(k), "height": SIZE[0], "width": SIZE[1], "file_name": f"{k}.jpg"} for k in KEYS]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))


@pytest.fixture
def coco(tmp_path):
    """Two photos with stuff PNGs, stuff + instances JSON and panoptic files of one truth."""
    for folder in ("val2017", "stuffthingmaps/val2017", "panoptic_val2017"):
        (tmp_path / folder).mkdir(parents=True)
    stuff, instances, panoptic = [], [], []
    for index, key in enumerate(KEYS):
        label_map = truth(index)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "val2017" / f"{key}.jpg")
        Image.fromarray(label_map).save(tmp_path / "stuffthingmaps" / "val2017" / f"{key}.png")
        other = np.where((label_map < 91), 182, label_map)  # category 183: "other", where things are
        for value in (123, 156, 182):
            stuff.append(annotation(other, value, int(key), len(stuff)))
        for value in (0, 15):
            instances.append(annotation(label_map, value, int(key), len(instances)))
        segments = {0: 1, 15: 16, 123: 193, 156: 187}  # grass-merged and sky-other-merged
        ids = np.zeros((*SIZE, 3), np.uint8)
        info = []
        for number, (value, category) in enumerate(segments.items()):
            segment = (number + 1) * 70_001
            ids[label_map == value] = (segment % 256, segment // 256 % 256, segment // 65_536)
            info.append({"id": segment, "category_id": category, "iscrowd": 0})
        Image.fromarray(ids).save(tmp_path / "panoptic_val2017" / f"{key}.png")
        panoptic.append({"file_name": f"{key}.png", "image_id": int(key), "segments_info": info})
    write_json(tmp_path / "annotations" / "stuff_val2017.json", stuff)
    write_json(tmp_path / "annotations" / "instances_val2017.json", instances)
    (tmp_path / "annotations" / "panoptic_val2017.json").write_text(json.dumps({"annotations": panoptic}))
    return tmp_path


def test_json_gives_the_same_label_maps_as_pngs(coco):
    pngs = open_set("cocostuff27", coco)
    for path in (coco / "stuffthingmaps").rglob("*.png"):
        path.unlink()
    annotations = open_set("cocostuff27", coco)
    assert "stuff_val2017.json + instances_val2017.json" in annotations.labels
    for index, key in enumerate(KEYS):
        assert np.array_equal(annotations.source.read(key), truth(index))
        assert np.array_equal(
            annotations.read(index).class_map, load_taxonomy("cocostuff27").class_map(truth(index), "")
        )
    assert [k for k, _ in pngs.photos] == [k for k, _ in annotations.photos] == KEYS


def test_panoptic_gives_the_same_coarse_classes(coco):
    panoptic = open_set("cocopanoptic27", coco)
    for index in range(2):
        expected = load_taxonomy("cocostuff27").class_map(truth(index), "")
        assert np.array_equal(panoptic.read(index).class_map, expected)


def test_polygons_and_run_lengths_are_rasterised(tmp_path):
    square = [10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]
    runs = {"size": list(SIZE), "counts": [40 * 50, 400]}  # the last ten columns
    write_json(
        tmp_path / "i.json",
        [
            {"image_id": 7, "category_id": 1, "segmentation": [square], "area": 200, "iscrowd": 0},
            {"image_id": 7, "category_id": 3, "segmentation": runs, "area": 400, "iscrowd": 1},
        ],
    )
    label_map = CocoAnnotations(None, tmp_path / "i.json").read(KEYS[0])
    assert (label_map[10:20, 10:30] == 0).all()
    assert (label_map[:, 50:] == 2).all()
    assert (label_map == 255).sum() == 40 * 60 - 200 - 400
    assert (CocoAnnotations(None, tmp_path / "i.json").read(KEYS[1]) == 255).all()  # a photo without annotation


def test_small_things_lie_on_large_ones_and_crowds_below(tmp_path):
    whole, small = np.ones(SIZE, bool), np.zeros(SIZE, bool)
    small[:5, :5] = True
    crowd = {"image_id": 7, "category_id": 1, "segmentation": encoded(small), "area": 1, "iscrowd": 1}
    large = {"image_id": 7, "category_id": 2, "segmentation": encoded(whole), "area": 2400, "iscrowd": 0}
    tiny = {"image_id": 7, "category_id": 3, "segmentation": encoded(small), "area": 25, "iscrowd": 0}
    for order in ([crowd, large, tiny], [tiny, large, crowd]):
        write_json(tmp_path / "i.json", order)
        label_map = CocoAnnotations(None, tmp_path / "i.json").read(KEYS[0])
        assert (label_map[:5, :5] == 2).all()
        assert (label_map[5:] == 1).all()


@pytest.mark.parametrize("remove", ["bottle", "everything but person"])
def test_a_map_that_counts_from_one_is_refused_on_opening(coco, remove):
    """Also where no id betrays it: only the instance annotations can."""
    for index, key in enumerate(KEYS):
        shifted = truth(index) + np.uint8(1)  # 255 becomes 0, as in that encoding
        if remove != "bottle":
            shifted[shifted > 1] = 0
        Image.fromarray(shifted).save(coco / "stuffthingmaps" / "val2017" / f"{key}.png")
    with pytest.raises(LabelError, match=r"val2017/\*.png is shifted by one.*255 for unlabelled"):
        open_set("cocostuff27", coco)


def test_the_check_passes_genuine_maps_and_needs_the_annotations(coco):
    source = LabelFiles(folder=coco / "stuffthingmaps" / "val2017", keys=())
    check_not_shifted(source, coco / "annotations" / "instances_val2017.json", KEYS)
    check_not_shifted(source, coco / "annotations" / "gone.json", KEYS)


def test_annotations_of_another_size_than_the_label_map(coco):
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(coco / "stuffthingmaps" / "val2017" / f"{KEYS[0]}.png")
    with pytest.raises(LabelError, match="is 10 x 10 and its photo 60 x 40"):
        open_set("cocostuff27", coco)


def test_a_segment_that_the_json_does_not_list(coco):
    path = coco / "annotations" / "panoptic_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segments_info"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=r"000000000007.png has the segment 280004, which .* does not list"):
        open_set("cocopanoptic27", coco).read(0)


def test_photos_without_annotations_are_counted(coco):
    path = coco / "annotations" / "panoptic_val2017.json"
    path.write_text(json.dumps({"annotations": []}))
    with pytest.raises(DataError, match=r"2 label maps of cocopanoptic27 .*000000000007.png, .*000000000012.png"):
        open_set("cocopanoptic27", coco)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"images": []}', '{"images": 3, "annotations": []}'])
def test_a_damaged_json_is_one_sentence(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json"):
        AnnotationFile(tmp_path / "x.json")
    if "annotations" not in content:
        with pytest.raises(DataError, match=r"x\.json"):
            PanopticAnnotations(tmp_path / "x.json", tmp_path)


def test_a_photo_without_a_number(coco):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(coco / "val2017" / "holiday.jpg")
    for path in (coco / "stuffthingmaps").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="holiday has no number"):
        open_set("cocostuff27", coco)
