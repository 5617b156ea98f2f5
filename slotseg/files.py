"""Writing files so that nothing is ever half-written, and where it matters not even by a power cut."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from slotseg import amounts
from slotseg.errors import DataError, SlotSegError

PART = ".part"
LEFTOVERS = (f".*{PART}", ".tmp??????")
"""Patterns of files that a killed process leaves half-written; the second is of those that safetensors writes."""


@contextmanager
def replacing(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name once the block has succeeded.

    After an error, an interruption or a kill ``path`` is as it was.

    Args:
        path: The file; its folder is made if it does not exist.
        flush: Whether to wait until content and name are on the disk, so that not even a power cut takes them. Waiting
            is slow, and files that can be made again do without.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        yield temporary
        if flush:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if flush:
            _flush_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(
    path: Path, advice: str = "choose another --output", kind: type[SlotSegError] = DataError
) -> Iterator[None]:
    """Turn the system's refusal to write an output into a sentence.

    Args:
        path: The output, which the sentence names.
        advice: End of the sentence, which says what to do.
        kind: Class of the error.

    Raises:
        SlotSegError: If the block cannot write; its class is ``kind``.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{path} cannot be written ({error.strerror}); {advice}") from error


def write_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Write a file atomically; ``flush`` as in ``replacing``."""
    with replacing(path, flush=flush) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Write readable JSON atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="replace"))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line. What a power cut has left of a line is skipped."""
    lines = []
    for text in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file, all of it or nothing.

    Raises:
        OSError: If it cannot be written; the file is as it was.
    """
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            written = file.write(content)
            if written != len(content):  # the disk is nearly full
                file.write(content[written:])
        except OSError:
            file.truncate(end)
            raise


def note_failure(file: Path, name: str, message: str) -> None:
    """Add a photo that could not be used to ``failures.jsonl``, a line each, so that an interruption does not lose it.

    Args:
        file: ``failures.jsonl``; its folder exists.
        name: Name of the photo.
        message: Sentence that says what is wrong with it.

    Raises:
        DataError: If it cannot be written.
    """
    line = json.dumps({"file": name, "error": message}, ensure_ascii=False) + "\n"
    with writing(file):
        append(file, line.encode(errors="backslashreplace"))


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process has left half-written in a folder of which this process is the only user."""
    for pattern in LEFTOVERS:
        for part in folder.glob(pattern):
            part.unlink(missing_ok=True)


def missing_space(path: Path, size: int) -> str:
    """Sentence on a file of ``size`` bytes for which the disk of ``path`` has no room; empty if it has room."""
    folder = next(p for p in path.absolute().parents if p.is_dir())
    free = shutil.disk_usage(folder).free
    if free >= size:
        return ""
    need, have, lack = (amounts.size(n) for n in (size, free, size - free))
    return f"it takes {need} and its disk has {have} free: make room for {lack} more"


def _flush_names(folder: Path) -> None:
    """Write a folder's names to its disk, so that no power cut takes a renamed file's new name."""
    with suppress(OSError):  # Windows cannot open a folder, some file systems cannot flush one
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
