import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slotseg.data.labelled.labelled import HELD_OUT_SCENES, LabelledScenes, labelled_folder
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.data.views.sources import Scenes
from slotseg.errors import DataError, LabelError
from slotseg.labels.label_map import IGNORE, palette

PHOTOS = {"a.jpg": 10, "street/b.png": 20, "street/night/c.d.JPG": 30}
IDS = np.array([[0, 1, 2, 255], [2, 1, 0, 0]], np.uint8)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Photos of one grey each, label maps that start with the photo's number, and classes.json."""
    for number, (name, grey) in enumerate(PHOTOS.items()):
        write(tmp_path / "images" / name, np.full((2, 4, 3), grey, np.uint8))
        ids = IDS.copy()
        ids[0, 0] = number
        write((tmp_path / "labels" / name).with_suffix(".png"), ids)
    write_classes(tmp_path, {"names": ["sky", "tree", "road"]})
    return tmp_path


def write_classes(folder, content):
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    (folder / "labels" / "classes.json").write_text(text, encoding="utf-8")


def opened(folder):
    return labelled_folder(folder / "images", folder / "labels")


# folder


def test_photos_and_their_label_maps_in_nested_folders(folder):
    dataset = opened(folder)
    assert len(dataset) == 3
    assert (dataset.taxonomy.names, dataset.taxonomy.colors) == (("sky", "tree", "road"), palette(3))
    for index, (name, grey) in enumerate(PHOTOS.items()):
        sample = dataset.read(index)
        assert sample.key == str(Path(name).with_suffix(""))
        assert sample.size_hw == (2, 4)
        assert np.abs(sample.image.astype(int) - grey).max() <= 2
        assert np.array_equal(dataset.read_image(index), sample.image)
        assert sample.class_map[0, 0] == index
        assert np.array_equal(sample.class_map.flat[1:], IDS.flat[1:])


def test_palettes_of_label_maps_change_no_id(folder):
    ids = Image.fromarray(IDS)
    ids.putpalette([9, 9, 9] * 256)
    ids.save(folder / "labels" / "a.png")
    assert np.array_equal(opened(folder).read(0).class_map, IDS)


def test_relative_paths(folder, monkeypatch):
    expected = [opened(folder).read(i) for i in range(3)]
    for start, images, labels in ((folder, "images", "labels"), (folder / "images", ".", "../labels")):
        monkeypatch.chdir(start)
        dataset = labelled_folder(Path(images), Path(labels))
        assert len(dataset) == 3
        for index, sample in enumerate(expected):
            assert np.array_equal(dataset.read(index).class_map, sample.class_map)


def test_a_split_is_a_folder_of_both(folder):
    dataset = labelled_folder(folder / "images", folder / "labels", "street")
    assert [key for key, _ in dataset.photos] == ["b", "night/c.d"]
    assert dataset.split == "street"
    with pytest.raises(DataError, match="field is not a folder"):
        labelled_folder(folder / "images", folder / "labels", "field")


