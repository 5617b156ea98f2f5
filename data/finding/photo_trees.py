"""The search for photos below a folder or by a pattern, one folder at a time, so that the first is there at once.

In contrast to ``slotseg.data.finding.walk``, which lists all photos for training and remembers what it saw,
nothing is kept of a folder once its photos are used, and a closed subfolder does not end the search.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from slotseg.data.finding.walk import IMAGE_SUFFIXES, is_folder

_SEPARATORS = re.compile(r"[/\\]" if os.sep == "\\" else "/")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What was found directly in a folder."""

    inside: str
    """Its path below the top, empty or ended by a separator."""
    photos: list[str]
    """Names of the photos; those that differ in their suffix only are neighbours."""
    subfolders: frozenset[str]
    """Names of the folders that are searched too."""
    error: OSError | None = None
    """Why it could not be listed."""


@dataclass(frozen=True, kw_only=True)
class PhotoTree:
    """The photos below a folder, or those of them that fit a pattern.

    Hidden files and folders are left out. Links are followed; each real folder is entered once.
    """

    top: Path
    patterns: tuple[str, ...] = ()
    """A name with wildcards for each level; ``**`` stands for any number of folders. A folder that
    fits is taken with all its photos. A last name that ends in a plain suffix (``*.dat``) takes
    files of that suffix whether or not they seem to be photos."""
    closed: Path | None = None
    """A folder that is not entered, wherever a link leads."""

    def folders(self) -> Iterator[Folder]:
        """The folders in the order of their paths, each before its subfolders."""
        entered = self._not_to_enter()
        waiting = [("", self._reachable({0}))]
        while waiting:
            inside, levels = waiting.pop()
            photos: list[str] = []
            subfolders: dict[str, frozenset[int]] = {}
            try:
                for name, is_folder, after in self._entries(inside, levels):
                    if is_folder:
                        subfolders[name] = after
                    else:
                        photos.append(name)
            except OSError as error:
                yield Folder(inside=inside, photos=[], subfolders=frozenset(), error=error)
                continue
            entering = []
            for name in sorted(subfolders):
                real = os.path.realpath(os.path.join(self.top, inside, name))
                if real not in entered:
                    entered.add(real)
                    entering.append((f"{inside}{name}{os.sep}", subfolders[name]))
            waiting += reversed(entering)
            photos.sort()
            photos.sort(key=stem)
            yield Folder(inside=inside, photos=photos, subfolders=frozenset(subfolders))

    def holds_photo(self) -> bool:
        """Whether there is anything; ends at the first photo, wherever that is.

        Raises:
            OSError: If ``top`` cannot be listed.
        """
        entered = self._not_to_enter()
        waiting = [("", self._reachable({0}))]
        while waiting:
            inside, levels = waiting.pop()
            try:
                for name, is_folder, after in self._entries(inside, levels):
                    if not is_folder:
                        return True
                    real = os.path.realpath(os.path.join(self.top, inside, name))
                    if real not in entered:
                        entered.add(real)
                        waiting.append((f"{inside}{name}{os.sep}", after))
            except OSError:
                if not inside:
                    raise
        return False

    def _not_to_enter(self) -> set[str]:
        """Real paths, to begin with."""
        return {os.path.realpath(folder) for folder in (self.top, self.closed) if folder is not None}

    def _entries(self, inside: str, levels: frozenset[int]) -> Iterator[tuple[str, bool, frozenset[int]]]:
        """What is directly in a folder, unsorted: name, whether it is a folder, and its levels of the pattern."""
        suffixes = _suffixes(self.patterns)
        with os.scandir(os.path.join(self.top, inside)) as entries:
            for entry in entries:
                name = entry.name
                after = self._after(levels, name) if self.patterns else levels
                if name.startswith(".") or not after:
                    continue
                if is_folder(entry):
                    yield name, True, after
                elif len(self.patterns) in after and name.lower().endswith(suffixes):
                    yield name, False, after

    def _after(self, levels: frozenset[int], name: str) -> frozenset[int]:
        """The levels of the pattern that a path may have come to once ``name`` is added; behind the last, it fits."""
        after: set[int] = set()
        for level in levels:
            if level == len(self.patterns) or self.patterns[level] == "**":
                after.add(level)
            elif fnmatch(name, self.patterns[level]):
                after.add(level + 1)
        return self._reachable(after)

    def _reachable(self, levels: set[int]) -> frozenset[int]:
        """``levels``, and those behind a ``**``, which may stand for no folder."""
        reached = set(levels)
        for level, pattern in enumerate(self.patterns):
            if level in reached and pattern == "**":
                reached.add(level + 1)
        return frozenset(reached)


def split_pattern(word: str) -> tuple[Path, tuple[str, ...]]:
    """The folder that a pattern starts from, and its names from the first wildcard on; without one, no names."""
    names = _SEPARATORS.split(word)
    first = next((i for i, name in enumerate(names) if _WILDCARD.search(name)), len(names))
    start = word[: sum(len(name) + 1 for name in names[:first])]
    return Path(start), tuple(name for name in names[first:] if name)


def stem(name: str) -> str:
    """A name without its suffix."""
    return os.path.splitext(name)[0]


def _suffixes(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Ends of the names, in small letters, that are taken."""
    last = os.path.splitext(patterns[-1])[1].lower() if patterns else ""
    return IMAGE_SUFFIXES if len(last) < 2 or _WILDCARD.search(last) else (*IMAGE_SUFFIXES, last)
