"""Which photo of an annotation file is which photo of a folder, by their names."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from slotseg.data.finding.walk import IMAGE_SUFFIXES
from slotseg.errors import DataError


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


def _parts(name: str) -> list[str]:
    """Folders and file name. Windows' names have backslashes."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")] or [""]


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _agree(one: list[str], other: list[str]) -> bool:
    """Whether two lists of folders end alike, as far as the shorter one goes."""
    length = min(len(one), len(other))
    return one[len(one) - length :] == other[len(other) - length :]
