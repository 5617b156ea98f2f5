"""The search for somebody's own label maps or masks: which file belongs to which photo.

This is the one place that decides what ``--labels`` and ``--preds`` may point to: label maps, which ``find_labels``
finds, or annotations, which ``annotations_at`` finds.
"""

import logging
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from slotseg.data.labelled.annotations.opening import find_annotations, is_annotations
from slotseg.data.labelled.annotations.photo_names import PHOTO_SUFFIX, files_of_photos, names_in, one_form
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
_FILE = "|".join(map(re.escape, _SUFFIXES))
_END = re.compile(rf"({PHOTO_SUFFIX})?(?P<end>([._-]({_TAGS}))?({_FILE}))", re.IGNORECASE)
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
    maps = files_of_photos(path, keys, _END, flat=flat, left_out=no_labels) if found else {}
    names = " and ".join("labelme's files" if file == path else file.name for file in found)
    if any(not end.endswith(_LOSSY) for files in maps.values() for end in files.values()):
        files = [f"name {file} to read it" for file in found if file != path]
        hints = [*files, *(["move labelme's files elsewhere to read them"] if path in found else [])]
        log.warning("%s has label maps and %s; the label maps are read: %s.", path, names, ", or ".join(hints))
        return None
    if len(found) > 1:
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
    in_doubt: str = "",
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
        in_doubt: File that could say what 255 is in such maps, if it is not sure; for messages.
        no_labels: Names below the folder of files that are no label maps, such as the photos themselves.

    Returns:
        Source with a label map for every key.

    Raises:
        DataError: If there is no such folder, or if a photo has no label map or several.
    """
    if folder.is_file() and len(keys) == 1:
        folder, names = folder.parent, {keys[0]: folder.name}
    elif not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected the folder of {what}, or a file of annotations")
    else:
        names = {} if _all_there(folder, keys, no_labels) else _found(folder, keys, what, flat, no_labels)
    return LabelFiles(
        folder=folder,
        keys=keys,
        names=names,
        id_colors=id_colors,
        maybe_binary=maybe_binary,
        in_doubt=in_doubt,
        or_else=', or give the classes their "colors" in classes.json',
    )


def without_labels(photos: Sequence[Path], folder: Path) -> list[Path]:
    """Leave out label maps, where they lie among the photos: ``a_mask.png`` beside ``a.jpg``, else ``a.png``.

    Of ``a.jpg`` and ``a.png``, the second is the label map, as a JPEG holds none. Two photos of one name are both kept
    if the folder has files such as ``a_mask.png``, or annotations.
    """
    names = {photo: Path(one_form(str(photo))) for photo in photos}
    known = {name.with_suffix("") for name in names.values()} | set(names.values())

    def tagged(name: Path) -> bool:
        dots = [dot.start() for dot in re.finditer(r"[._-]", name.stem) if dot.start()]
        return any(name.with_name(name.name[:d]) in known and _END.fullmatch(f"{name.stem}.png", d) for d in dots)

    def may_be_map(name: Path) -> bool:
        return name.suffix.lower() in _SUFFIXES and name.suffix.lower() not in _LOSSY

    rest = [photo for photo, name in names.items() if not tagged(name)]
    if len(rest) < len(photos) or find_annotations(folder, ()):
        return rest
    of_jpegs = {name.with_suffix("") for name in names.values() if not may_be_map(name)}
    return [photo for photo, name in names.items() if not (may_be_map(name) and name.with_suffix("") in of_jpegs)]


def _all_there(folder: Path, keys: Sequence[str], no_labels: Collection[str]) -> bool:
    """Whether every photo has a PNG of its own name, as most folders do."""
    return all(f"{key}.png" not in no_labels and (folder / f"{key}.png").is_file() for key in keys)


def _found(folder: Path, keys: Sequence[str], what: str, flat: bool, no_labels: Collection[str]) -> dict[str, str]:
    """Name of each photo's label map below the folder."""
    files = files_of_photos(folder, keys, _END, flat=flat, left_out=no_labels)
    absent = [key for key in keys if key not in files]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(keys)} {what} are missing in {folder}, the first is {absent[0]}.png; "
            f"{_what_is_there(folder, absent[0], flat)}; expected a file for each photo: {_FORM}"
            f"{', or --image-list with the photos that have one' if len(absent) < len(keys) else ''}"
            f"{_namesake(absent[0], keys)}"
        )
    chosen = {key: _chosen(key, files[key]) for key in keys}
    several = next((key for key in keys if len(chosen[key]) > 1), None)
    if several is not None:
        raise DataError(
            f"{several} has several {what} in {folder}: {' and '.join(chosen[several])}; expected one: move "
            f"the others away, or name it {several}.png"
        )
    ends = {end: name for key in reversed(keys) for name, end in chosen[key].items()}
    if len(ends) > 1:
        raise DataError(
            f"{what} in {folder} end in different ways: {' and '.join(sorted(ends.values()))}; expected one end for "
            "all: it is not sure that they are of one kind"
        )
    return {key: name for key, files in chosen.items() for name in files}


def _namesake(absent: str, keys: Sequence[str]) -> str:
    """What to do if a photo kept its suffix, as another is called the same, and one of the two may be a label map."""
    stem = os.path.splitext(absent)[0]
    if sum(os.path.splitext(key)[0] == stem for key in keys) < 2:
        return ""
    return f"; two photos are called {stem}: if one is a label map, move it elsewhere, or name it {stem}_mask"


def _chosen(key: str, files: dict[str, str]) -> dict[str, str]:
    """Those of a photo's files that may be meant: a PNG of its name, else all but lossy ones, else all."""
    plain = {name: end for name, end in files.items() if end == ".png"}
    whole = f"{os.path.basename(key)}.png"
    own = {name: end for name, end in plain.items() if one_form(os.path.basename(name)) == whole}
    return own or plain or {name: end for name, end in files.items() if not end.endswith(_LOSSY)} or files


def _what_is_there(folder: Path, key: str, flat: bool) -> str:
    """Examples of the files beside the place of an absent label map."""
    place = folder if flat else (folder / key).parent
    names = [name for name in names_in(place) if not name.endswith(".json")] or names_in(place)
    if not names:
        return f"{place} {'has no file' if place.is_dir() else 'does not exist'}"
    examples = ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")
    return f"there {'is' if len(names) == 1 else 'are'} {examples}"
