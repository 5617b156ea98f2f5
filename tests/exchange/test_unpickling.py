"""Torch files of others: what is read, and what a pickle may try."""

import builtins
import io
import os
import pickle
import tarfile
import warnings
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slotseg.errors import CheckpointError
from slotseg.exchange import unpickling
from slotseg.exchange.unpickling import load_plain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pth"


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that only code in a pickle would write."""
    file = tmp_path / "ran"
    yield file
    assert not file.exists(), "code in the file was run"


# what is read


def test_tensors_and_options_are_read(path: Path) -> None:
    options = Namespace(arch="resnet18", lr=0.5, epochs=3, amp=True, resume=None, sizes=[1, 2], range=(0.1, 1.0))
    state = OrderedDict(a=torch.arange(3.0), b=nn.Parameter(torch.ones(2)))
    torch.save({"args": options, "model": state, "epoch": 3, "state": {0: {"mu": torch.zeros(1)}}}, path)
    content = load_plain(path)
    assert content["args"] == options
    assert type(content["model"]) is dict
    assert {type(v) for v in content["model"].values()} == {Tensor}
    assert not content["model"]["b"].requires_grad
    assert torch.equal(content["model"]["a"], torch.arange(3.0))
    assert (content["epoch"], list(content["state"])) == (3, [0])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_torchs_first_format_and_other_protocols(path: Path, protocol: int) -> None:
    with path.open("wb") as file:
        torch.save({"a": torch.ones(2), "args": Namespace(x=1)}, file, pickle_protocol=protocol)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if protocol == 4:  # has operations that torch does not read
            with pytest.raises(CheckpointError):
                load_plain(path)
            return
        assert load_plain(path)["args"] == Namespace(x=1)
    with path.open("wb") as file:
        torch.save({"a": torch.ones(2)}, file, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    assert torch.equal(load_plain(path)["a"], torch.ones(2))


def test_what_this_process_allows_is_neither_used_nor_lost(path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([Fraction])
    try:
        torch.save({"a": Fraction(1, 2)}, path)
        with pytest.raises(CheckpointError, match=r"names fractions\.Fraction"):
            load_plain(path)
        assert set(torch.serialization.get_safe_globals()) == {*before, Fraction}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_namespaces_are_allowed_only_meanwhile(path: Path) -> None:
    torch.save(Namespace(a=1), path)
    assert load_plain(path) == Namespace(a=1)
    assert Namespace not in torch.serialization.get_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


# what is refused


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class Options(Namespace):
    """Not the namespace it seems."""


def a_function() -> None:
    """Nothing that runs by itself."""


def attacks(canary: Path) -> dict[str, Any]:
    write = f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": Runs(os.system, f"touch {canary}"),
        "eval": Runs(builtins.eval, write.replace(".close()", "")),
        "exec": Runs(builtins.exec, write),
        "getattr": Runs(builtins.getattr, "text", "upper"),
        "import": Runs(builtins.__import__, "antigravity"),
        "open": Runs(builtins.open, str(canary), "w"),
        "touch": Runs(Path.touch, canary),
        "pickle in a pickle": Runs(pickle.loads, pickle.dumps(Runs(Path.touch, canary))),
        "torch.load": Runs(torch.load, str(canary)),
        "a subclass of Namespace": Options(a=1),
        "a function": a_function,
        "a class": Path,
        "a module": nn.Linear(1, 1),
    }


KINDS = list(attacks(Path()))


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["namespace", "value", "key", "whole", "state"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_that_names_anything_else_is_refused(
    path: Path, canary: Path, kind: str, place: str, form: str
) -> None:
    evil = attacks(canary)[kind]
    content: Any = {
        "namespace": {"args": Namespace(a=1, b=[evil])},
        "value": {"model": {"a": torch.ones(1), "b": evil}},
        "key": {evil: 1} if kind != "a subclass of Namespace" else [evil],  # it has no hash
        "whole": evil,
        "state": OrderedDict(a=torch.ones(1)),
    }[place]
    if place == "state":
        content._metadata = evil
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match="hold more than tensors"):
        load_plain(path)


def test_the_attacks_work_where_nothing_stops_them(path: Path, tmp_path: Path) -> None:
    canary = tmp_path / "runs elsewhere"
    for kind in ("touch", "exec", "pickle in a pickle"):
        torch.save(attacks(canary)[kind], path)
        torch.load(path, weights_only=False)
        assert canary.exists(), kind
        canary.unlink()


def raw(path: Path, program: bytes) -> None:
    """A torch file whose pickle is written by hand."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in contents.items():
            archive.writestr(name, program if name.endswith("data.pkl") else data)


