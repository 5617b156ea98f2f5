"""The search for somebody's own label maps or masks: which file belongs to which photo.

This is the one place that decides what ``--labels`` and ``--preds`` may point to: label maps, which ``find_labels``
finds, or annotations, which ``annotations_at`` finds.
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from slotseg.data.finding.walk import IMAGE_SUFFIXES
from slotseg.data.labelled.annotations.opening import find_annotations, is_annotations
from slotseg.data.labelled.label_sources import IdColors, LabelFiles, LabelSource
from slotseg.data.reading.number_files import NUMBER_SUFFIXES
from slotseg.errors import DataError

log = logging.getLogger(__name__)

_LOSSY = (".jpg", ".jpeg", ".webp", ".jp2")
_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", *NUMBER_SUFFIXES, *_LOSSY)
_TAGS = (
    "masks?|labels?|labelids|labeltrainids|gt|ground_?truth|seg|segmentation|annotation|preds?|prediction"
    "|leftimg8bit|rgb"  # ends of photos of Cityscapes and Potsdam, whose masks are often named as the whole photo
)
_PHOTO, _FILE = ("|".join(map(re.escape, suffixes)) for suffixes in (IMAGE_SUFFIXES, _SUFFIXES))
_END = re.compile(rf"({_PHOTO})?(?P<end>([._-]({_TAGS}))?({_FILE}))", re.IGNORECASE)
_FORM = (
    "an indexed or grey PNG, or a TIFF, BMP, GIF, .npy, .npz or .mat, named as the photo is, with an end such as _mask "
    "or without one"
)
_EXAMPLES = 3


def may_be_labels(path: Path) -> bool:
    """Whether a file is one of annotations, or is named as label maps are."""
    return path.suffix.lower() in _SUFFIXES or is_annotations(path)


def annotations_at(
    path: Path, keys: Sequence[str], *, flat: bool = False, no_labels: Collection[str] = ()
) -> Path | None:
    """Find the annotations that somebody's path stands for: a file, or what a folder holds if it has no label maps.

    Args:
        path: File or folder.
        keys: Keys of the photos: their paths below the photos, without suffix.
        flat: Whether label maps may lie in the folder itself, without the photos' subfolders.
        no_labels: Names below the folder of files that are no label maps, such as the photos themselves.

    Returns:
        The file, or the folder if it holds files of labelme. None if there are no annotations, or label maps too.

    Raises:
        DataError: If a folder holds annotations of several kinds and no label maps.
    """
    if not path.is_dir():
        return path if is_annotations(path) else None
    found = find_annotations(path, keys)
    maps = _candidates(path, set(keys), flat, no_labels) if found else {}
    if any(not end.endswith(_LOSSY) for names in maps.values() for end in names):
        hint = f"name {found[0]} to read it" if found[0] != path else "move labelme's files elsewhere to read them"
        log.warning("%s has label maps and annotations; the label maps are read: %s.", path, hint)
        return None
    if len(found) > 1:
        names = " and ".join("labelme's files" if file == path else file.name for file in found)
        raise DataError(f"{path} has {names}; expected one kind: name the file, or move the others away")
    return found[0] if found else None


def find_labels(
    folder: Path,
    keys: Sequence[str],
    *,
    what: str = "label maps",
    flat: bool = False,
    id_colors: IdColors = (),
    maybe_binary: bool = False,
    no_labels: Collection[str] = (),
) -> LabelSource:
    """Find the label map of each photo.

    Args:
        folder: Folder of the label maps, or the label map of a single photo.
        keys: Keys of the photos: their paths below the photos, without suffix.
        what: What is looked for, in messages.
        flat: Whether the files may also lie in the folder itself, without the photos' subfolders.
        id_colors: Id of each colour, if label maps may be in colour.
        maybe_binary: Whether maps of 0 and 255 alone hold the ids 0 and 1.
        no_labels: Names below the folder of files that are no label maps, such as the photos themselves.

    Returns:
        Source with a label map for every key.

    Raises:
        DataError: If there is no such folder, or if a photo has no label map or several.
    """
    if folder.is_file() and len(keys) == 1:
        folder, names = folder.parent, {keys[0]: folder.name}
    elif not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected the folder of {what}")
    else:
        names = {} if _all_there(folder, keys, no_labels) else _found(folder, keys, what, flat, no_labels)
    return LabelFiles(
        folder=folder,
        keys=keys,
        names=names,
        id_colors=id_colors,
        maybe_binary=maybe_binary,
        or_else=', or give the classes their "colors" in classes.json',
    )


def without_labels(photos: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Leave out label maps such as ``a_mask.png``, where they lie among the photos, such as ``a.jpg``."""
    keys = {key for key, _ in photos}

    def labels(key: str) -> bool:
        dots = [dot.start() for dot in re.finditer(r"[._-]", key)]
        return any(key[:dot] in keys and _END.fullmatch(f"{key}.png", dot) for dot in dots)

    return [(key, path) for key, path in photos if not labels(key)]


