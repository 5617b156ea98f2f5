"""Sets in the layouts that people have on disk, made small; what is missing is said at once."""

import numpy as np
import pytest
from PIL import Image

from slotseg.data.labelled.benchmarks import SETS, open_set
from slotseg.data.labelled.taxonomy import load_taxonomy, taxonomies
from slotseg.errors import DataError, LabelError

SIZE = (24, 36)


def photo(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def labels(path, *values, size=SIZE):
    """Stripes of the given ids, or of the given colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = np.array(values, np.uint8)[np.arange(size[0]) * len(values) // size[0]]
    Image.fromarray(np.repeat(stripes[:, None], size[1], axis=1)).save(path)


def make(root, photos, maps, *values):
    """A photo and a label map for each pair of file names."""
    for photo_name, map_name in zip(photos, maps, strict=True):
        photo(root / photo_name)
        labels(root / map_name, *values)


def classes(dataset, index=0):
    return dataset.read(index).class_map[:, 0].tolist()[:: SIZE[0] // 4]


COCO = ["000000000139", "000000000285"]
COCO_LAYOUTS = {
    "val2017/{}.jpg": ["stuffthingmaps/val2017/{}.png", "annotations/val2017/{}.png", "val2017/{}.png"],
    "images/val2017/{}.jpg": ["annotations/val2017/{}.png", "stuffthingmaps/val2017/{}.png", "images/val2017/{}.png"],
}


@pytest.mark.parametrize("name", ["cocostuff27", "cocostuff15", "cocostuff171"])
@pytest.mark.parametrize(("photos", "maps"), [(p, m) for p, ms in COCO_LAYOUTS.items() for m in ms])
def test_every_png_layout_of_coco(tmp_path, name, photos, maps):
    make(tmp_path, [photos.format(k) for k in COCO], [maps.format(k) for k in COCO], 0, 123, 255, 156)
    dataset = open_set(name, tmp_path)
    assert [key for key, _ in dataset.photos] == COCO
    taxonomy = load_taxonomy(name)
    expected = taxonomy.class_map(np.array([0, 123, 255, 156]), "").tolist()
    assert classes(dataset) == expected
    assert dataset.labels == f"{maps.split('/')[-2]}/*.png"
    assert dataset.read(1).size_hw == SIZE


def test_label_maps_beside_photos_do_not_become_photos(tmp_path):
    make(tmp_path, ["val2017/1.jpg"], ["val2017/1.png"], 0)
    assert len(open_set("cocostuff27", tmp_path)) == 1


GENUINE = {
    "voc": (
        ["JPEGImages/2007_000033.jpg", "JPEGImages/2007_000042.jpg"],
        ["SegmentationClass/2007_000033.png", "SegmentationClass/2007_000042.png"],
        [0, 1, 255, 20],
        [0, 1, 255, 20],
    ),
    "ade20k": (
        ["images/validation/ADE_val_00000001.jpg"],
        ["annotations/validation/ADE_val_00000001.png"],
        [0, 1, 2, 150],
        [255, 0, 1, 149],
    ),
    "cityscapes27": (
        ["leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png"],
        ["gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png"],
        [3, 7, 23, 33],
        [255, 0, 16, 26],
    ),
    "cityscapes19": (
        ["leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png"],
        ["gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png"],
        [9, 7, 23, 33],
        [255, 0, 10, 18],
    ),
    "camvid": (["val/0016E5_07959.png"], ["valannot/0016E5_07959.png"], [0, 3, 11, 10], [0, 3, 255, 10]),
    "msrc": (["images/dev/10_10_s.jpg"], ["labels/dev/10_10_s.png"], [0, 4, 255, 22], [0, 4, 255, 22]),
    "msrc21": (["images/10_10_s.png"], ["labels/10_10_s.png"], [0, 4, 7, 22], [0, 255, 255, 20]),
    "potsdam3": (["images/a.tif"], ["labels/a.png"], [0, 1, 4, 3], [0, 1, 0, 2]),
}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_layouts(tmp_path, name):
    photos, maps, ids, expected = GENUINE[name]
    make(tmp_path, photos, maps, *ids)
    if name == "voc":
        (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000042\n")
    dataset = open_set(name, tmp_path)
    assert len(dataset) == 1
    assert classes(dataset) == expected
    assert dataset.split == SETS[name].split


def test_cityscapes_keys_are_without_their_suffix(tmp_path):
    photos, maps, ids, _ = GENUINE["cityscapes27"]
    make(tmp_path, photos, maps, *ids)
    assert open_set("cityscapes27", tmp_path).photos[0][0] == "frankfurt/frankfurt_000000_000294"


@pytest.mark.parametrize(
    ("name", "photo_name", "map_name", "colors", "expected"),
    [
        ("msrc", "Images/1_1_s.bmp", "GroundTruth/1_1_s_GT.bmp",
         [(0, 0, 0), (128, 0, 0), (128, 64, 128), (192, 64, 0)], [255, 0, 18, 22]),
        ("potsdam3", "2_Ortho_RGB/top_potsdam_2_10_RGB.tif", "5_Labels_all/top_potsdam_2_10_label.tif",
         [(255, 255, 255), (255, 0, 0), (0, 255, 255), (255, 255, 0)], [0, 1, 2, 0]),
    ],
)  # fmt: skip
def test_label_maps_in_colour(tmp_path, name, photo_name, map_name, colors, expected):
    make(tmp_path, [photo_name], [map_name], *colors)
    assert classes(open_set(name, tmp_path)) == expected
    labels(tmp_path / map_name, (1, 2, 3), *colors)
    with pytest.raises(LabelError, match=r"has the colour \(1, 2, 3\), which is no class"):
        open_set(name, tmp_path).read(0)


def test_voc_in_the_colours_of_its_palette(tmp_path):
    photos, maps, *_ = GENUINE["voc"]
    make(tmp_path, photos, maps, (0, 0, 0), (128, 0, 0), (224, 224, 192), (0, 64, 128))
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000033\n2007_000042\n")
    labels(tmp_path / maps[0], (0, 0, 0))  # black alone could be background or the number 0 of another class
    dataset = open_set("voc", tmp_path)
    assert (classes(dataset, 0), classes(dataset, 1)) == ([0] * 4, [0, 1, 255, 20])


CITY = "{}/val/ulm/ulm_000000_000019_{}.png"


def test_cityscapes_by_train_ids(tmp_path):
    photo_name = CITY.format("leftImg8bit", "leftImg8bit")
    make(tmp_path, [photo_name], [CITY.format("gtFine", "gtFine_labelTrainIds")], 0, 10, 255, 18)
    dataset = open_set("cityscapes19", tmp_path)
    assert (classes(dataset), dataset.labels) == ([0, 10, 255, 18], "val/*_gtFine_labelTrainIds.png, train ids")
    with pytest.raises(DataError, match=r"alone: train ids have 19 of the 27 classes; .*cityscapes19"):
        open_set("cityscapes27", tmp_path)
    labels(tmp_path / CITY.format("gtFine", "gtFine_labelTrainIds"), 7, 11, 23, 26)
    with pytest.raises(LabelError, match=r"labelTrainIds\.png holds the id 23, which is no train id; expected 0 to 18"):
        open_set("cityscapes19", tmp_path).read(0)
    labels(tmp_path / CITY.format("gtFine", "gtFine_labelIds"), 7, 23, 0, 33)
    assert classes(open_set("cityscapes19", tmp_path)) == [0, 10, 255, 18], "label ids go before train ids"
    assert classes(open_set("cityscapes27", tmp_path)) == [0, 16, 255, 26]


@pytest.mark.parametrize("name", ["cocostuff27", "cocostuff15", "cocostuff171"])
def test_coco_by_train_ids(tmp_path, name):
    """The 171 ids that occur, renumbered without gaps: 11 stands for 12, and 170 for 181."""
    photos = [f"val2017/{k}.jpg" for k in COCO]
    make(tmp_path, photos, [f"annotations/val2017/{k}_labelTrainIds.png" for k in COCO], 0, 11, 255, 170)
    dataset = open_set(name, tmp_path)
    taxonomy = load_taxonomy(name)
    assert classes(dataset) == taxonomy.class_map(np.array([0, 12, 255, 181]), "").tolist()
    assert dataset.labels == "val2017/*_labelTrainIds.png, train ids"
    make(tmp_path, photos, [f"annotations/val2017/{k}.png" for k in COCO], 0, 12, 255, 180)
    assert classes(open_set(name, tmp_path)) == taxonomy.class_map(np.array([0, 12, 255, 180]), "").tolist()


def test_voc_below_its_devkit(tmp_path):
    photos, maps, ids, _ = GENUINE["voc"]
    root = tmp_path / "VOCdevkit" / "VOC2012"
    make(root, photos, maps, *ids)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_000033\n2007_000042\n")
    assert len(open_set("voc", tmp_path, split="train")) == 2
    with pytest.raises(DataError, match=r"val\.txt \(missing\)\n.*the same below VOC2012 or VOCdevkit/VOC2012"):
        open_set("voc", tmp_path)


def test_splits_of_a_set_that_has_none_are_folders(tmp_path):
    photos, maps, ids, _ = GENUINE["msrc"]
    make(tmp_path, photos, maps, *ids)
    dataset = open_set("msrc", tmp_path, split="dev")
    assert (dataset.photos[0][0], dataset.split) == ("10_10_s", "dev")


def test_everything_that_is_missing_is_said_at_once(tmp_path):
    photo(tmp_path / "val2017" / f"{COCO[0]}.jpg")
    with pytest.raises(DataError) as error:
        open_set("cocostuff27", tmp_path)
    message = str(error.value)
    assert "cocostuff27 val2017 is not in" in message
    assert "  val2017/*.jpg, stuffthingmaps/val2017/*.png (missing)\n" in message
    assert "images/val2017/*.jpg (missing), annotations/val2017/*.png (missing)\n" in message
    assert "annotations/stuff_val2017.json (missing), annotations/instances_val2017.json (missing)" in message
    with pytest.raises(DataError, match="nowhere is not a folder"):
        open_set("voc", tmp_path / "nowhere")


def test_photos_without_label_map_are_counted(tmp_path):
    make(tmp_path, ["val2017/1.jpg"], ["stuffthingmaps/val2017/1.png"], 0)
    for i in range(2, 7):
        photo(tmp_path / "val2017" / f"{i}.jpg")
    with pytest.raises(DataError, match=r"5 label maps .*val2017.2\.png, .*3\.png, .*4\.png, \.\.\.; expected all"):
        open_set("cocostuff27", tmp_path)
    assert len(open_set("cocostuff27", tmp_path, limit=1)) == 6
    with pytest.raises(DataError, match="1 label maps"):
        open_set("cocostuff27", tmp_path, limit=2)
    with pytest.raises(DataError, match="5 label maps"):
        open_set("cocostuff27", tmp_path, curated=True, limit=1)


def test_an_image_list_replaces_all_and_its_absent_photos_are_counted(tmp_path):
    make(tmp_path, [f"val2017/{k}.jpg" for k in COCO], [f"stuffthingmaps/val2017/{k}.png" for k in COCO], 0)
    listing = tmp_path / "mine.txt"
    listing.write_text(f"{COCO[1]}.jpg\n\n")
    dataset = open_set("cocostuff27", tmp_path, curated=True, image_list=listing)
    assert [k for k, _ in dataset.photos] == [COCO[1]]
    assert dataset.image_list.name == str(listing)
    listing.write_text("\n".join([*COCO, "000000000001", "000000000002"]))
    absent = r"2 photos of cocostuff27 \(.*mine\.txt images\) are absent: 0+1, 0+2; .*, which are called 0\d+ and so on"
    with pytest.raises(DataError, match=absent):
        open_set("cocostuff27", tmp_path, image_list=listing)


def test_a_shifted_map_is_refused_when_it_is_read(tmp_path):
    make(tmp_path, ["val2017/1.jpg"], ["stuffthingmaps/val2017/1.png"], 1, 44)  # a person and a bottle, from 1
    with pytest.raises(LabelError, match=r"1\.png holds the id 44, which no label map of cocostuff27 does"):
        open_set("cocostuff27", tmp_path).read(0)


def test_every_set_has_a_taxonomy_and_every_taxonomy_a_set():
    assert {s.taxonomy for s in SETS.values()} == set(taxonomies())
