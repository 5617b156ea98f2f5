"""Names given by a person: their file, the label map they make, and colours that belong to names."""

import itertools
import json
import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slotseg.data.scenes import CLASS_NAMES
from slotseg.errors import DataError
from slotseg.labels.colors import oklch_color
from slotseg.labels.label_map import IGNORE, IGNORE_16, LabelMap
from slotseg.labels.naming import KEEP, Naming, name_color, name_key, read_labels_or_names, read_names, tidy


def named(values: dict[str, Any], num_prototypes: int = 6) -> dict[int, str | None]:
    """The name of each prototype's class."""
    labels = Naming.from_dict(values).label_map(num_prototypes)
    return {k: None if c == labels.ignore else labels.names[c] for k, c in enumerate(labels.classes)}


def test_prototypes_of_one_name_are_one_class() -> None:
    labels = Naming.from_dict(
        {"names": {"4": "Tall  Grass ", "0": "tall grass", "2": "sky", "5": "TALL-GRASS"}}
    ).label_map(6)
    assert labels.names == ("sky", "TALL-GRASS", "prototype 1", "prototype 3")
    assert labels.classes == (1, 2, 0, 3, 1, 1)
    assert labels.origin == "names"


def test_same_as_takes_the_name_or_makes_one_unnamed_class() -> None:
    values = {"names": {"0": "sky"}, "same_as": {"1": 0, "2": 1, "4": 3}}
    assert named(values) == {0: "sky", 1: "sky", 2: "sky", 3: "prototype 3", 4: "prototype 3", 5: "prototype 5"}


def test_what_goes_before_what() -> None:
    values = {"names": {"0": "sky", "1": "sea", "2": "sand"}, "same_as": {"1": 0, "5": 2}, "ignore": [2]}
    assert named(values) == {0: "sky", 1: "sky", 2: None, 3: "prototype 3", 4: "prototype 4", 5: None}


def test_unnamed_prototypes_are_kept_or_ignored() -> None:
    values = {"names": {"3": "sky"}, "same_as": {"1": 0}}
    assert named(values)[0] == named(values)[1] == "prototype 0"
    assert named({**values, "unnamed": "ignore"}) == {0: None, 1: None, 2: None, 3: "sky", 4: None, 5: None}


def test_a_name_like_that_of_an_unnamed_prototype_is_one_with_it() -> None:
    assert named({"names": {"0": "Prototype 5"}})[0] == named({"names": {"0": "Prototype 5"}})[5]


def test_more_than_255_classes_have_the_ignore_id_of_16_bits() -> None:
    labels = Naming(names={0: "sky"}, ignore=frozenset({7})).label_map(400)
    assert labels.classes[7] == IGNORE_16
    assert labels.class_map(np.array([[0, 7]])).tolist() == [[0, IGNORE_16]]
    assert Naming(names={0: "sky"}, unnamed="ignore").label_map(400).classes[7] == IGNORE


def test_ids_and_colours_belong_to_names_and_not_to_runs() -> None:
    one = Naming(names={0: "sky", 1: "grass", 5: "water"}, unnamed="ignore").label_map(6)
    two = Naming(names={9: "Water", 3: "sky", 2: "grass", 1: "grass"}, unnamed="ignore").label_map(12)
    assert [n.lower() for n in one.names] == [n.lower() for n in two.names]
    assert one.colors == two.colors == tuple(name_color(n) for n in ("grass", "sky", "water"))
    assert name_color("Traffic light") == name_color("traffic_light ")


def test_colours_of_known_names() -> None:
    """They are in people's masks: a change here changes every one of them."""
    assert [name_color(name) for name in ("sky", "grass", "Straße", "空")] == COLORS


COLORS = [(225, 204, 84), (131, 170, 199), (239, 187, 193), (91, 217, 255)]


def test_colours_are_oklch() -> None:
    assert oklch_color(1.0, 0.0, 0.0) == (255, 255, 255)
    assert oklch_color(0.0, 0.0, 0.0) == (0, 0, 0)
    assert oklch_color(0.627955, 0.257683, math.radians(29.2339)) == (255, 0, 0)
    assert oklch_color(0.452014, 0.313214, math.radians(264.052)) == (0, 0, 255)


def linear(color: tuple[int, int, int]) -> list[float]:
    return [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]


def oklab(color: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    axes = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return axes @ np.cbrt(cones @ linear(color))


@pytest.mark.parametrize(
    ("label_set", "bound"),
    [
        ("msrc23", 0.035),
        ("camvid11", 0.05),
        ("cityscapes19", 0.035),
        ("voc21", 0.04),
        ("scenes", 0.075),
        ("cocostuff27", 0.02),
    ],
)
def test_colours_of_common_names_lie_apart(label_set: str, bound: float) -> None:
    """In OKLab, where about 0.02 is just seen."""
    if label_set == "scenes":
        names = list(CLASS_NAMES)
    else:
        text = (resources.files("slotseg.data") / "taxonomies" / f"{label_set}.json").read_text()
        names = [c["name"] for c in json.loads(text)["classes"]]
    colors = [oklab(name_color(name)) for name in names]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(colors, 2)) > bound