def _all_there(folder: Path, keys: Sequence[str], no_labels: Collection[str]) -> bool:
    """Whether every photo has a PNG of its own name, as most folders do."""
    return all(f"{key}.png" not in no_labels and (folder / f"{key}.png").is_file() for key in keys)


def _found(folder: Path, keys: Sequence[str], what: str, flat: bool, no_labels: Collection[str]) -> dict[str, str]:
    """Name of each photo's label map below the folder."""
    files = _candidates(folder, set(keys), flat, no_labels)
    absent = [key for key in keys if key not in files]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(keys)} {what} are missing in {folder}, the first is {absent[0]}.png; "
            f"{_what_is_there(folder, absent[0], flat)}; expected a file for each photo: {_FORM}"
        )
    chosen = {key: _chosen(key, files[key]) for key in keys}
    several = next((key for key in keys if len(chosen[key]) > 1), None)
    if several is not None:
        raise DataError(
            f"{several} has several {what} in {folder}: {' and '.join(chosen[several].values())}; expected one: move "
            f"the others away, or name it {several}.png"
        )
    ends = {end: name for key in reversed(keys) for end, name in chosen[key].items()}
    if len(ends) > 1:
        raise DataError(
            f"{what} in {folder} end in different ways: {' and '.join(sorted(ends.values()))}; expected one end for "
            "all: it is not sure that they are of one kind"
        )
    return {key: name for key, names in chosen.items() for name in names.values()}


def _candidates(folder: Path, keys: set[str], flat: bool, no_labels: Collection[str]) -> dict[str, dict[str, str]]:
    """Files, below the folder, that may be the label map of each photo: their names by their end."""
    by_name = {os.path.basename(key): key for key in keys} if flat else {}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for subfolder in sorted({os.path.dirname(key) for key in keys} | ({""} if flat else set()), reverse=True):
        inside = f"{subfolder}/" if subfolder else ""
        for name in _names(folder / subfolder):
            for dot in re.finditer(r"[._-]", name):
                stem = name[: dot.start()]
                key = inside + stem if inside + stem in keys else None if inside else by_name.get(stem)
                end = _END.fullmatch(name, dot.start())
                if key and end and inside + name not in no_labels:
                    found[key].setdefault(end["end"].lower(), inside + name)
    return found


def _chosen(key: str, names: dict[str, str]) -> dict[str, str]:
    """Those of a photo's files that may be meant: a PNG of its name, else all but lossy ones, else all."""
    if ".png" in names:
        return {".png": names[".png"]}
    return {end: name for end, name in names.items() if not end.endswith(_LOSSY)} or names


def _what_is_there(folder: Path, key: str, flat: bool) -> str:
    """Examples of the files beside the place of an absent label map."""
    place = folder if flat else (folder / key).parent
    names = [name for name in _names(place) if not name.endswith(".json")] or _names(place)
    if not names:
        return f"{place} {'has no file' if place.is_dir() else 'does not exist'}"
    examples = ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")
    return f"there {'is' if len(names) == 1 else 'are'} {examples}"


def _names(folder: Path) -> list[str]:
    """Names of the files in a folder but hidden ones, sorted; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
    except OSError:
        return []
