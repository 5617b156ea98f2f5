"""Labels as people have them: which file is a photo's, what its numbers or colours mean, and what is not sure."""

import json

import numpy as np
import pytest
from PIL import Image

from slotseg.data.labelled.labelled import labelled_folder
from slotseg.errors import DataError, LabelError

MAPS = {
    "a": np.array([[0, 0, 1], [2, 2, 2]], np.uint8),
    "deep/b": np.array([[1, 1, 1], [0, 2, 0]], np.uint8),
    "deep/c.d": np.array([[0, 0, 0], [0, 0, 0]], np.uint8),
}
NAMES = ["sky", "tree", "road"]
COLORS = [[0, 0, 255], [0, 255, 0], [255, 0, 0]]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)


def made(folder, convert=lambda ids: ids, end=".png", classes=None):
    """Photos, and label maps of ``MAPS`` in another form; ``end`` may differ by key."""
    for key, ids in MAPS.items():
        save(folder / "images" / f"{key}.jpg", np.full((2, 3, 3), 90, np.uint8))
        save(folder / "labels" / f"{key}{end[key] if isinstance(end, dict) else end}", convert(ids))
    (folder / "labels" / "classes.json").write_text(json.dumps({"names": NAMES} if classes is None else classes))
    return folder


def opened(folder):
    return labelled_folder(folder / "images", folder / "labels")


def class_maps(dataset):
    return {key: dataset.read(i).class_map.tolist() for i, (key, _) in enumerate(dataset.photos)}


def expected(void=None):
    return {key: np.where(ids == void, 255, ids).tolist() for key, ids in MAPS.items()}


# which file


@pytest.mark.parametrize(
    "end",
    [".tif", ".TIFF", ".PNG", ".npy", ".bmp", "_mask.png", "_labelIds.png", "_labelTrainIds.png", "-label.tif",
     ".jpg.png", ".mask.png", "_GT.bmp", "_ground_truth.PNG"],
)  # fmt: skip
def test_every_end_of_the_names(tmp_path, end):
    dataset = opened(made(tmp_path, end=end))
    assert class_maps(dataset) == expected()
    assert dataset.labels == f"labels/*{end}"


def test_a_png_of_the_photos_name_goes_before_all_others(tmp_path):
    made(tmp_path, lambda ids: 2 - ids, end="_labelIds.png")
    dataset = opened(made(tmp_path))
    assert (class_maps(dataset), dataset.labels) == (expected(), "labels/*.png")


def test_several_files_of_a_photo_are_not_sure(tmp_path):
    made(tmp_path, end="_mask.png")
    made(tmp_path, end=".tif")
    with pytest.raises(DataError, match=r"a has several label maps in .*labels: a\.tif and a_mask\.png; expected one"):
        opened(tmp_path)


def test_a_png_of_the_photos_name_goes_before_one_with_its_suffix(tmp_path):
    made(tmp_path, lambda ids: 2 - ids, end=".jpg.png")
    assert class_maps(opened(tmp_path))["a"] == (2 - MAPS["a"]).tolist()
    made(tmp_path)
    (tmp_path / "labels" / "deep" / "c.d.png").unlink()
    assert class_maps(opened(tmp_path)) == {**expected(), "deep/c.d": [[2] * 3] * 2}


@pytest.mark.parametrize(("photo", "label"), [("\u00e9", "e\u0301"), ("e\u0301", "\u00e9")])
def test_names_of_another_form_of_unicode(tmp_path, photo, label):
    """Of photos, label maps, and the list of the photos to score."""
    save(tmp_path / "images" / photo / f"{photo}.jpg", np.full((2, 3, 3), 90, np.uint8))
    save(tmp_path / "labels" / label / f"{label}_mask.png", MAPS["a"])
    (tmp_path / "labels" / "classes.json").write_text(json.dumps({"names": NAMES}))
    (tmp_path / "list.txt").write_text(f"{label}/{label}.jpg", encoding="utf-8")
    dataset = labelled_folder(tmp_path / "images", tmp_path / "labels", image_list=tmp_path / "list.txt")
    assert class_maps(dataset) == {"\u00e9/\u00e9": MAPS["a"].tolist()}
    assert dataset.labels == "labels/*_mask.png"


