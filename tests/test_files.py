"""Atomic writing: the old file or the new one, and nothing else in the folder."""

import json
from pathlib import Path

import pytest

from slotseg import files
from slotseg.errors import ConfigError, DataError


@pytest.mark.parametrize("old", [None, b"old"], ids=["new file", "existing file"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, old: bytes | None, error: type[BaseException]) -> None:
    path = tmp_path / "x.bin"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error), files.replacing(path) as temporary:  # noqa: PT012
        assert temporary.parent == path.parent
        temporary.write_bytes(b"half")
        raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_the_name_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "x.bin"
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == [("x.bin", b"new")]


def test_json_is_readable(tmp_path: Path) -> None:
    value = {"name": "Straße", "ids": [1, 2]}
    files.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "Straße" in text
    assert text.endswith("}\n")


def test_values_json_cannot_hold_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, 1)
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert [p.read_text() for p in tmp_path.iterdir()] == ["1\n"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files are read from /proc")
def test_content_is_on_the_disk_before_the_name_and_then_the_name(tmp_path: Path, flushed: list[str]) -> None:
    path = tmp_path / "file"
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert flushed == []
    assert flushed == [str(temporary), str(tmp_path)]
    assert path.read_text() == "new"


def test_what_cannot_be_written_is_said_in_one_sentence() -> None:
    full, path = OSError(28, "disk full"), Path("x")
    with pytest.raises(DataError, match=r"^x cannot .* \(disk full\); choose another --output$"), files.writing(path):
        raise full
    with pytest.raises(ConfigError, match=r"make room$"), files.writing(path, "make room", ConfigError):
        raise full
