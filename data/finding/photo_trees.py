"""The search for photos below a folder or by a pattern, one folder at a time, so that the first is there at once.

``slotseg.data.finding.walk`` lists all photos for training and remembers what it saw. Here, nothing of a folder is
kept once its photos are used, and a subfolder without permission does not end the search.
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
    """Entries found directly in a folder."""

    inside: str
    """Path of the folder below the top, empty or ended by a separator."""
    photos: list[str]
    """Names of the photos. Those that differ only in their suffix are neighbours."""
    subfolders: frozenset[str]
    """Names of the subfolders, which are searched too."""
    error: OSError | None = None
    """Error if the folder could not be listed."""


@dataclass(frozen=True, kw_only=True)
class PhotoTree:
    """The photos below a folder, or those of them that fit a pattern.

    Hidden files and folders are left out. Links are followed. Each real folder is entered once.
    """

    top: Path
    """Folder to search."""
    patterns: tuple[str, ...] = ()
    """Names with wildcards, one for each level; ``**`` stands for any number of folders.

    A folder that fits is taken with all its photos. If the last name ends in a plain suffix (``*.dat``), files of
    that suffix are taken even if they do not look like photos.
    """
    closed: Path | None = None
    """Folder that is never entered, not even by a link."""

    def folders(self) -> Iterator[Folder]:
        """Search the folders in the order of their paths, each before its subfolders."""
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
        """Whether there is any photo. The search ends at the first.

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
        """Real paths of the folders that are not entered: the top, which is searched already, and the closed one."""
        return {os.path.realpath(folder) for folder in (self.top, self.closed) if folder is not None}

    def _entries(self, inside: str, levels: frozenset[int]) -> Iterator[tuple[str, bool, frozenset[int]]]:
        """Entries of a folder, unsorted: name, whether it is a folder, and its levels of the pattern."""
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
        """Levels of the pattern that a path may reach once ``name`` is added. Behind the last level, it fits."""
        after: set[int] = set()
        for level in levels:
            if level == len(self.patterns) or self.patterns[level] == "**":
                after.add(level)
            elif fnmatch(name, self.patterns[level]):
                after.add(level + 1)
        return self._reachable(after)

    def _reachable(self, levels: set[int]) -> frozenset[int]:
        """Add the levels behind a ``**``, because it may stand for no folder."""
        reached = set(levels)
        for level, pattern in enumerate(self.patterns):
            if level in reached and pattern == "**":
                reached.add(level + 1)
        return frozenset(reached)


def split_pattern(word: str) -> tuple[Path, tuple[str, ...]]:
    """Folder that a pattern starts from, and its names from the first wildcard on; no names without a wildcard."""
    names = _SEPARATORS.split(word)
    first = next((i for i, name in enumerate(names) if _WILDCARD.search(name)), len(names))
    start = word[: sum(len(name) + 1 for name in names[:first])]
    return Path(start), tuple(name for name in names[first:] if name)


def stem(name: str) -> str:
    """A name without its suffix."""
    return os.path.splitext(name)[0]


def _suffixes(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Suffixes, in small letters, of the names that are taken."""
    last = os.path.splitext(patterns[-1])[1].lower() if patterns else ""
    return IMAGE_SUFFIXES if len(last) < 2 or _WILDCARD.search(last) else (*IMAGE_SUFFIXES, last)