def test_labels_of_some_photos(tmp_path):
    made(tmp_path)
    (tmp_path / "labels" / "deep" / "c.d.png").unlink()
    with pytest.raises(
        DataError, match=r"1 of 3 label maps .* deep/c\.d\.png; .*, or --image-list with the photos that have"
    ):
        opened(tmp_path)
    (tmp_path / "list.txt").write_text("deep/b.jpg\na\n")
    folders = (tmp_path / "images", tmp_path / "labels")
    listed = labelled_folder(*folders, image_list=tmp_path / "list.txt")
    assert list(class_maps(listed)) == ["deep/b", "a"]
    first = labelled_folder(*folders, limit=2)
    assert [first.read(i).class_map.tolist() for i in range(2)] == [MAPS["a"].tolist(), MAPS["deep/b"].tolist()]
    (tmp_path / "list.txt").write_text("deep/b\nnowhere\n")
    with pytest.raises(
        DataError, match=r"1 photos of folder \(.*list\.txt images\) are absent: nowhere; .*called a and so"
    ):
        labelled_folder(*folders, image_list=tmp_path / "list.txt")


def test_files_that_end_in_different_ways_are_not_sure(tmp_path):
    made(tmp_path, end={"a": ".png", "deep/b": ".png", "deep/c.d": "_pred.png"})
    with pytest.raises(DataError, match=r"label maps in .* end in different ways: a\.png and deep/c\.d_pred\.png"):
        opened(tmp_path)


def test_files_of_other_photos_are_never_taken(tmp_path):
    made(tmp_path)
    (tmp_path / "labels" / "a.png").rename(tmp_path / "labels" / "a.0002.png")
    with pytest.raises(
        DataError, match=r"1 of 3 label maps are missing in .*, the first is a\.png; there is a\.0002\.png"
    ):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("end", "there"),
    [(".xyz.png", r"there is a\.xyz\.png"), ("_color.png", r"there is a_color\.png"), ("x.png", r"there is ax\.png")],
)
def test_what_is_there_and_what_was_expected(tmp_path, end, there):
    made(tmp_path, end=end)
    message = (
        rf"3 of 3 label maps are missing in .*labels, the first is a\.png; {there}; expected .* an indexed or grey"
    )
    with pytest.raises(DataError, match=message):
        opened(tmp_path)
    (tmp_path / "labels" / f"a{end}").unlink()
    with pytest.raises(DataError, match=r"; there is classes\.json; expected"):
        opened(tmp_path)


def test_a_jpeg_is_refused_for_what_it_is(tmp_path):
    with pytest.raises(LabelError, match=r"labels.a\.jpg is a JPEG file, but a label map must keep its ids exactly"):
        opened(made(tmp_path, end=".jpg")).read(0)


def test_photos_and_label_maps_in_one_folder(tmp_path):
    for key, ids in MAPS.items():
        save(tmp_path / f"{key}.png", np.full((2, 3), 1, np.uint8))  # a grey photo is not its own label map
        save(tmp_path / f"{key}_mask.png", ids)
    (tmp_path / "classes.json").write_text(json.dumps({"names": NAMES}))
    assert class_maps(labelled_folder(tmp_path, tmp_path)) == expected()
    for key in MAPS:
        (tmp_path / f"{key}_mask.png").unlink()
    with pytest.raises(DataError, match="3 of 3 label maps are missing"):
        labelled_folder(tmp_path, tmp_path)


@pytest.mark.parametrize(("photo", "label"), [(".jpg", ".png"), (".JPG", ".tif"), (".webp", ".PNG")])
def test_label_maps_of_the_photos_names_in_one_folder(tmp_path, photo, label):
    """Of two files that differ in their suffix, a lossy one can be no label map."""
    for key, ids in MAPS.items():
        save(tmp_path / f"{key}{photo}", np.full((2, 3, 3), 90, np.uint8))
        save(tmp_path / f"{key}{label}", ids)
    (tmp_path / "classes.json").write_text(json.dumps({"names": NAMES}))
    assert class_maps(labelled_folder(tmp_path, tmp_path)) == expected()


