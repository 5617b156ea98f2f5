import io
import logging
import os
import pickle
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slotseg.data.finding import listing
from slotseg.data.finding.listing import Listing, list_images, list_photos
from slotseg.data.finding.walk import IMAGE_SUFFIXES, NO_FOLDER, Walk, folder_state
from slotseg.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of links and of bytes as names")

NAMES = ["b/c/deep.jpg", "b-c.jpg", "b/2.JPG", "b/10.png", "a.webp", "ünïcode 照片.jpg", "b/with spaces/x y.tif"]
ODD_NAME = os.fsdecode(b"not utf-8 \xff\xe9.jpg")


@pytest.fixture
def cache_dir(tmp_path, monkeypatch):
    """Where listings are cached; from one photo on and however young the folders are."""
    monkeypatch.setenv("SLOTSEG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "CACHED_FROM", 1)
    monkeypatch.setattr(listing, "SETTLED_NS", -(10**12))
    return tmp_path / "cache" / "listings"


@pytest.fixture
def tree(tmp_path):
    """A folder whose subfolders have rested for an hour, with a link to a folder outside."""
    others = ["b/notes.txt", "b/.hidden.jpg", ".cache/x.png", "../outside/o.jpg", "../other/p.jpg"]
    for name in [*NAMES, ODD_NAME, *others]:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "outside")
    rest(tmp_path)
    return tmp_path / "photos"


def rest(folder):
    an_hour_ago = time.time() - 3600
    for parent, _, _ in os.walk(folder):
        os.utime(parent, (an_hour_ago, an_hour_ago))


def expected(root):
    return sorted(root / name for name in [*NAMES, ODD_NAME, "link/o.jpg"])


def forbid_walking(monkeypatch):
    for name in ("scandir", "walk", "listdir"):
        monkeypatch.setattr(os, name, lambda *_, **__: pytest.fail("the folder was walked"))


# the sequence


def as_listing(*names):
    return Listing(b"".join(os.fsencode(name) + b"\0" for name in names))


def test_a_listing_is_a_sequence_of_paths():
    paths = as_listing("a.jpg", ODD_NAME, "sub/ü.png")
    assert list(paths) == [Path("a.jpg"), Path(ODD_NAME), Path("sub/ü.png")]
    assert (len(paths), paths[-1], paths[np.int64(1)]) == (3, Path("sub/ü.png"), Path(ODD_NAME))
    assert paths[1:] == list(paths)[1:]
    assert Path("a.jpg") in paths
    for index in (3, -4):
        with pytest.raises(IndexError):
            paths[index]
    assert list(as_listing()) == []


def test_listings_are_equal_by_their_paths():
    assert as_listing("a", "b") == as_listing("a", "b")
    assert as_listing("a", "b") != as_listing("ab")
    assert as_listing("a") != [Path("a")]


def test_a_listing_costs_its_bytes_and_survives_pickling():
    paths = as_listing(*(f"folder/{i:08}.jpg" for i in range(1000)))
    pickled = pickle.dumps(paths)
    assert len(pickled) < 1000 * (len("folder/00000000.jpg") + 1 + 8) + 1000
    assert pickle.loads(pickled) == paths


# the walk


def test_lists_as_sorted_paths(tree):
    assert list(list_photos([tree])) == list_images(tree) == expected(tree)


@pytest.mark.parametrize("start", [".", "photos", "photos/../photos/"])
def test_paths_start_as_they_were_given(tree, monkeypatch, start):
    monkeypatch.chdir(tree if start == "." else tree.parent)
    assert list(list_photos([Path(start)])) == [Path(start, p.relative_to(tree)) for p in expected(tree)]
    assert list(list_photos([Path(start)] * 2)) == list(list_photos([Path(start)]))


def test_overlapping_inputs_give_each_file_once(tree):
    inputs = [tree / "b", tree / "b" / "2.JPG", tree, tree / "b" / "notes.txt", tree.parent / "other"]
    more = [tree / "b" / "notes.txt", tree.parent / "other" / "p.jpg"]
    assert list(list_photos(inputs)) == sorted([*expected(tree), *more])


