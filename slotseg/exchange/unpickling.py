"""Torch files of others: tensors and plain options are read, and nothing that a pickle could run.

A torch file is a pickle, and a pickle may name any function to be called while it is read. torch's weights-only reader
calls only those that rebuild tensors. Here it may also make an ``argparse.Namespace``, in which training scripts store
their options. What comes out is copied, so that only plain values are handed on.
"""

import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from slotseg.errors import CheckpointError

UNREADABLE = (
    OSError,
    EOFError,
    MemoryError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    SafetensorError,  # torch reads files of that suffix too
)
"""Errors that ``torch.load`` raises, weights only, for files that are foreign, damaged or unsafe."""
ZIP = b"PK\x03\x04"
LFS = b"version https://git-lfs"
"""Start of the text that Git leaves in place of a file where Git LFS is not installed."""
PAGES = (b"<!doctype html", b"<html")
MOST_VALUES = 1_000_000
"""Most values that a file may hold, as a few bytes can stand for a list of lists without end."""


def load_plain(path: Path) -> Any:
    """Read a torch file that holds only tensors and plain values. Nothing in it is run.

    Returns:
        Tensors on the CPU, str, int, float, bool and None, in dict, list, tuple and ``argparse.Namespace``.

    Raises:
        CheckpointError: If the file is missing, damaged or holds anything else.
    """
    try:
        _refuse_other_files(path)
        with _namespaces_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old formats, of no use to the caller
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _Plain().copy(content)
    except UNREADABLE as error:
        raise CheckpointError(
            f"{path} is damaged or may hold more than tensors and plain options ({_reason(error)}); expected a "
            "safetensors file or a torch file of them only: save the state dict alone, where you trust the file"
        ) from error


def _refuse_other_files(path: Path) -> None:
    """Refuse what is no weights file at first sight, and files that ``torch.load`` hands to other readers.

    Some of these readers were unsafe before torch 2.6.

    Raises:
        ValueError: If the file is empty, a program (TorchScript), another zip archive, an archive of torch's first
            format (tar), or what a download left instead of a file.
    """
    with path.open("rb") as file:
        start = file.read(len(LFS))
    if not start:
        raise ValueError("it is empty")
    if start == LFS:
        raise ValueError("a pointer of Git LFS: fetch it with git lfs pull")
    if start.lstrip().lower().startswith(PAGES):
        raise ValueError("a web page")
    if start.startswith(ZIP):  # at its start, which is where torch looks
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name for name in archive.namelist()}
        if "constants.pkl" in names:
            raise ValueError("a TorchScript program")
        if "data.pkl" not in names:
            raise ValueError("a zip archive, but not torch's")
    elif tarfile.is_tarfile(path):
        raise ValueError("a tar archive")


@contextmanager
def _namespaces_only() -> Iterator[None]:
    """Let torch make namespaces for a while, and nothing that was allowed elsewhere in this process."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([Namespace])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


class _Plain:
    """Copies values by their exact types, without whatever else hangs on them."""

    def __init__(self) -> None:
        self.count = 0

    def copy(self, value: Any) -> Any:
        """The value without anything that is not plain.

        Raises:
            TypeError: If the value, or a value in it, is of another type.
            ValueError: If there are too many values.
        """
        self.count += 1
        if self.count > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        if value is None or type(value) in (str, int, float, bool):
            return value
        if type(value) in (Tensor, nn.Parameter):
            return _plain_tensor(value)
        if type(value) is Namespace:
            return Namespace(**{_name(k): self.copy(v) for k, v in vars(value).items()})
        if isinstance(value, dict):
            return {_key(k): self.copy(v) for k, v in value.items()}
        if type(value) is list:
            return [self.copy(v) for v in value]
        if isinstance(value, tuple):
            return tuple(self.copy(v) for v in value)
        raise TypeError(f"a value of type {type(value).__name__}")


def _plain_tensor(value: Tensor) -> Tensor:
    if value.device.type != "cpu" or value.layout != torch.strided or value.is_quantized or value.is_nested:
        raise TypeError("a tensor that is no table of numbers")
    return value.detach()


def _name(key: object) -> str:
    if type(key) is not str:
        raise TypeError("an option whose name is no text")
    return key


def _key(key: object) -> object:
    if type(key) not in (str, int):
        raise TypeError(f"a key of type {type(key).__name__}")
    return key


def _reason(error: BaseException) -> str:
    """The reason of an error in a few words. Of torch's long text, the name that it refuses."""
    text = str(error)
    refused = re.search(r"GLOBAL ([\w.]+)", text)
    if refused:
        return f"it names {refused[1]}"
    ours = isinstance(error, TypeError | ValueError) and 0 < len(text) < 60
    return text.splitlines()[0] if ours else type(error).__name__
