"""What is found in a collection of photos, and its file."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slotseg.concepts.collection import CarriedName, Collection, Concept, Merge, Segment, read_concepts, write_concepts
from slotseg.errors import DataError

SEGMENT = Segment(photo="deep/ä.jpg", score=0.8125, pixels=120, box_xyxy=(3, 4, 20, 30))
SKY = Concept(
    id=0,
    name="prototype 0",
    color=(1, 2, 3),
    share=0.75,
    num_photos=3,
    confidence=0.5,
    near=((1, 0.25),),
    together=((1, 1.0),),
    segments=(SEGMENT,),
    carried=CarriedName(name="sky", confidence=0.75),
)
EMPTY = Concept(
    id=1,
    name="sea",
    color=(4, 5, 6),
    share=0.0,
    num_photos=0,
    confidence=None,
    carried=CarriedName(name=None, confidence=0.5),
)
COLLECTION = Collection(
    run="run",
    checkpoint="0123456789abcdef",
    num_photos=3,
    concepts=(SKY, EMPTY),
    merges=(Merge(one=0, other=1, strength=0.9),),
    carried_from="an older run",
)


def test_a_file_is_read_back(tmp_path: Path) -> None:
    write_concepts(tmp_path / "concepts.json", COLLECTION)
    assert read_concepts(tmp_path / "concepts.json") == COLLECTION


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is of format 2; expected 1: make it again"),
        ({"concepts": [{"id": 0}]}, "is no concepts.json"),
        ({"concepts": 3}, "is no concepts.json"),
        ({"merges": [{"one": 0, "other": 5, "strength": 1}]}, "mention prototype 5; expected 0 to 1"),
        ({"concepts": COLLECTION.to_dict()["concepts"][:1], "merges": []}, "mention prototype 1; expected 0 to 0"),
        ({"concepts": COLLECTION.to_dict()["concepts"][::-1]}, "not numbered 0 to 1; expected one for each prototype"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "concepts.json").write_text(json.dumps({**COLLECTION.to_dict(), **change}))
    with pytest.raises(DataError) as raised:
        read_concepts(tmp_path / "concepts.json")
    assert message in str(raised.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "concepts.json").write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        read_concepts(tmp_path / "concepts.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_concepts(tmp_path / "absent.json")
    with pytest.raises(DataError, match="choose another --output"):
        write_concepts(tmp_path, COLLECTION)


def test_figures_are_short() -> None:
    collection = replace(COLLECTION, concepts=(replace(SKY, share=1 / 3), EMPTY))
    assert collection.to_dict()["concepts"][0]["share"] == 0.333333


def test_every_field_is_documented() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "concepts.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`(\w+)`", text[text.index("## concepts.json") :]))
    values = COLLECTION.to_dict()
    (segment,) = values["concepts"][0]["segments"]
    concept = values["concepts"][0]
    assert {*values, *concept, *segment, *concept["carried"], *values["merges"][0]} <= words