def test_overlapping_inputs_may_be_spelled_differently(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert list_photos([tree, Path(".")]) == list_photos([tree])
    mixed = [p.relative_to(tree) for p in expected(tree)]
    assert list(list_photos([Path("b"), Path("."), tree])) == mixed


def test_a_folder_and_a_link_beside_it_are_entered_once(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.jpg").touch()
    for name, target in [("a", "b"), ("c", "b"), ("b/loop", ".."), ("self", "self")]:
        (tmp_path / name).symlink_to(target)
    assert list(list_photos([tmp_path])) == [tmp_path / "a" / "1.jpg"]


@pytest.mark.parametrize(
    ("name", "message"), [("gone", "gone does not exist: expected a photo"), ("empty", "no photo in .*empty.*")]
)
def test_refuses_useless_inputs(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    for inputs in ([tmp_path / name], [tmp_path, tmp_path / name]):
        (tmp_path / "1.jpg").touch()
        with pytest.raises(DataError, match=message) as error:
            list_photos(inputs)
        assert name == "gone" or all(suffix in str(error.value) for suffix in IMAGE_SUFFIXES)


def test_a_folder_that_cannot_be_listed_is_named(tree, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if path.rstrip("/").endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match=r"^cannot list .*/b \(Permission denied\): check its permissions$"):
        list_photos([tree])


# the cache


def test_a_second_listing_does_not_walk(tree, cache_dir, monkeypatch, caplog):
    first = list_photos([tree])
    assert caplog.text == ""
    (file,) = cache_dir.iterdir()
    forbid_walking(monkeypatch)
    caplog.set_level(logging.INFO)
    assert list_photos([tree]) == first
    assert list(first) == expected(tree)
    assert caplog.messages == [f"{tree}: listing of {len(first)} photos from the cache {file}"]


def test_the_cache_serves_every_spelling_of_a_folder(tree, cache_dir, monkeypatch):
    list_photos([tree])
    monkeypatch.chdir(tree)
    forbid_walking(monkeypatch)
    assert list(list_photos([Path(".")])) == [p.relative_to(tree) for p in expected(tree)]
    assert list(list_photos([tree, tree / "b" / "2.JPG"])) == expected(tree)


def retarget(root):
    (root / "link").unlink()
    (root / "link").symlink_to(root.parent / "other")


def touch_unnoticed(root):
    """A file that a copying tool adds before it sets the folder's time back."""
    before = os.stat(root / "b")
    time.sleep(0.02)  # times are as coarse as the kernel's clock
    (root / "b" / "new.jpg").touch()
    os.utime(root / "b", ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "added": (lambda root: (root / "b/c/new.jpg").touch(), {"b/c/new.jpg"}, set()),
    "removed": (lambda root: (root / "b/c/deep.jpg").unlink(), set(), {"b/c/deep.jpg"}),
    "renamed": (lambda root: (root / "b/c/deep.jpg").rename(root / "b/c/e.jpg"), {"b/c/e.jpg"}, {"b/c/deep.jpg"}),
    "no photo any more": (lambda root: (root / "a.webp").rename(root / "a.old"), set(), {"a.webp"}),
    "subfolder moved in": (lambda root: (root.parent / "other").rename(root / "b/c/d"), {"b/c/d/p.jpg"}, set()),
    "subfolder removed": (lambda root: (root / "b/c").rename(root.parent / "c"), set(), {"b/c/deep.jpg"}),
    "link retargeted": (retarget, {"link/p.jpg"}, {"link/o.jpg"}),
    "added behind a link": (lambda root: (root.parent / "outside/n.jpg").touch(), {"link/n.jpg"}, set()),
    "time set back": (touch_unnoticed, {"b/new.jpg"}, set()),
}


@pytest.mark.parametrize(("change", "more", "fewer"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(tree, cache_dir, monkeypatch, change, more, fewer):
    before = {p.relative_to(tree).as_posix() for p in list_photos([tree])}
    change(tree)
    after = list_photos([tree])
    assert {p.relative_to(tree).as_posix() for p in after} == (before | more) - fewer != before
    forbid_walking(monkeypatch)
    assert list_photos([tree]) == after  # which replaced the cache


@pytest.mark.parametrize("where", ["mounted", "moved"])
def test_a_change_of_what_a_link_leads_to_is_seen(tree, cache_dir, where):
    """Neither touches a folder that was walked."""
    moving = tree.parent / "moving"
    (tree / "later").symlink_to(moving)
    if where == "moved":
        moving.symlink_to(tree / "b")  # which is known by its own name
    before = list(list_photos([tree]))
    moving.unlink(missing_ok=True)
    moving.symlink_to(tree.parent / "other")
    assert list(list_photos([tree])) == sorted([*before, tree / "later" / "p.jpg"])


def whole_file_of(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


DAMAGE = {
    "empty": lambda content: b"",
    "text": lambda content: b"no listing",
    "cut off": lambda content: content[: len(content) // 2],
    "one byte": lambda content: content.replace(b"deep.jpg", b"deeq.jpg"),
    "an array": lambda content: content[content.index(b"\x93NUMPY") :],
    "foreign": lambda content: whole_file_of(pixels=np.zeros(3)),
    "pickled": lambda content: whole_file_of(rules=np.array([{}])),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_walked_anew(tree, cache_dir, monkeypatch, caplog, damage):
    first = list_photos([tree])
    (file,) = cache_dir.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert list_photos([tree]) == first
    assert caplog.text == ""
    forbid_walking(monkeypatch)
    assert list_photos([tree]) == first  # written anew as well


def test_a_cache_by_other_rules_is_not_used(tree, cache_dir, monkeypatch):
    with monkeypatch.context() as other:
        other.setattr("slotseg.data.finding.walk.IMAGE_SUFFIXES", (".webp",))
        other.setattr(listing, "_RULES", b"1 .webp")
        assert list(list_photos([tree])) == [tree / "a.webp"]
    assert list(list_photos([tree])) == expected(tree)


def test_a_cache_that_cannot_be_written_costs_nothing(tree, cache_dir, caplog):
    cache_dir.parent.write_text("a file where the folder should be")
    assert list(list_photos([tree])) == list(list_photos([tree])) == expected(tree)
    assert caplog.text == ""


def test_a_small_folder_is_not_cached(tree, cache_dir, monkeypatch):
    monkeypatch.setattr(listing, "CACHED_FROM", len(expected(tree)) + 1)
    list_photos([tree])
    assert not cache_dir.exists()
    monkeypatch.setattr(listing, "CACHED_FROM", len(expected(tree)))
    list_photos([tree])
    assert len(list(cache_dir.iterdir())) == 1


@pytest.mark.parametrize("age", ["young", "timeless"])
def test_a_folder_whose_time_says_nothing_is_not_cached(tree, cache_dir, monkeypatch, age):
    monkeypatch.setattr(listing, "SETTLED_NS", 2 * 10**9)
    moments = {"young": time.time_ns(), "timeless": 0, "settled": time.time_ns() - 10**11}

    def states(name):
        return lambda path: (moments[name if str(path).endswith("b/c") else "settled"], moments["settled"], 1)

    monkeypatch.setattr("slotseg.data.finding.walk.folder_state", states(age))
    assert list(list_photos([tree])) == expected(tree)
    assert not cache_dir.exists()
    monkeypatch.setattr("slotseg.data.finding.walk.folder_state", states("settled"))
    list_photos([tree])
    assert cache_dir.exists()


def test_a_folder_just_made_is_not_cached(tree, cache_dir, monkeypatch):
    monkeypatch.setattr(listing, "SETTLED_NS", 10**11)
    list_photos([tree])
    assert not cache_dir.exists()


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"SLOTSEG_CACHE_DIR": "{}/own", "XDG_CACHE_HOME": "{}/xdg"}, "own"),
        ({"SLOTSEG_CACHE_DIR": "", "XDG_CACHE_HOME": "{}/xdg"}, "xdg/slotseg"),
        ({"SLOTSEG_CACHE_DIR": "", "XDG_CACHE_HOME": ""}, "home/.cache/slotseg"),
    ],
)
def test_where_listings_are_cached(tree, cache_dir, tmp_path, monkeypatch, variables, folder):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    list_photos([tree])
    assert len(list((tmp_path / folder / "listings").glob("*.npz"))) == 1


def test_only_a_folder_has_a_state(tree):
    assert min(folder_state(str(tree))) > 0
    assert folder_state(str(tree / "a.webp")) == folder_state(str(tree / "gone")) == NO_FOLDER
    assert set(Walk(tree).folders) == {"", "b", "b/c", "b/with spaces", "link"}


def test_a_file_given_by_hand_is_taken_whatever_its_name(tree):
    odd = [tree / "b" / ".hidden.jpg", tree / "b" / "notes.txt"]
    assert list_images(odd) == odd
    assert list_images(str(odd[1])) == list_images(odd[1]) == odd[1:]


def test_a_hidden_folder_given_by_hand_is_searched(tree):
    assert list_images([tree / ".cache"]) == [tree / ".cache" / "x.png"]
