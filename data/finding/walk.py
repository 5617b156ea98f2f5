"""The walk that finds the photos below a folder, and how to tell later that it would find the same.

Photos are known by their suffix. Hidden files and folders (the ``._x`` of macOS among them) are
left out; links are followed, and each real folder is entered once, so that they cannot loop.
"""

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import AnyStr

from slotseg.errors import DataError

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".ppm", ".pgm"),
    *(".avif", ".heic", ".heif", ".mpo"),
)
"""What counts as an image inside a folder, in any case; a file given by hand is tried whatever its suffix."""

NO_FOLDER = (-1, -1, -1)
"""The ``folder_state`` of anything but a folder."""


def folder_state(path: str | bytes) -> tuple[int, int, int]:
    """What is not the same once an entry of a folder was added, removed or renamed, or the folder exchanged.

    Returns:
        Its mtime and ctime in nanoseconds and its inode: a copying tool sets the first back, but
        not the second, and folders made together have both in common.
    """
    try:
        status = os.stat(path)
    except OSError:
        return NO_FOLDER
    if not stat.S_ISDIR(status.st_mode):
        return NO_FOLDER
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino % 2**63


class Walk:
    """One walk below a folder.

    Args:
        folder: Where it starts.

    Attributes:
        photos: Their paths below the folder in the order of sorted ``Path``, as the file system's
            bytes, each ended by a zero byte.
        folders: All that decided what was found, by path below the folder, with its ``folder_state``
            before it was listed: the folder itself (an empty path), subfolders, also those known
            by another path already, and links that lead to no folder but might one day (those
            named like a photo stay one).

    Raises:
        DataError: If a folder cannot be listed.
    """

    def __init__(self, folder: Path) -> None:
        self._top = os.path.join(folder, "")
        self._entered = {os.path.realpath(folder)}
        self.photos = bytearray()
        self.folders = {"": folder_state(self._top)}
        self._enter("")

    def _enter(self, inside: str) -> None:
        photos, folders = self._list(inside)
        entering = self._unentered(inside, folders)
        for name in sorted([*photos, *entering]):
            if name in entering:
                self._enter(f"{inside}{name}{os.sep}")
            else:
                self.photos += os.fsencode(f"{inside}{name}\0")

    def _list(self, inside: str) -> tuple[list[str], list[str]]:
        """Names of the photos and of the subfolders directly in a folder."""
        photos, folders = [], []
        try:
            with os.scandir(self._top + inside) as entries:
                for entry in entries:
                    if entry.name[0] == ".":
                        continue
                    if is_folder(entry):
                        folders.append(entry.name)
                    elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                        photos.append(entry.name)
                    elif entry.is_symlink():
                        self.folders[inside + entry.name] = NO_FOLDER
        except OSError as error:
            folder = Path(self._top + inside)
            raise DataError(f"cannot list {folder} ({error.strerror}): check its permissions") from error
        return photos, folders

    def _unentered(self, inside: str, folders: list[str]) -> set[str]:
        """Of the subfolders of a folder those to enter; from here on they count as entered."""
        entering = set()
        for name in sorted(folders):
            path = self._top + inside + name
            self.folders[inside + name] = folder_state(path)
            real = os.path.realpath(path)
            if real not in self._entered:
                self._entered.add(real)
                entering.add(name)
        return entering


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a place that is closed to us
        return False


@lru_cache(maxsize=1024)
def real_folder(folder: AnyStr) -> AnyStr:
    """A folder without links, by which a file is the same whichever way led to it; remembered, so make it absolute."""
    return os.path.realpath(folder)