def test_label_maps_in_a_folder_among_the_photos_are_no_photos(tmp_path):
    made(tmp_path)
    (tmp_path / "labels").rename(tmp_path / "images" / "labels")
    dataset = labelled_folder(tmp_path / "images", tmp_path / "images" / "labels")
    assert class_maps(dataset) == expected()
    (tmp_path / "link").symlink_to(tmp_path / "images" / "labels")
    assert class_maps(labelled_folder(tmp_path / "images", tmp_path / "link")) == expected()


def test_two_photos_of_one_name_may_be_a_photo_and_its_label_map(tmp_path):
    made(tmp_path)
    save(tmp_path / "images" / "a.png", MAPS["a"])
    advice = r"the first is a\.jpg\.png; .*; two photos are called a: if one is a label map, move it"
    with pytest.raises(DataError, match=advice):
        opened(tmp_path)


# what numbers mean


def test_ids_with_gaps(tmp_path):
    ids = np.array([7, 11, 26], np.uint8)
    for classes in ({"names": NAMES, "ids": [7, 11, 26]}, {"names": {"7": "sky", "11": "tree", "26": "road"}}):
        dataset = opened(made(tmp_path, lambda label: ids[label], classes=classes))
        assert (dataset.taxonomy.names, class_maps(dataset)) == (tuple(NAMES), expected())
    made(tmp_path, lambda label: ids[label])
    message = (
        r"a\.png holds the id 7, which .*; expected value = class id \(0\.\.2\) or void \(255, 65535\); \"ids\" in "
        r"classes\.json may name others, such as \"ids\": \[7, 11, 26\] for those of this file$"
    )
    with pytest.raises(LabelError, match=message):
        opened(tmp_path).read(0)


@pytest.mark.parametrize("numbers", [[0, 128, 255], [1, 2, 3], [0, 127, 254]])
def test_numbers_that_may_be_the_classes_in_their_order(tmp_path, numbers):
    made(tmp_path, lambda label: np.array(numbers, np.uint8)[label])
    example = ", ".join(map(str, numbers))
    with pytest.raises(LabelError, match=rf'such as "ids": \[{example}\] for those of this file'):
        opened(tmp_path).read(0)
    dataset = opened(
        made(tmp_path, lambda label: np.array(numbers, np.uint8)[label], classes={"names": NAMES, "ids": numbers})
    )
    assert class_maps(dataset) == expected()
    made(tmp_path, lambda label: np.array([0, 9, 0], np.uint8)[label])
    with pytest.raises(LabelError, match=r'"ids" in classes\.json may name others$'):
        opened(tmp_path).read(0)


def test_several_ids_of_a_class(tmp_path):
    dataset = opened(made(tmp_path, classes={"names": ["above", "road"], "ids": [[0, 1], 2]}))
    assert class_maps(dataset)["a"] == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_ignored_is_no_class_wherever_it_stands(tmp_path, place):
    names = [*NAMES[:place], "void", *NAMES[place + 1 :]]
    dataset = opened(made(tmp_path, classes={"names": names, "ignore_index": place}))
    assert dataset.taxonomy.names == tuple(n for n in names if n != "void")
    classes = np.insert([0, 1], place, 255)
    assert class_maps(dataset)["a"] == classes[MAPS["a"]].tolist()


def test_several_ids_are_ignored_and_minus_one(tmp_path):
    dataset = opened(made(tmp_path, classes={"names": NAMES, "ignore_index": [0, 2]}))
    assert (dataset.taxonomy.names, class_maps(dataset)["a"]) == (("tree",), [[255, 255, 0], [255, 255, 255]])
    made(tmp_path, lambda ids: ids.astype(np.int64) - 1, end=".npy", classes={"names": NAMES, "ignore_index": -1})
    for path in (tmp_path / "labels").rglob("*.png"):
        path.unlink()
    assert class_maps(opened(tmp_path))["a"] == [[255, 255, 0], [1, 1, 1]]


@pytest.mark.parametrize("more", [{}, {"ignore_index": 255}, {"ignore_index": 0}])
def test_the_largest_id_of_16_bits_is_void_too(tmp_path, more):
    deep = {0: 0, 1: 1, 2: 65_535}
    convert = np.vectorize(deep.get, otypes=[np.uint16])
    dataset = opened(made(tmp_path, convert, classes={"names": NAMES, **more}))
    assert class_maps(dataset)["a"][1] == [255, 255, 255]


