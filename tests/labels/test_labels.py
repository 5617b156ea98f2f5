"""Label maps: ids and their width, the palette, the file and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slotseg.errors import DataError
from slotseg.labels.label_map import LabelMap, palette, read_labels, voc_color

NAMED = LabelMap(
    classes=(1, 255, 0, 1),
    names=("sky", "Straße"),
    colors=((1, 2, 3), (255, 0, 9)),
    origin="hungarian",
    source="scenes val",
)


@pytest.mark.parametrize(
    ("index", "color"),
    [
        (0, (0, 0, 0)),
        (1, (128, 0, 0)),
        (2, (0, 128, 0)),
        (15, (192, 128, 128)),
        (20, (0, 64, 128)),
        (255, (224, 224, 192)),
    ],
)
def test_voc_colors(index: int, color: tuple[int, int, int]) -> None:
    assert voc_color(index) == color


def test_palette_has_neither_black_nor_doubles() -> None:
    colors = palette(254)
    assert len(set(colors)) == 254
    assert (0, 0, 0) not in colors


@pytest.mark.parametrize(
    ("num_prototypes", "ignore", "dtype"),
    [(2, 255, np.uint8), (255, 255, np.uint8), (256, 65_535, np.uint16), (2048, 65_535, np.uint16)],
)
def test_ids_take_the_width_they_need(num_prototypes: int, ignore: int, dtype: type) -> None:
    labels = LabelMap.prototypes(num_prototypes)
    assert labels.ignore == ignore
    prototype_map = np.arange(num_prototypes, dtype=np.uint16)[None]
    ids = labels.class_map(prototype_map)
    assert ids.dtype == dtype
    assert np.array_equal(ids, prototype_map)
    assert (ids != ignore).all()


def test_class_map_of_a_match() -> None:
    ids = NAMED.class_map(np.array([[0, 1, 2], [3, 3, 1]], np.uint16))
    assert ids.tolist() == [[1, 255, 0], [1, 1, 255]]
    assert ids.dtype == np.uint8


@pytest.mark.parametrize("labels", [NAMED, LabelMap.prototypes(300)], ids=["named", "prototypes"])
def test_round_trip_through_a_file(tmp_path: Path, labels: LabelMap) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(labels.to_dict()))
    assert read_labels(path) == labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": [2]}, "names class 2; expected 0 to 1 or 255"),
        ({"classes": [-1]}, "names class -1"),
        ({"classes": [65_535]}, "names class 65535"),
        ({"classes": 3}, "is no label map"),
        ({"classes": ["sky"]}, "is no label map"),
        ({"colors": [[1, 2, 3]]}, "1 colours for 2 names"),
        ({"colors": [[1, 2], [3, 4]]}, "is no label map"),
        ({"colors": [[1, 2, 256], [3, 4, 5]]}, "colour out of range"),
        ({"colors": [[1, 2, -1], [3, 4, 5]]}, "colour out of range"),
        ({"names": None}, "is no label map"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({**NAMED.to_dict(), **change}))
    with pytest.raises(DataError, match=message):
        read_labels(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"{", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[]", "is no label map"),
        (b"{}", "classes"),
    ],
    ids=["missing", "cut", "binary", "list", "empty"],
)
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "labels.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)
