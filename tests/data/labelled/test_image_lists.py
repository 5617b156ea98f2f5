"""The curated list: its rule at its boundaries, its cache, and its comparison with the published one."""

import hashlib
import json
import logging
import stat
from pathlib import Path

import numpy as np
import pytest

from slotseg.data.labelled.image_lists import PUBLISHED, ImageList, curated_list, is_curated, read_image_list
from slotseg.errors import DataError, LabelError

FACTS = Path(__file__).parent.parents[1] / "golden" / "cocostuff27.json"
SKY, PERSON, VOID = 156, 0, 255


def label_map(stuff, height=400, width=400, rest=PERSON):
    """A map whose first ``stuff`` pixels are sky."""
    pixels = np.full(height * width, rest, np.uint8)
    pixels[:stuff] = SKY
    return pixels.reshape(height, width)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (label_map(120_000), True),  # exactly 75 %
        (label_map(119_999), False),
        (label_map(120_000, rest=VOID), True),  # void counts against stuff, in the number of all pixels
        (label_map(119_999, rest=VOID), False),
        (label_map(360 * 360, 360, 360), True),
        (label_map(359 * 500, 359, 500), False),
        (label_map(500 * 359, 500, 359), False),
        (label_map(0), False),
        (label_map(97_201, 360, 360), True),  # 75.0008 %
        (label_map(97_199, 360, 360), False),
    ],
)
def test_the_rule_is_exact(labels, expected):
    assert is_curated(labels) is expected


def test_every_stuff_id_is_stuff_and_no_thing_is():
    ids = np.arange(182)
    facts = json.loads(FACTS.read_text())
    for fine in np.setdiff1d(ids, facts["fine_ids_without_annotations"]):
        assert is_curated(np.full((360, 360), fine, np.uint8)) == (facts["fine_to_coarse"][fine] >= 12)


def test_the_rule_refuses_a_map_that_counts_from_one():
    with pytest.raises(LabelError, match="the label map holds the id 44"):
        is_curated(np.full((400, 400), 44, np.uint8))


MAPS = {"000000000003": label_map(160_000), "000000000001": label_map(120_000), "000000000002": label_map(0)}
CURATED = ("000000000001", "000000000003")


class Reader:
    """Counts what is read."""

    def __init__(self, maps):
        self.maps, self.count = maps, 0

    def __call__(self, key):
        self.count += 1
        return self.maps[key]


def test_the_list_is_sorted_and_cached_beside_the_data(tmp_path):
    reader = Reader(MAPS)
    for _ in range(2):
        curated = curated_list("val2017", list(MAPS), reader, tmp_path, published={})
        assert (curated.name, curated.keys, curated.published) == ("curated", CURATED, None)
    assert reader.count == 3
    assert (tmp_path / "slotseg-curated-val2017.json").is_file()
    more = {**MAPS, "000000000004": label_map(160_000)}
    assert len(curated_list("val2017", list(more), Reader(more), tmp_path, published={}).keys) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"derived_from": 1}'])
def test_a_damaged_cache_is_made_anew(tmp_path, content):
    (tmp_path / "slotseg-curated-val2017.json").write_text(content)
    assert curated_list("val2017", list(MAPS), Reader(MAPS), tmp_path).keys == CURATED


def test_without_the_right_to_write_there_is_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("slotseg.data.labelled.image_lists.write_json", _refuse)
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert curated_list("val2017", list(MAPS), Reader(MAPS), tmp_path).keys == CURATED
    assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o700)


def _refuse(*_):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_digest_is_compared_with_the_published_one(tmp_path, end, caplog):
    digest = hashlib.sha256(("\n".join(CURATED) + end).encode()).hexdigest()
    same = curated_list("val2017", list(MAPS), Reader(MAPS), tmp_path, published={"val2017": (2, digest)})
    assert same.published is True
    with caplog.at_level(logging.WARNING, "slotseg"):
        logging.getLogger("slotseg").propagate = True
        other = curated_list("val2017", list(MAPS), Reader(MAPS), tmp_path)
    assert other.published is False
    assert "2 photos and another digest than the published one of 2175" in caplog.text


def test_published_lists_are_those_of_the_facts():
    facts = json.loads(FACTS.read_text())
    known = facts["curated_list"]
    assert PUBLISHED["val2017"] == (known["val_images"], known["val_sha256"])
    assert PUBLISHED["train2017"] == (known["train_images"], known["train_sha256"])


def test_nothing_curated_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no photo of val2017 fulfils"):
        curated_list("val2017", ["000000000002"], Reader(MAPS), tmp_path)


def test_a_list_from_a_file(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("a/b.jpg\n\n c.d \nlast")
    assert read_image_list(file).keys == ("a/b", "c.d", "last")
    assert read_image_list(file).digest == hashlib.sha256(b"a/b\nc.d\nlast\n").hexdigest()
    assert ImageList.of(["x"]).digest != ImageList.of(["y"]).digest


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_names_the_photos_that_are_there_in_other_ways(tmp_path, encoding):
    file = tmp_path / "list.txt"
    file.write_bytes("./deep\\e\u0301.jpg\r\nb.jpg\r\nb.png\r\nother.jpg\r\n".encode(encoding))
    known = ["deep/\u00e9", "b.jpg", "b.png"]
    assert read_image_list(file, known).keys == (*known, "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "names no photo; expected"), ("a\na.jpg\n", "names the photo a twice"), (None, "read")],
)
def test_a_list_that_cannot_be_used(tmp_path, content, message):
    if content is not None:
        (tmp_path / "list.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_image_list(tmp_path / "list.txt")
