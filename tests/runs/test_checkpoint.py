"""Checkpoints: what is written is read back; what is not ours is refused in one sentence."""

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import slotseg
from slotseg.errors import CheckpointError
from slotseg.runs import checkpoint

TENSORS = {
    "student.a": torch.arange(6.0).reshape(2, 3),
    "student.b": torch.arange(6.0).reshape(2, 3).T,
    "teacher.a": torch.ones(2, dtype=torch.bfloat16, requires_grad=True),
    "optimizer.0.step": torch.tensor(3),
}
INFO: dict[str, Any] = {"kind": "run", "config": {"seed": 1, "área": [0.1, None]}, "step": 7}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "checkpoints" / "last.safetensors"
    checkpoint.save(file, TENSORS, INFO)
    return file


def test_round_trip(path: Path) -> None:
    content = checkpoint.load(path)
    assert content.info == {**INFO, "format": 1, "version": slotseg.__version__}
    assert content.info == checkpoint.read_header(path)
    assert content.tensors.keys() == TENSORS.keys()
    for key, tensor in TENSORS.items():
        assert content.tensors[key].dtype == tensor.dtype
        assert torch.equal(content.tensors[key], tensor)
    assert content.part("student.").keys() == {"a", "b"}
    assert content.part("optimizer.").keys() == {"0.step"}


def test_digest_is_the_sha256_of_the_file(path: Path) -> None:
    assert checkpoint.digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _headless(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"student.a": [1.0]}))


def _torchs(path: Path) -> None:
    torch.save(TENSORS, path)


def _with_header(text: str | None) -> Any:
    def write(path: Path) -> None:
        save_file({"a": torch.zeros(1)}, path, metadata={"slotseg": text} if text is not None else {"format": "pt"})

    return write


def _of_field(name: str, value: object) -> Any:
    return _with_header(json.dumps({"format": 1, "config": {}, name: value}))


@pytest.mark.parametrize("read", [checkpoint.load, checkpoint.read_header])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, "damaged or no safetensors file"),
        (_headless, "damaged or no safetensors file"),
        (_empty, "damaged or no safetensors file"),
        (_pickled, "damaged or no safetensors file"),
        (_torchs, "damaged or no safetensors file"),
        (_with_header("{"), "damaged or no safetensors file"),
        (_with_header(None), "was not written by slotseg"),
        (_with_header("[1]"), "was not written by slotseg"),
        (
            _with_header(json.dumps({"format": 2, "version": "9.0"})),
            "has format 2 of slotseg 9.0; this version reads 1",
        ),
        (_with_header("{}"), "has format None"),
        (_with_header(json.dumps({"format": 1, "step": 3})), "has a damaged header; expected config"),
        (_with_header(json.dumps({"format": 1, "config": [], "step": 3})), "has a damaged header; expected config"),
        (_of_field("step", "x"), 'has a damaged header: step is "x"; expected a whole number from 0'),
        (_of_field("step", -1), "has a damaged header: step is -1; expected a whole number from 0"),
        (_of_field("computed_in", "cpu"), 'computed_in is "cpu"; expected values by name'),
        (_of_field("photos", 5), "photos is 5; expected files and folders in a list"),
        (_of_field("preset", []), r"preset is \[\]; expected a text"),
        (Path.unlink, "is not a file"),
    ],
    ids=[
        "cut",
        "headless",
        "empty",
        "pickle",
        "torch",
        "json",
        "none",
        "list",
        "newer",
        "formatless",
        "missing",
        "no config",
        "list for config",
        "text for step",
        "step before 0",
        "text for values",
        "number for photos",
        "list for text",
    ],
)
def test_what_is_not_ours_is_refused(path: Path, spoil: Any, message: str, read: Any) -> None:
    spoil(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"a": (2, 3), "b": (1,)}, ""),
        ({"a": (2, 3)}, "it lacks b"),
        ({"a": (2, 4), "b": (1,)}, "a has shape (2, 4) and not (2, 3)"),
        ({"a": (2, 3), "b": (1,), "c": (1,)}, "it holds c, which is unknown"),
    ],
)
def test_what_keeps_tensors_from_fitting(found: dict[str, tuple[int, ...]], problem: str) -> None:
    expected = {"a": torch.zeros(2, 3), "b": torch.zeros(1)}
    assert checkpoint.misfit({key: torch.ones(shape) for key, shape in found.items()}, expected) == problem


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a file"):
        checkpoint.load(tmp_path)


def test_a_failed_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = path.read_bytes()

    def full(_: object, file: Path, **__: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"last\.safetensors cannot be written: .*No space left"):
        checkpoint.save(path, TENSORS, INFO)
    assert [p.read_bytes() for p in path.parent.iterdir()] == [old]


def test_an_impossible_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(tmp_path / "file" / "x.safetensors", TENSORS, INFO)


def test_others_may_read_a_checkpoint_as_any_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    checkpoint.save(tmp_path / "run.safetensors", {"a": torch.zeros(1)}, {})
    assert (tmp_path / "run.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
