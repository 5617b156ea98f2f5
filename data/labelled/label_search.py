"""The search for somebody's own label maps or masks: which file belongs to which photo.

This is the one place that decides what ``--labels`` and ``--preds`` may point to. A source of another kind, such as
an annotation file for all photos, is recognised at the top of ``find_labels``.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from slotseg.data.labelled.label_sources import IdColors, LabelFiles, LabelSource
from slotseg.errors import DataError

_ENDING = re.compile(
    r"(\.\w{3,4})?"  # the photo's own suffix
    r"([._-](masks?|labels?|labelids|labeltrainids|gt|ground_?truth|seg|segmentation|annotation|preds?|prediction))?"
    r"\.(png|tiff?|bmp|gif|npy|npz|mat|jpe?g|webp|jp2)",
    re.IGNORECASE,
)
_LOSSY = re.compile(r"\.(jpe?g|webp|jp2)$", re.IGNORECASE)
_FORM = (
    "an indexed or grey PNG, or a TIFF, BMP, GIF, .npy, .npz or .mat, named as the photo is, with an end such as _mask "
    "or without one"
)
_EXAMPLES = 3


def find_labels(
    folder: Path,
    keys: Sequence[str],
    *,
    what: str = "label maps",
    flat: bool = False,
    id_colors: IdColors = (),
    maybe_binary: bool = False,
) -> LabelSource:
    """Find the label map of each photo.

    Args:
        folder: Folder of the label maps.
        keys: Keys of the photos: their paths below the photos, without suffix.
        what: What is looked for, in messages.
        flat: Whether the files may also lie in the folder itself, without the photos' subfolders.
        id_colors: Id of each colour, if label maps may be in colour.
        maybe_binary: Whether maps of 0 and 255 alone hold the ids 0 and 1.

    Returns:
        Source with a label map for every key.

    Raises:
        DataError: If there is no such folder, or if a photo has no label map or several.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected the folder of {what}")
    names = {} if _all_there(folder, keys) else _found(folder, keys, what, flat)
    return LabelFiles(
        folder=folder,
        keys=keys,
        names=names,
        id_colors=id_colors,
        maybe_binary=maybe_binary,
        or_else=', or give the classes their "colors" in classes.json',
    )


def _all_there(folder: Path, keys: Sequence[str]) -> bool:
    """Whether every photo has a PNG of its own name, as most folders do."""
    return all((folder / f"{key}.png").is_file() for key in keys)


def _found(folder: Path, keys: Sequence[str], what: str, flat: bool) -> dict[str, str]:
    """Name of each photo's label map below the folder."""
    files = _candidates(folder, {os.path.dirname(key) for key in keys} | ({""} if flat else set()), set(keys), flat)
    absent = [key for key in keys if key not in files]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(keys)} {what} are missing in {folder}, the first is {absent[0]}.png; "
            f"{_what_is_there(folder, absent[0], flat)}; expected a file for each photo: {_FORM}"
        )
    chosen = {key: _chosen(key, names) for key, names in files.items()}
    unsure = next((key for key in keys if not chosen[key]), None)
    if unsure is not None:
        raise DataError(
            f"{unsure} has several {what} in {folder}: {' and '.join(sorted(files[unsure]))}; expected one: move the "
            f"others away, or name it {unsure}.png"
        )
    return chosen


def _candidates(folder: Path, inside: set[str], keys: set[str], flat: bool) -> Mapping[str, list[str]]:
    """Names, below the folder, of the files that may be a photo's label map."""
    by_name = {os.path.basename(key): key for key in keys} if flat else {}
    found: dict[str, list[str]] = defaultdict(list)
    for subfolder in sorted(inside):
        for name in _names(folder / subfolder):
            for match in re.finditer(r"[._-]", name):
                stem = name[: match.start()]
                inside_key = f"{subfolder}/{stem}" if subfolder else stem
                key = inside_key if inside_key in keys else None if subfolder else by_name.get(stem)
                if key and _ENDING.fullmatch(name, match.start()):
                    found[key].append(f"{subfolder}/{name}" if subfolder else name)
    return found


def _chosen(key: str, names: Sequence[str]) -> str:
    """The one of several files that is sure to be meant; an empty name if none is."""
    exact = [name for name in names if name == f"{key}.png"]
    exact = exact or [name for name in names if name == f"{os.path.basename(key)}.png"]
    exact = exact or [name for name in names if not _LOSSY.search(name)] or list(names)
    return exact[0] if len(exact) == 1 else ""


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