NAMESPACE = b"cargparse\nNamespace\n)\x81"


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02cargparse\nos\n.",
        b"\x80\x02cargparse\n_sys\n.",
        b"\x80\x04\x8c\x08argparse\x8c\tNamespace\x93.",
        b"\x80\x02" + NAMESPACE + b"}X\x01\x00\x00\x00acbuiltins\nprint\nsb.",
        b"\x80\x02" + NAMESPACE + b"N}X\x09\x00\x00\x00__class__cbuiltins\neval\ns\x86b.",
        b"\x80\x02" + NAMESPACE + b"}X\x01\x00\x00\x00acargparse\nNamespace\nsb.",
        b"\x80\x02" + NAMESPACE + b"}K\x01K\x01sb.",
        b"\x80\x02cargparse\nNamespace\n.",
        b"\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo.",
        b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02}c_codecs\nencode\nX\x01\x00\x00\x00a\x85RK\x01s.",
        b"\x80\x02ccollections\nCounter\n)R.",
    ],
    ids=[
        "system",
        "eval of Python 2",
        "a module of argparse",
        "another",
        "a global from the stack",
        "a function in a namespace",
        "another class for a namespace",
        "a class in a namespace",
        "an option without a name",
        "the class itself",
        "OBJ",
        "INST",
        "an extension",
        "a list in itself",
        "a key of bytes",
        "a counter",
    ],
)
def test_pickles_written_by_hand(path: Path, program: bytes) -> None:
    raw(path, program)
    if program.endswith(b"Counter\n)R."):  # a dict of its kind, copied as one
        assert load_plain(path) == {}
        return
    with pytest.raises(CheckpointError, match="hold more than tensors"):
        load_plain(path)


def test_lists_of_lists_without_end_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "MOST_VALUES", 10_000)
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]
    torch.save(value, path)
    with pytest.raises(CheckpointError, match="more than 10,000 values"):
        load_plain(path)


@pytest.mark.parametrize(
    "value", [b"bytes", {1, 2}, 1j, torch.float32, torch.device("cpu"), torch.ones(2, device="meta"), {(1, 2): 3}]
)
def test_values_that_are_not_plain_are_refused(path: Path, value: Any) -> None:
    torch.save({"args": Namespace(a=value)}, path)
    with pytest.raises(CheckpointError, match="hold more than tensors"):
        load_plain(path)


def test_what_hangs_on_a_state_dict_is_left_behind(path: Path) -> None:
    state: Any = OrderedDict(a=torch.ones(1))
    state._metadata = {"b": 1}
    torch.save([state, Counter(a=2), torch.Size([1, 2])], path)
    content = load_plain(path)
    assert [type(v) for v in content] == [dict, dict, tuple]


def test_a_program_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
    with pytest.raises(CheckpointError, match="a TorchScript program"):
        load_plain(path)


def test_a_zip_of_other_files_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"")
    with pytest.raises(CheckpointError, match="a zip archive, but not torch's"):
        load_plain(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS: fetch it"),
        (b"\n<!DOCTYPE html>\n<title>404</title>", "a web page"),
        (b"<html><body>Sign in</body></html>", "a web page"),
    ],
)
def test_what_a_download_left_is_named(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_plain(path)


@pytest.mark.parametrize("with_zip", [False, True])
def test_an_archive_of_torchs_first_format_is_refused(path: Path, canary: Path, with_zip: bool) -> None:
    data = pickle.dumps(Runs(Path.touch, canary))
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    if with_zip:  # at the end, where a reader of zip files would look
        with zipfile.ZipFile(path, "a") as appended:
            appended.writestr("archive/data.pkl", b"")
    with pytest.raises(CheckpointError, match="a tar archive"):
        load_plain(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(600), b"PK\x03\x04" + bytes(60)])
def test_damaged_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_plain(path)


def test_a_cut_file_is_refused(path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is damaged"):
            load_plain(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(CheckpointError, match="is damaged"):
            load_plain(path)