def test_255_is_a_class_where_there_are_more(tmp_path):
    dataset = opened(made(tmp_path, lambda ids: ids + 253, classes={"names": [f"n{i}" for i in range(256)]}))
    assert len(dataset.taxonomy.classes) == 256
    assert class_maps(dataset)["a"] == [[253, 253, 254], [255] * 3]


def test_unknown_keys_are_said(tmp_path, caplog):
    opened(made(tmp_path, classes={"names": NAMES, "ignore_label": 0}))
    assert "has ignore_label, which nothing reads; it may have names, ids, colors, ignore_index" in caplog.text


# binary masks

TWO = {"names": ["rest", "road"]}


def binary(top, dtype):
    return lambda ids: np.where(ids == 2, top, 0).astype(dtype)


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (65_535, np.uint16)])
def test_binary_masks(tmp_path, top, dtype):
    dataset = opened(made(tmp_path, binary(top, dtype), classes=TWO))
    assert class_maps(dataset) == {key: (ids == 2).astype(int).tolist() for key, ids in MAPS.items()}
    assert dataset.labels == "labels/*.png, 255 is 1"


def test_255_is_void_where_any_file_holds_another_id_or_somebody_said_so(tmp_path):
    made(tmp_path, binary(255, np.uint8), classes=TWO)
    save(tmp_path / "labels" / "deep" / "c.d.png", np.ones((2, 3), np.uint8))
    assert class_maps(opened(tmp_path))["a"] == [[0, 0, 0], [255, 255, 255]]
    dataset = opened(made(tmp_path, binary(255, np.uint8), classes={**TWO, "ignore_index": 255}))
    assert class_maps(dataset)["a"] == [[0, 0, 0], [255, 255, 255]]
    dataset = opened(made(tmp_path, lambda ids: np.full_like(ids, 255), classes=TWO))
    assert class_maps(dataset)["a"] == [[255] * 3] * 2


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (65_535, np.uint16)])
@pytest.mark.parametrize("classes", [{"names": NAMES}, {"names": ["road"]}, {**TWO, "ids": [0, 1]}])
def test_where_255_may_be_a_class_a_line_says_so(tmp_path, caplog, top, dtype, classes):
    dataset = opened(made(tmp_path, binary(top, dtype), classes=classes))
    assert class_maps(dataset)["a"] == [[0, 0, 0], [255, 255, 255]]
    place = tmp_path / "labels"
    assert (
        f"The files in {place} hold 0 and {top} alone, which is read as void: if it is a class, give "
        f'{place / "classes.json"} two names and "ids": [0, {top}].' in caplog.text
    )


@pytest.mark.parametrize("more", [{"ignore_index": 255}, {"names": ["rest", "road"], "ids": [0, 255]}])
def test_where_somebody_said_what_255_is_no_line_does(tmp_path, caplog, more):
    class_maps(opened(made(tmp_path, binary(255, np.uint8), classes={"names": NAMES, **more})))
    assert caplog.text == ""


# colours


def rgb(ids):
    return np.array(COLORS, np.uint8)[ids]


def quantized(ids):
    return Image.fromarray(rgb(ids)).quantize()


@pytest.mark.parametrize("convert", [rgb, quantized, lambda ids: Image.fromarray(rgb(ids)).convert("RGBA")])
@pytest.mark.parametrize("end", [".png", "_mask.tif"])
def test_label_maps_in_the_colours_of_the_classes(tmp_path, convert, end):
    dataset = opened(made(tmp_path, convert, end, {"names": NAMES, "colors": COLORS}))
    assert class_maps(dataset) == expected()
    assert dataset.labels.endswith(", by colour")


def indexed(palette):
    def convert(ids):
        image = Image.fromarray(ids)
        image.putpalette(np.array(palette, np.uint8).tobytes())
        return image

    return convert


def test_a_palette_of_other_classes_is_not_sure(tmp_path):
    """Numbers and colours contradict each other, and are the same in every file."""
    made(tmp_path, indexed(COLORS[::-1]), classes={"names": NAMES, "colors": COLORS})
    with pytest.raises(LabelError, match=r"number 0 has the colour of the class 2: it is not sure which of the two"):
        opened(tmp_path).read(0)
    dataset = opened(
        made(tmp_path, indexed(COLORS[::-1]), classes={"names": NAMES, "colors": [*COLORS[:2], [9, 9, 9]]})
    )
    assert class_maps(dataset) == expected(), "not all colours are those of classes"


