"""The photos of files and folders as one compact sequence, and the cache that saves a second walk.

A cached listing is used only if the state of every folder is unchanged. A file cannot come, go or be renamed without
changing its folder, so checking a thousand folders replaces looking at a million files. If folders have no times (on
some mounts of object stores), nothing is cached.
"""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from slotseg.data.finding.walk import IMAGE_SUFFIXES, Walk, folder_state, real_folder
from slotseg.errors import DataError
from slotseg.files import replacing

log = logging.getLogger(__name__)

CACHED_FROM = 10_000
"""Number of photos from which on the listing of a folder is cached; fewer are found as fast."""

SETTLED_NS = 2_000_000_000
"""Nanoseconds since the last change before a folder is cached: times are coarse and may miss a later change."""

_RULES = os.fsencode(" ".join(("1", *IMAGE_SUFFIXES)))  # a cache made by other rules is of no use


class Listing(Sequence[Path]):
    """Paths in one buffer.

    A path becomes an object only when it is asked for. A million paths cost only their bytes, and loader
    processes share them. A list would be copied in every process, because counting references writes to it.

    Args:
        paths: Paths as bytes of the file system, each ended by a zero byte.
    """

    def __init__(self, paths: bytes) -> None:
        self._bytes = np.frombuffer(paths, np.uint8)
        self._starts = np.concatenate([[0], np.flatnonzero(self._bytes == 0) + 1])

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        i = range(len(self))[index]
        return Path(os.fsdecode(self._bytes[self._starts[i] : self._starts[i + 1] - 1].tobytes()))

    def __eq__(self, other: object) -> bool:
        return np.array_equal(self._bytes, other._bytes) if isinstance(other, Listing) else NotImplemented


def list_photos(inputs: Sequence[Path]) -> Listing:
    """List the photos among files and folders.

    Folders are searched as in ``slotseg.data.finding.walk``. A file given by hand is taken with any suffix.
    The listing of a large folder is cached in ``$SLOTSEG_CACHE_DIR``, by default ``~/.cache/slotseg``.

    Returns:
        Sorted paths, each file once.

    Raises:
        DataError: If an input does not exist, or a folder cannot be listed or has no photo.
    """
    if len(inputs) == 1 and os.path.isdir(inputs[0]):  # sorted and without repetition as it is
        start = _start(inputs[0])
        return Listing((start + _below(inputs[0]).replace(b"\0", b"\0" + start)).removesuffix(start))
    found: dict[bytes, bytes] = {}
    for path in inputs:
        start = _start(path)
        for name in _below(path).split(b"\0")[:-1]:
            folder, photo = os.path.split(start + name)
            found.setdefault(os.path.join(real_folder(os.path.abspath(folder)), photo), start + name)
    ordered = sorted(found.values(), key=lambda path: os.fsdecode(path).split(os.sep))
    return Listing(b"".join(path + b"\0" for path in ordered))


def list_images(inputs: Path | str | Sequence[Path | str]) -> list[Path]:
    """List the images among files and folders.

    Folders are searched recursively by suffix, following links, without hidden files and folders
    (such as the ``._x`` files of macOS). A file given by hand is taken with any suffix.

    Returns:
        Sorted paths, each file once.

    Raises:
        DataError: If an input does not exist, or a folder cannot be listed or has no photo.
    """
    items = [inputs] if isinstance(inputs, str | Path) else inputs
    return list(list_photos([Path(item) for item in items]))


def _start(path: Path) -> bytes:
    """Start of the paths below an input; the whole path for a file."""
    return os.fsencode(str(path / "_")[:-1] if os.path.isdir(path) else path)


def _below(path: Path) -> bytes:
    """Paths of the photos below an input, each ended by a zero byte. A file gives one empty path."""
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise DataError(f"{path} does not exist: expected a photo or a folder of photos, check the path")
        return b"\0"
    if cached := _from_cache(path):
        return cached
    began, walk = time.time_ns(), Walk(path)
    if not walk.photos:
        raise DataError(
            f"no photo in {path}: expected files ending in {', '.join(IMAGE_SUFFIXES)}; give the folder that holds the "
            "photos, unpack archives, and convert other formats to PNG or JPEG"
        )
    if walk.photos.count(0) >= CACHED_FROM and _settled(walk, began):
        _to_cache(path, walk)
    return bytes(walk.photos)


def _settled(walk: Walk, began: int) -> bool:
    """Whether any later change is sure to show in the states of the folders."""
    times = [moment for mtime, ctime, _ in walk.folders.values() for moment in (mtime, ctime)]
    return 0 not in times and max(times) < began - SETTLED_NS


def _cache_file(folder: Path) -> Path:
    cache_dir = os.environ.get("SLOTSEG_CACHE_DIR")
    parent = Path(cache_dir) if cache_dir else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "slotseg")
    name = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:32]
    return parent.expanduser() / "listings" / f"{name}.npz"


def _from_cache(folder: Path) -> bytes | None:
    """Photos from an earlier walk of a folder, if a walk would find the same now."""
    try:
        file = _cache_file(folder)
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
            if content["rules"].tobytes() != _RULES:
                return None
            names = content["folders"].tobytes().split(b"\0")[:-1]
            for name, state in zip(names, content["states"].tolist(), strict=True):
                if folder_state(os.path.join(os.fsencode(folder), name)) != tuple(state):
                    return None
            photos: bytes = content["photos"].tobytes()
    except FileNotFoundError:
        return None
    except Exception as error:  # on damaged files NumPy and zipfile raise nearly anything
        log.debug("No listing of %s from the cache: %r", folder, error)
        return None
    log.info("%s: listing of %d photos from the cache %s", folder, photos.count(b"\0"), file)
    return photos


def _to_cache(folder: Path, walk: Walk) -> None:
    names = b"".join(os.fsencode(f"{name}\0") for name in walk.folders)
    try:
        with replacing(_cache_file(folder)) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                rules=np.frombuffer(_RULES, np.uint8),
                folders=np.frombuffer(names, np.uint8),
                states=np.array(list(walk.folders.values()), np.int64),
                photos=np.frombuffer(walk.photos, np.uint8),
            )
    except (OSError, RuntimeError) as error:  # expanduser raises RuntimeError where nobody has a home
        log.debug("The listing of %s is not cached: %r", folder, error)