def test_photos_that_differ_in_their_suffix_have_label_maps_that_keep_it(folder):
    """As ``slotseg segment`` names masks."""
    write(folder / "images" / "a.png", np.zeros((2, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"2 of 4 label maps are missing in .*labels, the first is a\.jpg\.png"):
        opened(folder)
    for number, name in enumerate(("a.jpg", "a.png")):
        write(folder / "labels" / f"{name}.png", np.full((2, 4), number, np.uint8))
    dataset = opened(folder)
    assert [(dataset.read(i).key, dataset.read(i).class_map[0, 0]) for i in range(2)] == [("a.jpg", 0), ("a.png", 1)]


def test_an_id_outside_the_classes_names_the_label_map(folder):
    write(folder / "labels" / "a.png", np.full((2, 4), 3, np.uint8))
    with pytest.raises(LabelError, match=r"labels.a\.png holds the id 3, which the label set folder does not have"):
        opened(folder).read(0)


def test_void_ids_become_the_ignore_id(folder):
    write_classes(folder, {"names": ["sky", "tree", "road", "sea"], "ignore_index": 2})
    write(folder / "labels" / "a.png", np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8))
    assert opened(folder).read(0).class_map.tolist() == [[0, 1, 255, 2], [2, 255, 1, 0]]


def test_a_single_photo(folder):
    dataset = labelled_folder(folder / "images" / "street" / "b.png", folder / "labels" / "street")
    assert len(dataset) == 1
    assert dataset.read(0).class_map[0, 0] == 1


def test_classes_beside_the_labels_and_all_settings(folder):
    (folder / "labels" / "classes.json").unlink()
    colors = [[1, 2, 3], [4, 5, 6], [0, 0, 255]]
    text = json.dumps({"names": ["ciel", "forêt", "道"], "colors": colors, "ignore_index": 0}, ensure_ascii=False)
    (folder / "classes.json").write_text(text, encoding="utf-8-sig")  # as Windows' editors save it
    dataset = opened(folder)
    assert dataset.taxonomy.names == ("forêt", "道"), "what is ignored is no class"
    assert dataset.taxonomy.colors == ((4, 5, 6), (0, 0, 255))
    assert dataset.taxonomy.void == (0, 65_535)
    write_classes(folder, {"names": ["nearer"]})
    assert opened(folder).taxonomy.names == ("nearer",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"is no whole JSON \(line 1, column 1\); expected"),
        ("{names: [sky]}", r"is no whole JSON \(line 1, column 2\)"),
        ('{"names": {"0": "sky", "1": "tree", "1": "road"}}', 'has the key "1" twice; expected each once'),
        ('{"names": ["sky", "tree"], "ids": [0, 1], "ids": [1, 0]}', 'has the key "ids" twice'),
        ({"names": ["sky", " "]}, "has a class with an empty name; expected a name for each"),
        ({"names": ["sky", " sky\t"]}, "two classes named 'sky'"),
        ("null", "cannot be used"),
        (["sky", "tree"], "cannot be used"),
        ({"classes": ["sky"]}, 'cannot be used .*"names"'),
        ({"names": 3}, "cannot be used"),
        ({"names": "sky"}, "cannot be used"),
        ({"names": {"zero": "sky"}}, 'names gives "zero" a meaning, which is no id'),
        ({"names": {"1_0": "sky"}}, 'names gives "1_0" a meaning, which is no id'),
        ({"names": {"0": "sky"}, "ids": [0]}, "names already say their ids"),
        ({"names": ["sky", "tree"], "ids": [7]}, "2 names and 1 ids"),
        ({"names": ["sky", "tree"], "ids": [7, 7]}, "gives id 7 two meanings"),
        ({"names": ["sky", "tree"], "ids": [7, "8"]}, 'ids has "8", which is no whole number'),
        ({"names": ["sky", "tree"], "ids": [7, -1]}, "has the id -1"),
        ({"names": ["sky", "tree"], "ids": 7}, "2 names and no list of ids"),
        ({"names": ["sky"], "ignore_index": True}, "ignore_index has true, which is no whole number"),
        ({"names": ["sky"], "ignore_index": 0}, "no class"),
        ({"names": []}, "no class"),
        ({"names": ["sky", "tree"], "colors": [[0, 0, 0]]}, "2 names and 1 colors"),
        ({"names": ["sky"], "colors": [[0, 0, 0]] * 2}, "1 names and 2 colors"),
        ({"names": ["sky"], "colors": [[0, 0]]}, "cannot be used .*three whole numbers"),
        ({"names": ["sky"], "colors": [[0, 0, 0.5]]}, "cannot be used .*three whole numbers"),
        ({"names": ["sky"], "colors": ["#0000ff"]}, "cannot be used .*three whole numbers"),
        ({"names": ["sky", None]}, "cannot be used .*names has null, which is no name"),
        ("[" * 100_000, "is no whole JSON .it is nested too deep"),
        ({"names": ["sky"], "colors": [[0, 0, 256]]}, "cannot be used .*0 to 255"),
        ({"names": ["sky", "sky"]}, "two classes named 'sky'"),
        ({"names": ["sky"], "colors": [[-1, 0, 0]]}, "cannot be used .*0 to 255"),
        ({"names": ["sky"], "ignore_index": None}, "cannot be used"),
        ({"names": ["sky"], "ignore_index": "void"}, "cannot be used"),
    ],
)
def test_refuses_a_broken_classes_json(folder, content, message):
    write_classes(folder, content)
    with pytest.raises(DataError, match=message) as error:
        opened(folder)
    assert str(folder / "labels" / "classes.json") in str(error.value)