@pytest.mark.parametrize("contrary", ["a", "deep/c.d"])
def test_a_palette_that_changes_is_not_read_as_numbers(tmp_path, contrary):
    """The palette of the other files gives each number the colour of its own class."""
    made(tmp_path, indexed(COLORS), classes={"names": NAMES, "colors": COLORS})
    save(tmp_path / "labels" / f"{contrary}.png", indexed(COLORS[::-1])(2 - MAPS[contrary]))
    if contrary == "a":
        assert class_maps(opened(tmp_path)) == expected(), "by colour"
    else:  # where earlier files have been read by their numbers
        with pytest.raises(LabelError, match=r"c\.d\.png is indexed, and its number 2 has the colour of the class 0"):
            class_maps(opened(tmp_path))


def test_numbers_whose_colour_changes_are_not_sure_without_colours_either(tmp_path):
    made(tmp_path, indexed(COLORS))
    assert class_maps(opened(tmp_path)) == expected()
    save(tmp_path / "labels" / "deep" / "b.png", indexed(COLORS[::-1])(2 - MAPS["deep/b"]))
    with pytest.raises(LabelError, match=r"b\.png is indexed, and its number 0 has another colour than in a file befo"):
        class_maps(opened(tmp_path))
    changed = [*COLORS[:2], [9, 9, 9]]
    save(tmp_path / "labels" / "deep" / "c.d.png", indexed(changed)(MAPS["deep/c.d"]))
    save(tmp_path / "labels" / "deep" / "b.png", indexed(COLORS)(MAPS["deep/b"]))
    assert class_maps(opened(tmp_path)) == expected(), "c.d has no 2, whose colour alone changed"


def test_void_has_its_colour_too(tmp_path):
    dataset = opened(made(tmp_path, rgb, classes={"names": NAMES, "colors": COLORS, "ignore_index": 0}))
    assert class_maps(dataset)["a"] == [[255, 255, 0], [1, 1, 1]]


def test_another_colour_or_one_of_two_classes_is_refused(tmp_path):
    made(tmp_path, rgb, classes={"names": NAMES, "colors": [[0, 0, 255], [0, 255, 0], [9, 9, 9]]})
    with pytest.raises(
        LabelError, match=r"a\.png has the colour \(255, 0, 0\), which is no class; expected one of the 3"
    ):
        opened(tmp_path).read(0)
    made(tmp_path, rgb, classes={"names": NAMES, "colors": [COLORS[0], COLORS[0], COLORS[2]]})
    with pytest.raises(LabelError, match="is in colour, and two classes have the same"):
        opened(tmp_path).read(0)
    made(tmp_path, rgb)
    with pytest.raises(
        LabelError, match=r'a\.png is a colour image.*or give the classes their "colors" in classes\.json'
    ):
        opened(tmp_path).read(0)


@pytest.mark.parametrize("colors", [COLORS, [[0, 0, 0], [128, 0, 0], [0, 128, 0]], [[1, 1, 1], [0, 0, 0], [9, 9, 9]]])
def test_numbers_stay_numbers_where_colours_are_only_for_pictures(tmp_path, colors):
    dataset = opened(made(tmp_path, classes={"names": NAMES, "colors": colors}))
    assert class_maps(dataset) == expected()
    voc = [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert class_maps(opened(made(tmp_path, indexed(voc), classes={"names": NAMES, "colors": colors}))) == expected()


def test_black_and_white_and_grey(tmp_path):
    """Colours that are greys: of a file that holds nothing but black, the others tell what it is."""
    greys = {"names": NAMES, "colors": [[255] * 3, [127] * 3, [0] * 3]}
    table = np.array([255, 127, 0], np.uint8)
    for convert in (lambda ids: table[ids], lambda ids: np.repeat(table[ids][..., None], 3, 2)):
        dataset = opened(made(tmp_path, convert, classes=greys))
        assert (class_maps(dataset), dataset.labels) == (expected(), "labels/*.png, by colour")


def test_numbers_saved_as_rgb(tmp_path):
    assert class_maps(opened(made(tmp_path, lambda ids: np.repeat(ids[..., None], 3, 2)))) == expected()
