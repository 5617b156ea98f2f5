"""The walk that finds the photos below a folder, and how to tell later that it would find the same.

Photos are told by their suffix. Hidden files and folders (such as the ``._x`` of macOS) are left out. Links are
followed. Each real folder is entered once, so that links cannot loop.
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
"""Suffixes, in any case, of the images in a folder. A file given by hand is tried with any suffix."""

NO_FOLDER = (-1, -1, -1)
"""State of anything but a folder."""


def folder_state(path: str | bytes) -> tuple[int, int, int]:
    """State of a folder. It changes if an entry is added, removed or renamed, or if the folder is replaced.

    Returns:
        mtime and ctime in nanoseconds, and the inode. Copying tools set back mtime, but not ctime. The inode tells
        folders apart that were made at the same time.
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
        folder: Folder to walk.

    Attributes:
        photos: Paths of the photos below the folder, in the order of sorted ``Path``, as bytes of the file
            system, each ended by a zero byte.
        folders: States of everything that decided what was found, by path below the folder, each taken before
            listing. These are the folder itself (an empty path), its subfolders (also those that were entered by
            another path), and links that lead to no folder yet (a link named like a photo counts as a photo).

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
        """Subfolders that were not entered yet. From here on they count as entered."""
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
    """Real path of a folder, the same by whichever links it was reached. It is cached, so pass an absolute path."""
    return os.path.realpath(folder)