def test_refuses_labels_without_classes_json(folder):
    (folder / "labels" / "classes.json").unlink()
    with pytest.raises(DataError, match=r"no classes\.json in .*labels or beside it"):
        opened(folder)


def test_refuses_what_is_missing(folder):
    with pytest.raises(DataError, match="gone is not a folder"):
        labelled_folder(folder / "images", folder / "gone")
    with pytest.raises(DataError, match="gone does not exist"):
        labelled_folder(folder / "gone", folder / "labels")
    (folder / "labels" / "street" / "b.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 label maps are missing in .*labels, the first is street/b\.png"):
        opened(folder)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((4, 2), np.uint8), r"labels.a\.png is 2 x 4 and its photo a\.jpg 4 x 2"),
        (np.zeros((1, 1), np.uint8), "1 x 1"),
        (np.full((2, 4, 3), (0, 1, 0), np.uint8), r"a\.png is a colour image.*or give the classes their \"colors\""),
    ],
)
def test_a_label_map_that_does_not_fit_is_never_skipped(folder, label, message):
    write(folder / "labels" / "a.png", label)
    dataset = opened(folder)
    with pytest.raises(LabelError, match=message):
        dataset.read(0)
    assert dataset.read_image(0).shape == (2, 4, 3)


def test_an_unreadable_label_is_a_label_error_and_an_unreadable_photo_is_not(folder):
    dataset = opened(folder)
    (folder / "labels" / "a.png").write_text("no image")
    with pytest.raises(LabelError, match=r"a\.png is not an image"):
        dataset.read(0)
    (folder / "images" / "street" / "b.png").write_text("no image")
    with pytest.raises(DataError, match=r"b\.png is not an image") as error:
        dataset.read(1)
    assert not isinstance(error.value, LabelError)


# scenes


def test_scenes_are_drawn_with_their_labels():
    scenes = LabelledScenes(3)
    assert (len(scenes), len(scenes.taxonomy.colors), scenes.taxonomy.ignore) == (3, len(CLASS_NAMES), IGNORE)
    assert scenes.taxonomy.names == CLASS_NAMES
    sample = scenes.read(1)
    assert sample.image.shape[:2] == sample.class_map.shape
    assert sample.class_map.max() < len(CLASS_NAMES)
    assert np.array_equal(scenes.read_image(1), sample.image)
    assert scenes.read(2).key != sample.key


def test_held_out_scenes_are_not_those_of_training():
    training, held_out = Scenes(), LabelledScenes()
    assert len(training) <= HELD_OUT_SCENES  # a seed is a scene
    assert np.array_equal(held_out.read_image(0), draw_scene(HELD_OUT_SCENES)[0])
    seen = {training.open(i).pixels().tobytes() for i in range(100)}
    assert len(seen | {held_out.read_image(i).tobytes() for i in range(100)}) == 200


def test_what_is_no_picture_is_not_scored(folder):
    write(folder / "images" / "hole.png", np.dstack([np.full((2, 4, 3), 9, np.uint8), np.uint8([[0, 9, 9, 9]] * 2)]))
    write(folder / "labels" / "hole.png", IDS)
    dataset = opened(folder)
    sample = dataset.read([key for key, _ in dataset.photos].index("hole"))
    assert (sample.class_map[:, 0] == dataset.taxonomy.ignore).all()
    assert np.array_equal(sample.class_map[:, 1:], IDS[:, 1:])
