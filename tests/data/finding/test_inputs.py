"""What words stand for, and where the outputs of each image go."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slotseg.data.finding.inputs import Inputs
from slotseg.data.finding.photo_trees import PhotoTree, split_pattern
from slotseg.errors import ConfigError, DataError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made of links and of bytes as names")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def outputs(*words: str | Path, **options: Any) -> dict[str, str]:
    """Output of each input, by its path."""
    items = list(Inputs(words, **options))
    return {item.name: str(item.output(".png")) for item in items if not item.problem}


def problems(*words: str | Path, **options: Any) -> list[str]:
    return [item.problem for item in Inputs(words, **options) if item.problem]


def test_a_folder_is_mirrored(here: Path) -> None:
    touch("p/b.png", "p/a.jpg", "p/deep/er/c.JPG", "p/notes.txt", "p/.hidden.jpg", "p/.cache/x.png", "p/ünï 照片.heic")
    assert list(outputs("p").items()) == [
        ("p/a.jpg", "a.png"),
        ("p/b.png", "b.png"),
        ("p/ünï 照片.heic", "ünï 照片.png"),
        ("p/deep/er/c.JPG", "deep/er/c.png"),
    ]
    assert outputs(here / "p")[f"{here}/p/a.jpg"] == "a.png"
    assert outputs("p/") == outputs("p") == outputs("./p")


def test_photos_of_one_stem_keep_their_suffix_in_their_folder_only(here: Path) -> None:
    touch("p/a.jpg", "p/a.png", "p/a-b.jpg", "p/q/a.jpg", "p/a.jpg.jpg")
    masks = ["a.jpg.png", "a.png.png", "a-b.png", "q/a.png", "a.jpg.jpg.png"]
    assert sorted(outputs("p").values()) == sorted(masks)


def test_a_folder_named_like_a_photo_or_like_a_mask(here: Path) -> None:
    touch("p/x.jpg/in.jpg", "p/y.jpg", "p/y.png/in.jpg")
    assert set(outputs("p").values()) == {"x.jpg/in.png", "y.jpg.png", "y.png/in.png"}


def test_files_go_by_their_names(here: Path) -> None:
    touch("p/a.jpg", "q/b.jpg", "notes.txt", ".hidden.jpg")
    assert outputs("p/a.jpg", "q/b.jpg", "notes.txt", ".hidden.jpg") == {
        "p/a.jpg": "a.png",
        "q/b.jpg": "b.png",
        "notes.txt": "notes.png",
        ".hidden.jpg": ".hidden.png",
    }


def test_files_of_one_name_go_by_their_folders(here: Path) -> None:
    touch("p/1/a.jpg", "p/2/a.jpg", "p/2/b.jpg", "p/3/b.png")
    assert outputs("p/1/a.jpg", "p/2/a.jpg", "p/2/b.jpg", "p/3/b.png") == {
        "p/1/a.jpg": "1/a.png",
        "p/2/a.jpg": "2/a.png",
        "p/2/b.jpg": "b.jpg.png",
        "p/3/b.png": "b.png.png",
    }


@pytest.mark.parametrize(
    ("words", "masks"),
    [
        (["p", "q"], {"p/a.png", "p/s/b.png", "q/a.png"}),
        (["p", "o/p"], {"p/a.png", "p/s/b.png", "o/p/a.png"}),
        (["p", "p"], {"a.png", "s/b.png"}),
        (["p/s", "p"], {"s/b.png", "p/a.png"}),
        (["p", "p/a.jpg"], {"a.png", "s/b.png"}),
        (["q/a.jpg", "p"], {"a.png", "a.jpg.png", "s/b.png"}),
        (["o", "o/p"], {"o/p/a.png"}),
    ],
)
def test_several_words(here: Path, words: list[str], masks: set[str]) -> None:
    touch("p/a.jpg", "p/s/b.jpg", "q/a.jpg", "o/p/a.jpg")
    assert set(outputs(*words).values()) == masks
    assert problems(*words) == []


def test_two_that_cannot_be_told_apart_are_a_problem_of_the_second(here: Path) -> None:
    touch("c.jpg", "d/c.jpg.jpg", "p/b.jpg", "p/c.jpg")
    words = ("c.jpg", "d/c.jpg.jpg", "p")
    assert outputs(*words) == {"c.jpg": "c.png", "d/c.jpg.jpg": "c.jpg.png", "p/b.jpg": "b.png"}
    assert problems(*words) == ["p/c.jpg and another input would both become c.png: segment them one by one"]


def test_links_do_not_loop_and_no_file_comes_twice(here: Path) -> None:
    touch("p/s/a.jpg", "far/f.jpg")
    Path("p/s/loop").symlink_to(here / "p")
    Path("p/s/self").symlink_to("self")
    Path("p/circle.jpg").symlink_to("circle.jpg")
    Path("p/link").symlink_to(here / "far")
    Path("p/twice").symlink_to(here / "far")
    items = {item.name: item for item in Inputs(["p"])}
    assert set(items) == {"p/circle.jpg", "p/link/f.jpg", "p/s/a.jpg"}
    with pytest.raises(DataError, match=r"circle\.jpg is no file"):
        items["p/circle.jpg"].read()
    assert set(outputs("p", "far/f.jpg")) == {"p/circle.jpg", "p/link/f.jpg", "p/s/a.jpg"}
    assert set(outputs("p/**/*.jpg")) == {"p/circle.jpg", "p/link/f.jpg", "p/s/a.jpg"}


def test_the_output_folder_is_left_out(here: Path) -> None:
    touch("p/a.jpg", "p/masks/a.png", "p/sub/b.jpg")
    Path("p/alias").symlink_to(here / "p" / "masks")
    assert set(outputs("p", leave_out=Path("p/masks"))) == {"p/a.jpg", "p/sub/b.jpg"}
    assert set(outputs("p", leave_out=Path("p"))) >= {"p/a.jpg", "p/sub/b.jpg"}


def test_undecodable_names(here: Path) -> None:
    name = os.fsdecode(b"not utf-8 \xff\xe9.jpg")
    touch(f"p/{name}", f"p/{name[:-4]}.png")
    items = list(Inputs(["p"]))
    assert [os.fsencode(item.output(".png")) for item in items] == [
        b"not utf-8 \xff\xe9.jpg.png",
        b"not utf-8 \xff\xe9.png.png",
    ]
    assert items[0].name.encode() == rb"p/not utf-8 \udcff\udce9.jpg"
    with pytest.raises(DataError) as error:
        items[0].read()
    assert str(error.value).encode()
    assert len(list(Inputs([f"p/{name}"]))) == 1
    Path("l.txt").write_bytes(os.fsencode(f"p/{name}\n"))
    assert [item.source for item in Inputs(["@l.txt"])] == [Path("p") / name]


# patterns


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", "r"),
        ("p/*.jpg", "a b1"),
        ("p/b[12].*", "b1 b2"),
        ("p/b?.jpg", "b1"),
        ("p/**", "a b1 b2 c d e"),
        ("p/**/*.jpg", "a b1 c e"),
        ("**/e.jpg", "e"),
        ("p/*/c.jpg", "c"),
        ("p/s*", "c d e"),
        ("p/**/t/*", "e"),
        ("*/s/**/*.jpg", "c e"),
        ("p/*.dat", "x"),
        ("p/**/**/c.jpg", "c"),
    ],
)
def test_patterns(here: Path, pattern: str, found: str) -> None:
    touch("r.jpg", "p/a.jpg", "p/b1.jpg", "p/b2.png", "p/x.dat", "p/s/c.jpg", "p/s/d.tif", "p/s/t/e.jpg", "p/notes.txt")
    assert sorted(Path(name).stem for name in outputs(pattern)) == found.split()
    assert sorted(Path(name).stem for name in outputs(str(here / pattern))) == found.split()


def test_outputs_of_a_pattern_mirror_what_is_below_its_fixed_part(here: Path) -> None:
    touch("p/1/x.jpg", "p/2/x.jpg", "p/2/x.png")
    assert set(outputs("p/*/x.*").values()) == {"1/x.png", "2/x.jpg.png", "2/x.png.png"}
    assert set(outputs("p/*/*.jpg", "p/*/*.png").values()) == {"1/x.png", "2/x.png", "2/x.png.png"}


def test_a_file_named_like_a_pattern_or_like_a_list_is_a_file(here: Path) -> None:
    touch("a[1].jpg", "@x.jpg", "-", "q*/in.jpg")
    assert outputs("a[1].jpg", "@x.jpg", "./-", "q*") == {
        "a[1].jpg": "a[1].png",
        "@x.jpg": "@x.png",
        "-": "-.png",
        "q*/in.jpg": "in.png",
    }


def test_split_pattern() -> None:
    assert split_pattern("/a/b/*/c?.jpg") == (Path("/a/b"), ("*", "c?.jpg"))
    assert split_pattern("*.jpg") == (Path(), ("*.jpg",))
    assert split_pattern("a//b/**/") == (Path("a/b"), ("**",))
    assert split_pattern("a/b") == (Path("a/b"), ())


# lists


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lists_as_editors_write_them(here: Path, encoding: str, newline: str) -> None:
    touch("l/a.jpg", "l/s/with space.png", "l/s/ü.jpg", "far.jpg")
    lines = ["# photos", "", "a.jpg", "  s/with space.png  ", "#", "s/ü.jpg"]
    Path("l/list.txt").write_bytes(newline.join(lines).encode(encoding))
    assert list(outputs("@l/list.txt").values()) == ["a.png", "s/with space.png", "s/ü.png"]


def test_a_list_of_zero_ended_paths_on_stdin(here: Path) -> None:
    touch("p/a.jpg", "p/ b\n.jpg", "p/#c.jpg")
    found = outputs("@-", stdin=io.BytesIO(b"./p/a.jpg\0./p/ b\n.jpg\0./p/#c.jpg\0"))
    assert list(found.values()) == ["p/a.png", "p/ b\n.png", "p/#c.png"]


def test_paths_of_a_list(here: Path) -> None:
    touch("l/a.jpg", "l/a.png", "l/s/a.jpg", "l/d/e.jpg", "l/ spaces .jpg ")
    quoted = f'"{here}/l/s/a.jpg"'
    Path("l/list").write_text(f"a.jpg\na.png\n./a.jpg\n{quoted}\nd\n spaces .jpg \n")
    assert list(outputs("@l/list").values()) == ["a.jpg.png", "a.png.png", "s/a.png", "d/e.png", " spaces .png"]


def test_a_list_of_photos_elsewhere_mirrors_their_common_folder(here: Path) -> None:
    touch("p/1/a.jpg", "p/2/a.jpg")
    Path("l").mkdir()
    Path("l/list.txt").write_text(f"../p/1/a.jpg\n{here}/p/2/a.jpg\n")
    assert list(outputs("@l/list.txt").values()) == ["1/a.png", "2/a.png"]


def test_what_a_list_misses_is_a_problem_of_that_line(here: Path) -> None:
    touch("a.jpg")
    Path("empty").mkdir()
    Path("list.txt").write_text("# one\ngone.jpg\na.jpg\n")
    items = list(Inputs(["@list.txt"]))
    assert [bool(item.problem) for item in items] == [True, False]
    with pytest.raises(DataError, match=r"list\.txt, line 2: gone\.jpg does not exist: correct the list"):
        items[0].read()


def test_a_path_that_is_missing_takes_no_name_from_another(here: Path) -> None:
    touch("p/a.jpg")
    Path("list.txt").write_text("a.jpg\n")
    assert outputs("@list.txt", "p/a.jpg") == {"p/a.jpg": "a.png"}


# stdin


def test_an_image_on_stdin(here: Path) -> None:
    content = io.BytesIO()
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    Image.fromarray(pixels).save(content, "PNG")
    inputs = Inputs(["-"], stdin=io.BytesIO(content.getvalue()))
    for _ in range(2):
        (item,) = inputs
        assert np.array_equal(item.read()[0], pixels)
    assert (inputs.single, str(item.output(".png"))) == (True, "stdin.png")
    (item,) = Inputs(["-"], stdin=io.BytesIO(b"no image"))
    with pytest.raises(DataError, match="the image on stdin is not an image"):
        item.read()


def test_the_keyboard_is_not_waited_for(here: Path) -> None:
    class Keyboard(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(DataError, match="keyboard"):
        Inputs(["-"], stdin=Keyboard(b"x"))


@pytest.mark.parametrize(
    ("words", "single"), [(["a.jpg"], True), (["a.jpg", "b.jpg"], False), (["."], False), (["*.jpg"], False)]
)
def test_single(here: Path, words: list[str], single: bool) -> None:
    touch("a.jpg", "b.jpg")
    assert Inputs(words).single is single


# words that stand for nothing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "an input is empty"),
        ([""], "an input is empty"),
        (["-", "@-"], "two inputs read from stdin"),
        (["gone.jpg"], r"gone\.jpg does not exist; expected a file, folder"),
        (["a.jpg", "gone"], "gone does not exist"),
        (["empty"], r"no photo in empty: expected files ending in \.jpg"),
        (["*.gif"], r"no photo fits \*\.gif"),
        (["gone/*.gif"], "cannot list gone .No such file"),
        (["a.jpg/*.gif"], r"cannot list a\.jpg .Not a directory"),
        (["pipe"], "pipe is a pipe or device"),
        (["@pipe"], "the list pipe is a folder, a pipe or a device"),
        (["broken"], "broken is a link that leads nowhere"),
        (["https://example.org/a.jpg"], "is a web address"),
        (["@gone.txt"], r"the list gone\.txt does not exist"),
        (["@a.jpg"], r"a\.jpg is a photo and no list of paths: leave out the @"),
        (["@comments.txt"], r"comments\.txt names no photo"),
        (["@odd.txt"], "is no list in UTF-16"),
        (["a\0b"], "does not exist"),
        (["x" * 5000], "does not exist"),
        ([os.fsdecode(b"\xff.jpg")], r"\\udcff.jpg does not exist"),
    ],
)
def test_words_that_stand_for_nothing(here: Path, words: Sequence[str], message: str) -> None:
    touch("a.jpg", "empty/notes.txt")
    os.mkfifo("pipe")
    Path("broken").symlink_to("nothing")
    Path("comments.txt").write_text("# none\n\n")
    Path("odd.txt").write_bytes(b"\xff\xfea\0b")
    with pytest.raises((ConfigError, DataError), match=message) as error:
        Inputs(words)
    assert "\n" not in str(error.value)
    assert str(error.value).encode()


@pytest.mark.parametrize("content", [b"", b"\0"])
def test_stdin_without_anything(here: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="stdin"):
        Inputs(["@-"], stdin=io.BytesIO(content))


def test_pipes_in_a_folder_do_not_block(here: Path) -> None:
    touch("p/a.jpg")
    os.mkfifo("p/pipe.jpg")
    (item,) = [item for item in Inputs(["p"]) if "pipe" in item.name]
    with pytest.raises(DataError, match="is no file"):
        item.read()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="nothing is closed to root")
def test_a_closed_subfolder_costs_that_folder(here: Path) -> None:
    touch("p/a.jpg", "p/closed/b.jpg")
    Path("p/closed").chmod(0)
    try:
        (problem,) = problems("p")
    finally:
        Path("p/closed").chmod(0o700)
    assert "cannot list p/closed" in problem


def test_a_subfolder_that_cannot_be_listed_costs_that_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("p/a.jpg", "p/closed/b.jpg", "p/d/e.jpg")
    scandir = os.scandir

    def refused(path: str) -> Any:
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert problems("p") == ["cannot list p/closed (Permission denied): check its permissions"]
    assert set(outputs("p")) == {"p/a.jpg", "p/d/e.jpg"}


def test_folders_are_listed_as_they_are_reached(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(*(f"p/{i}/a.jpg" for i in range(20)))
    listed = []
    entries = PhotoTree._entries

    def noted(self: PhotoTree, inside: str, levels: frozenset[int]) -> Any:
        listed.append(inside)
        return entries(self, inside, levels)

    inputs = Inputs(["p"])
    monkeypatch.setattr(PhotoTree, "_entries", noted)
    next(iter(inputs))
    assert listed == ["", "0/"]