def test_names_are_tidied() -> None:
    assert tidy("  tall \n\tgrass\x00 ") == "tall grass"
    assert tidy("a\ud800b") == "a b"
    assert tidy("caf\u0065\u0301") == "café"
    joined = "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert tidy(joined) == joined, "letters that need a joiner keep it"
    assert name_key("Traffic - Light") == name_key("traffic_light") == "trafficlight"


def test_a_file_is_read_back(tmp_path: Path) -> None:
    naming = Naming(
        names={3: "sky", 0: "<b>grass</b>"},
        same_as={1: 0},
        ignore=frozenset({2}),
        unnamed="ignore",
        num_prototypes=6,
        checkpoint="0123456789abcdef",
    )
    (tmp_path / "names.json").write_text(json.dumps(naming.to_dict()))
    read = read_names(tmp_path / "names.json")
    assert read.to_dict() == naming.to_dict()
    assert read.label_map(6).names == naming.label_map(6).names


def test_a_file_written_by_hand(tmp_path: Path) -> None:
    """Byte order mark, a list with gaps, numbers as text, a name instead of a number."""
    text = '\ufeff{"names": ["sky", null, "Grass"], "same_as": {"prototype 3": "grass", "4": "0"}, "ignore": ["5"]}'
    (tmp_path / "names.json").write_text(text, encoding="utf-8")
    labels = read_names(tmp_path / "names.json").label_map(6)
    assert labels.names == ("Grass", "sky", "prototype 1")
    assert labels.classes == (1, 2, 0, 0, 1, IGNORE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": {"6": "sky"}}, "mentions prototype 6; expected 0 to 5"),
        ({"same_as": {"1": 17}}, "mentions prototype 17; expected 0 to 5"),
        ({"ignore": [-1]}, "mentions prototype -1; expected 0 to 5"),
        ({"same_as": {"1": 2, "2": 3, "3": 1}}, "has a circle, 1 as 2 as 3 as 1; expected one of them without"),
        ({"same_as": {"1": 1}}, "has a circle, 1 as 1"),
        ({"names": {"1": " - "}}, "gives prototype 1 an empty name; expected a name, or no entry"),
        ({"names": {"1": 7}}, "has 7 for a name; expected text in quotes"),
        ({"names": {"one": "sky"}}, "has 'one' for a prototype; expected its number"),
        ({"names": "sky"}, "has names 'sky'; expected an object such as"),
        ({"ignore": 3}, "has ignore 3; expected a list of prototypes"),
        ({"same_as": {"1": "grass"}}, "has 'grass' for a prototype; expected its number"),
        ({"ignored": [3]}, "has 'ignored'; expected only format, checkpoint,"),
        ({"unnamed": "drop"}, "has unnamed 'drop'; expected 'keep' or 'ignore'"),
        ({"format": 2}, "is no names.json of format 1"),
        ([], "is no names.json of format 1"),
        ({"num_prototypes": 27}, "names 27 prototypes and the model has 6; expected the names of this run, or -k"),
        ({"num_prototypes": 4, "names": {"5": "sky"}}, "mentions prototype 5; expected 0 to 3"),
        ({"unnamed": "ignore"}, "leaves nothing to paint; expected a name, or unnamed 'keep'"),
        ({"ignore": list(range(6))}, "leaves nothing to paint"),
    ],
)
def test_mistakes_are_one_sentence(values: Any, message: str) -> None:
    with pytest.raises(DataError) as raised:
        Naming.from_dict(values, "names.json").label_map(6)
    assert str(raised.value).startswith("names.json ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_files_that_are_no_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "names.json").write_bytes(content)
    with pytest.raises(DataError, match=r"names.json is no JSON .*; expected a labels.json or a names.json"):
        read_names(tmp_path / "names.json")


def test_label_maps_and_names_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(LabelMap.prototypes(3).to_dict()))
    assert read_labels_or_names(tmp_path / "labels.json") == LabelMap.prototypes(3)
    with pytest.raises(DataError, match=r"is a label map; expected a names\.json"):
        read_names(tmp_path / "labels.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_names(tmp_path / "absent.json")
    assert Naming().unnamed == KEEP


def test_every_field_is_documented() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "concepts.md").read_text(encoding="utf-8")
    section = text[text.index("## names.json") : text.index("## concepts.json")]
    assert set(Naming().to_dict()) == set(re.findall(r"^\| `(\w+)` \|", section, re.M))
    example = re.search(r"^    \{.*?^    \}", section, re.M | re.S)
    assert example
    labels = Naming.from_dict(json.loads(example[0])).label_map(16)
    assert labels.names[:3] == ("grass", "Sky", "prototype 1")
    assert labels.classes[5] == 0
    assert labels.classes[6] == 1
