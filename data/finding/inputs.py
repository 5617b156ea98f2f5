"""What a person throws at ``slotseg segment``: words, turned into images one after the other.

Words are checked at once; folders and patterns are searched while the images are used, one folder
at a time, so that a million files are not waited for.

Of folders and patterns the photos are taken, known by their suffix, without hidden files; links are
followed, and each real folder is entered once, so that they cannot loop. A file of a word or of a
list is taken whatever its suffix.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from slotseg.data.finding.photo_trees import PhotoTree, stem
from slotseg.data.finding.walk import IMAGE_SUFFIXES
from slotseg.data.finding.words import FileWord, ListWord, TreeWord, Word, below, identity, parse_words
from slotseg.data.reading.images import MAX_PIXELS, image_size
from slotseg.data.reading.notes import shown
from slotseg.data.reading.photos import read_photo
from slotseg.data.reading.windows import Windows, open_windows
from slotseg.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Input:
    """One image to segment."""

    source: Path | bytes
    """The file, or its content."""
    relative: Path
    """Where its outputs go below the output folder, without their suffix; ``output`` adds one."""
    name: str
    """How messages call it."""
    problem: str = ""
    """Why it cannot be read, in one sentence, if that is known already."""

    @property
    def file_name(self) -> str:
        """Its name as other tools find it: relative, with slashes."""
        return (self.relative.parent / self.source.name).as_posix() if isinstance(self.source, Path) else "stdin"

    def output(self, suffix: str) -> Path:
        """Path of an output below the output folder: ``a.jpg`` with ``.png`` is ``a.jpg.png``."""
        return self.relative.with_name(self.relative.name + suffix)

    def read(self, max_pixels: int = MAX_PIXELS) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Pixels ``(H, W, 3)`` and notes, as ``slotseg.data.reading.photos.read_photo`` gives them.

        Raises:
            DataError: If it cannot be read; one such image is no reason to leave the others.
        """
        self._check()
        return read_photo(self.source, max_pixels, self.name)

    def windows(self, max_pixels: int = MAX_PIXELS) -> Windows:
        """The photo, to be read in bands of rows.

        Raises:
            DataError: If it cannot be read.
        """
        self._check()
        return open_windows(self.source, max_pixels, self.name)

    def size_hw(self) -> tuple[int, int]:
        """Upright height and width by its header, pixels; zeros where that cannot be read."""
        try:
            return (0, 0) if self.problem else image_size(self.source, sys.maxsize)
        except DataError:
            return 0, 0

    def _check(self) -> None:
        if self.problem:
            raise DataError(self.problem)


class Inputs(Iterable[Input]):
    """The images that some words stand for, each once, in the order of the words.

    Outputs mirror the tree below a folder, below the fixed part of a pattern, and below the folder of
    a list; where there are several such trees, each gets a folder named as it is. A file that a word
    names is called by its name alone, where that tells it apart. Images that differ in their suffix
    only keep it.

    Args:
        words: At least one.
        leave_out: A folder that is not searched, though it may lie in one that is: where the outputs go.
        stdin: What ``-`` and ``@-`` read.  By default the process's.

    Attributes:
        single: Whether a word that names one image is all there is, so that one output can be named for it.

    Raises:
        ConfigError: If there is no word, or two of them read stdin.
        DataError: If a word stands for nothing. What is wrong further down (a path of a list that does
            not exist, a closed subfolder) is an ``Input`` with a ``problem`` instead.
    """

    def __init__(
        self, words: Sequence[str | Path], *, leave_out: Path | None = None, stdin: BinaryIO | None = None
    ) -> None:
        self._words = parse_words(words, leave_out, stdin)
        self.single = len(self._words) == 1 and isinstance(self._words[0], FileWord)

    @property
    def folders(self) -> list[Path]:
        """The folders that are searched."""
        return [word.base for word in self._words if isinstance(word, TreeWord)]

    def __iter__(self) -> Iterator[Input]:
        if len(self._words) == 1 and isinstance(self._words[0], TreeWord):  # repeats nothing and needs no memory
            yield from _inputs(self._words[0])
            return
        seen, taken = set[int](), set[int]()
        for item in chain.from_iterable(map(_inputs, self._words)):
            photo = identity(item.source)
            if photo not in seen:
                seen.add(photo)
                item = _in_its_place(item, taken)
                if not item.problem:
                    taken.add(hash(item.relative))
                yield item


def _inputs(word: Word) -> Iterator[Input]:
    """What a word stands for, one image after the other."""
    if isinstance(word, TreeWord):
        yield from _inputs_of_tree(word)
    elif isinstance(word, ListWord):
        yield from _inputs_of_list(word)
    else:
        name = "the image on stdin" if isinstance(word.source, bytes) else shown(word.source)
        yield Input(source=word.source, relative=word.relative, name=name)


def _inputs_of_tree(word: TreeWord) -> Iterator[Input]:
    for folder in word.tree.folders():
        path, relative = word.base / folder.inside, word.prefix / folder.inside
        if folder.error:
            problem = f"cannot list {shown(path)} ({folder.error.strerror}): check its permissions"
            yield Input(source=path, relative=relative, name=shown(path), problem=problem)
        for stem_, group in groupby(folder.photos, key=stem):
            names = list(group)
            keep = len(names) > 1 or f"{stem_}.png" in folder.subfolders or stem_.lower().endswith(IMAGE_SUFFIXES)
            for name in names:
                photo = path / name
                yield Input(source=photo, relative=relative / (name if keep else stem_), name=shown(photo))


def _inputs_of_list(word: ListWord) -> Iterator[Input]:
    for number, path in word.paths.paths():
        relative = word.prefix / below(path, word.base)
        if os.path.isdir(path):
            yield from _inputs_of_tree(TreeWord(tree=PhotoTree(top=path, closed=word.leave_out), prefix=relative))
            continue
        problem = ""
        if not os.path.exists(path):
            problem = f"{word.paths.name}, line {number}: {shown(path)} does not exist: correct the list"
        if hash(stem(os.path.abspath(path))) not in word.shared:
            relative = relative.with_name(stem(relative.name))
        yield Input(source=path, relative=relative, name=shown(path), problem=problem)


def _in_its_place(item: Input, taken: set[int]) -> Input:
    """An input whose outputs replace no other's: with its suffix if that helps, else with a problem."""
    if item.problem or hash(item.relative) not in taken:
        return item
    if isinstance(item.source, Path):
        with_suffix = replace(item, relative=item.relative.with_name(item.source.name))
        if hash(with_suffix.relative) not in taken:
            return with_suffix
    problem = f"{item.name} and another input would both become {shown(item.output('.png'))}: segment them one by one"
    return replace(item, problem=problem)
