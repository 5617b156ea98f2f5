"""Which photo is meant by a name: by one in an annotation file, and by that of a file in a folder.

Names are compared as text. macOS writes é as e and an accent, other systems as one letter.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from slotseg.data.finding.walk import IMAGE_SUFFIXES
from slotseg.errors import DataError

PHOTO_SUFFIX = "|".join(map(re.escape, IMAGE_SUFFIXES))
"""Pattern of the suffix of a photo."""


def one_form(name: str) -> str:
    """A name in one form of Unicode, in which the keys of photos are too."""
    return unicodedata.normalize("NFC", name)


def find_photos(keys: Iterable[str], names: Sequence[str], where: str) -> dict[str, int]:
    """Find photos by their keys among the names of an annotation file.

    A name is a photo's if the two agree as far as both go: the file may be called from another folder, so
    ``images/day/a.jpg`` is the photo ``day/a``, and so is ``a.jpg`` if no other photo has this name.

    Args:
        keys: Keys of the photos: paths without suffix.
        names: Names in the annotation file, with suffix.
        where: Name of the annotation file in messages.

    Returns:
        Index of the name of each photo that is there.

    Raises:
        DataError: If two names are one photo's.
    """
    parts = [_parts(name) for name in names]
    by_end: dict[str, list[int]] = defaultdict(list)
    for index, (*_, end) in enumerate(parts):
        for spelling in {end, _without_suffix(end)}:
            by_end[spelling].append(index)
    found, whole = {}, set()
    for key in keys:
        *folders, end = _parts(key)
        fitting = [i for i in by_end[end] if _agree(parts[i][:-1], folders)] if end in by_end else []
        same = [i for i in fitting if parts[i][:-1] == folders]
        fitting = same or fitting
        if len(fitting) > 1:
            raise DataError(
                f"{where} has {names[fitting[0]]} and {names[fitting[1]]}, which may both be the photo {key}; expected "
                "each photo once, named as below the folder of the photos"
            )
        if fitting:
            found[key] = fitting[0]
            whole |= {key} if same else set()
    taken = Counter(found.values())
    return {key: index for key, index in found.items() if taken[index] == 1 or key in whole}


def files_of_photos(
    folder: Path, keys: Iterable[str], end: re.Pattern[str], *, flat: bool = False, left_out: Collection[str] = ()
) -> dict[str, dict[str, str]]:
    """Find the files of photos in a folder: those that are named as a photo is, and then have an end.

    Args:
        folder: Folder with the files, in the photos' subfolders.
        keys: Keys of the photos: paths without suffix.
        end: What may follow the photo's name. What its group ``end`` finds is kept.
        flat: Whether files may also lie in the folder itself, without the photos' subfolders.
        left_out: Names below the folder of files that are not meant.

    Returns:
        For each photo that has some, the end of each of its files, in small letters, by the name below the folder.
    """
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        by_folder[os.path.dirname(key)][os.path.basename(key)] = key
    found: dict[str, dict[str, str]] = {}

    def search(inside: str, photos: dict[str, str]) -> None:
        place = _below(folder, inside)
        above = f"{place.relative_to(folder).as_posix()}/" if inside else ""
        for name in names_in(place):
            text = one_form(name)
            for dot in reversed([dot.start() for dot in re.finditer(r"[._-]", text)]):  # the longest name of a photo
                key, rest = photos.get(text[:dot]), end.fullmatch(text, dot)
                if key and rest and above + name not in left_out:
                    found.setdefault(key, {})[above + name] = rest["end"].lower()
                    break

    for inside, photos in by_folder.items():
        search(inside, photos)
    if flat:
        search("", {name: key for photos in by_folder.values() for name, key in photos.items() if key not in found})
    return found


def file_named(folder: Path, name: str) -> Path:
    """Path of a file in a folder. Large and small letters of its name do not matter if no file has it as it is."""
    path = folder / name
    if not path.is_file():
        path = next((folder / other for other in names_in(folder) if other.lower() == name), path)
    return path


def names_in(folder: Path) -> list[str]:
    """Names of the files in a folder but hidden ones, sorted; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
    except OSError:
        return []


def _below(folder: Path, inside: str) -> Path:
    """Path of a folder below another, whichever form of Unicode its name has on disk."""
    for part in filter(None, inside.split("/")):
        if not part.isascii() and not (folder / part).is_dir() and folder.is_dir():
            part = next((name for name in sorted(os.listdir(folder)) if one_form(name) == part), part)
        folder /= part
    return folder


def _parts(name: str) -> list[str]:
    """Folders and file name. Windows' names have backslashes."""
    return [part for part in one_form(name).replace("\\", "/").split("/") if part not in ("", ".", "..")] or [""]


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _agree(one: list[str], other: list[str]) -> bool:
    """Whether two lists of folders end alike, as far as the shorter one goes."""
    length = min(len(one), len(other))
    return one[len(one) - length :] == other[len(other) - length :]
