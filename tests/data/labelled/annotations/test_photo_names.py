"""Names in annotation files are photos in folders, or they are not; never the wrong ones."""

import re
from pathlib import Path

import pytest

from slotseg.data.labelled.annotations.photo_names import file_named, files_of_photos, find_photos
from slotseg.errors import DataError


@pytest.mark.parametrize(
    ("keys", "names", "expected"),
    [
        (["a", "deep/b"], ["deep/b.jpg", "a.png"], {"a": 1, "deep/b": 0}),
        (["a"], ["images/day/a.jpg"], {"a": 0}),
        (["day/a"], ["a.JPG"], {"day/a": 0}),
        (["day/a", "night/a"], ["x/night/a.jpg", "x/day/a.jpg"], {"day/a": 1, "night/a": 0}),
        (["day/a"], ["night/a.jpg"], {}),
        (["day/a", "night/a"], ["a.jpg"], {}),
        (["a", "night/a"], ["a.jpg"], {"a": 0}),
        (["a", "night/a"], ["night/a.jpg", "a.jpg"], {"a": 1, "night/a": 0}),
        (["a"], ["upload\\1\\a.jpg"], {"a": 0}),
        (["a"], ["/data/local-files/?d=photos/a.jpg"], {"a": 0}),
        (["../a"], ["./a.jpg"], {"../a": 0}),
        (["c.d", "e.f"], ["c.d.JPG", "e.f"], {"c.d": 0, "e.f": 1}),
        (["a.jpg", "a.png"], ["a.png", "a.jpg"], {"a.jpg": 1, "a.png": 0}),
        (["a"], ["A.jpg", "ba.jpg", "a.b.jpg"], {}),
        (["a"], [], {}),
        (["\u00fc/\u00e9"], ["u\u0308/e\u0301.jpg"], {"\u00fc/\u00e9": 0}),
        (["a"], ["", "/"], {}),
    ],
)
def test_a_name_is_the_photo_as_far_as_both_go(keys: list[str], names: list[str], expected: dict[str, int]) -> None:
    assert find_photos(keys, names, "file") == expected


@pytest.mark.parametrize("names", [["a.jpg", "a.png"], ["day/a.jpg", "night/a.jpg"], ["a.jpg", "a.jpg"]])
def test_two_names_of_one_photo_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError, match=rf"x\.json has {names[0]} and {names[1]}, which may both be the photo a;"):
        find_photos(["a"], names, "x.json")


def test_a_whole_name_goes_before_a_part() -> None:
    assert find_photos(["a"], ["night/a.jpg", "a.jpg"], "file") == {"a": 1}


def test_files_of_photos_are_those_of_the_longest_name(tmp_path: Path) -> None:
    """In the photos' subfolders, else in the folder itself, in any form of Unicode, without hidden files."""
    for name in ("a.x", "a_b.x", "a.y", ".a.x", "e\u0301/c.X", "\u0064.x", "e\u0301/d.x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    end = re.compile(r"(_b)?(?P<end>\.x)", re.IGNORECASE)
    keys = ["a", "a_b", "\u00e9/c", "\u00e9/d", "f/a"]
    found = {"a": {"a.x": ".x"}, "a_b": {"a_b.x": ".x"}}
    below = {"\u00e9/c": {"e\u0301/c.X": ".x"}, "\u00e9/d": {"e\u0301/d.x": ".x"}}
    assert files_of_photos(tmp_path, keys, end) == found | below
    assert files_of_photos(tmp_path, ["a"], end) == {"a": {"a.x": ".x", "a_b.x": ".x"}}
    assert files_of_photos(tmp_path, ["a"], end, left_out=["a.x"]) == {"a": {"a_b.x": ".x"}}
    assert files_of_photos(tmp_path, ["f/a_b"], end, flat=True) == {"f/a_b": {"a_b.x": ".x"}}


def test_a_file_by_its_name(tmp_path: Path) -> None:
    assert file_named(tmp_path, "a.json") == tmp_path / "a.json"
    (tmp_path / "A.JSON").touch()
    assert file_named(tmp_path, "a.json").name == "A.JSON"
    (tmp_path / "a.json").touch()
    assert file_named(tmp_path, "a.json").name == "a.json"
