"""Label sets: every file is sound, the published mapping is reproduced, contradictions are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from slotseg.data.labelled.taxonomy import Taxonomy, load_taxonomy, plain_taxonomy, taxonomies, taxonomy_from_dict
from slotseg.errors import DataError, LabelError

FACTS = json.loads((Path(__file__).parent.parent.parent / "golden" / "cocostuff27.json").read_text())
SIZES = {
    "ade150": 150, "camvid11": 11, "cityscapes19": 19, "cityscapes27": 27, "cocopanoptic27": 27, "cocostuff15": 15,
    "cocostuff171": 171, "cocostuff27": 27, "msrc21": 21, "msrc23": 23, "potsdam3": 3, "voc21": 21,
}  # fmt: skip


def raw(*ids):
    return np.array([ids])


@pytest.mark.parametrize("name", taxonomies())
def test_every_set_is_sound(name):
    taxonomy = load_taxonomy(name)
    assert taxonomy.name == name
    assert len(taxonomy.classes) == SIZES[name]
    assert taxonomy.title
    assert taxonomy.encoding
    for index, label_class in enumerate(taxonomy.classes):
        ids = set(label_class.ids) - set(taxonomy.unused)
        assert ids, label_class.name
        assert set(taxonomy.class_map(raw(*ids), "x").flat) == {index}
    assert set(taxonomy.class_map(raw(*set(taxonomy.void) - set(taxonomy.unused)), "x").flat) == {255}
    assert sorted(SIZES) == taxonomies()


def test_cocostuff27_is_the_published_mapping():
    taxonomy = load_taxonomy("cocostuff27")
    assert list(taxonomy.names) == FACTS["names"]
    assert taxonomy.of_kind("thing") == FACTS["thing_coarse"]
    assert taxonomy.of_kind("stuff") == FACTS["stuff_coarse"]
    assert list(taxonomy.unused) == FACTS["fine_ids_without_annotations"]
    for fine, coarse in enumerate(FACTS["fine_to_coarse"]):
        assert fine in taxonomy.classes[coarse].ids
    used = [fine for fine in range(182) if fine not in taxonomy.unused]
    expected = [FACTS["fine_to_coarse"][fine] for fine in used]
    assert taxonomy.class_map(raw(*used, 255), "x")[0].tolist() == [*expected, 255]


def test_names_that_both_halves_have_are_told_apart():
    names = load_taxonomy("cocostuff27").names
    assert {"food-things", "food-stuff", "furniture-things", "furniture-stuff"} <= set(names)
    assert names == load_taxonomy("cocopanoptic27").names


def test_fine_and_stuff_sets_agree_with_the_27():
    coarse, fine, stuff = (load_taxonomy(f"cocostuff{n}") for n in (27, 171, 15))
    assert [c.ids[0] for c in fine.classes] == [i for i in range(182) if i not in coarse.unused]
    assert [FACTS["fine_names"][c.ids[0]] for c in fine.classes] == list(fine.names)
    assert [(c.name, c.ids) for c in stuff.classes] == [(c.name, c.ids) for c in coarse.classes[12:]]
    assert list(stuff.names) == FACTS["cocostuff15_order"]
    assert stuff.class_map(raw(0, 181), "x")[0].tolist() == [255, 14 - 2]  # a person is void, wood is solid


def test_panoptic_covers_the_133_categories():
    assert sum(len(c.ids) for c in load_taxonomy("cocopanoptic27").classes) == 133


def test_cityscapes_drops_the_first_seven_and_the_licence_plate():
    cityscapes = load_taxonomy("cityscapes27")
    assert cityscapes.class_map(raw(0, 6, 7, 33), "x")[0].tolist() == [255, 255, 0, 26]
    assert load_taxonomy("cityscapes19").class_map(raw(9, 33), "x")[0].tolist() == [255, 18]


@pytest.mark.parametrize("name", ["cityscapes19", "cityscapes27"])
def test_train_ids_of_cityscapes_are_refused_by_their_void(name):
    message = f"a.png holds the id 255, which no label map of {name} does.*train ids, for instance.*labelTrainIds"
    with pytest.raises(LabelError, match=message):
        load_taxonomy(name).class_map(raw(0, 10, 255), "a.png")


def test_msrc21_drops_horse_and_mountain():
    names = set(load_taxonomy("msrc23").names) - set(load_taxonomy("msrc21").names)
    assert names == {"horse", "mountain"}
    assert len(load_taxonomy("msrc23").id_colors) == 24


@pytest.mark.parametrize("value", [11, 44, 182, 200])
def test_a_map_that_counts_from_one_is_refused(value):
    with pytest.raises(LabelError, match=f"maps/7.png holds the id {value}, which no label map of cocostuff27"):
        load_taxonomy("cocostuff27").class_map(raw(0, value), "maps/7.png")


def test_unknown_id_and_unknown_set():
    with pytest.raises(LabelError, match=r"a\.png holds the id 21, which the label set voc21 does not have"):
        load_taxonomy("voc21").class_map(raw(21), "a.png")
    with pytest.raises(DataError, match=r"no label set 'voc20'.*voc21"):
        load_taxonomy("voc20")


def test_more_than_255_classes_need_16_bits():
    taxonomy = plain_taxonomy("many", tuple(str(i) for i in range(300)), void=(65_535,))
    classes = taxonomy.class_map(raw(0, 255, 299, 65_535), "x")
    assert classes.dtype == np.uint16
    assert classes[0].tolist() == [0, 255, 299, 65_535]


def test_what_is_void_is_no_class_of_a_plain_set():
    taxonomy = plain_taxonomy("plain", ("a", "b", "c", "d"), void=(0, 2))
    assert (taxonomy.names, taxonomy.colors) == (("b", "d"), plain_taxonomy("plain", tuple("abcd")).colors[1::2])
    assert taxonomy.class_map(raw(0, 1, 2, 3), "x")[0].tolist() == [255, 0, 255, 1]
    with pytest.raises(LabelError, match=r"value = class id \(1, 3\) or void \(0, 2\)"):
        taxonomy.class_map(raw(4), "x")
    with pytest.raises(DataError, match="no class"):
        plain_taxonomy("plain", ("a",), void=(0,))


def test_empty_map():
    assert load_taxonomy("voc21").class_map(np.zeros((0, 4), np.uint8), "x").shape == (0, 4)


GOOD = {
    "name": "two",
    "title": "Two",
    "encoding": "value = class",
    "void": [255],
    "classes": [{"name": "a", "ids": [0], "color": [1, 2, 3]}, {"name": "b", "ids": [1, 2], "color": [4, 5, 6]}],
}


def changed(**values):
    return {**GOOD, **values}


def second(**values):
    return changed(classes=[GOOD["classes"][0], {**GOOD["classes"][1], **values}])


def test_a_good_file():
    taxonomy = taxonomy_from_dict(GOOD, "two.json")
    assert isinstance(taxonomy, Taxonomy)
    assert taxonomy.colors == ((1, 2, 3), (4, 5, 6))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (second(ids=[0, 1]), "gives id 0 two meanings"),
        (changed(void=[1, 255]), "gives id 1 two meanings"),
        (second(ids=[70_000]), "id 70000"),
        (second(name="a"), "two classes named 'a'"),
        (second(color=[0, 0, 256]), "colour beyond"),
        (second(color=[0, 0]), "no label set"),
        (second(kind="stuff"), "unknown kind"),
        (second(ids=None), "no label set"),
        (changed(classes=[]), "no class"),
        (changed(colour=1), "unknown key colour"),
        ({"name": "x"}, "no label set"),
    ],
)
def test_a_contradictory_file_is_refused(values, message):
    with pytest.raises(DataError, match=message):
        taxonomy_from_dict(values, "two.json")
