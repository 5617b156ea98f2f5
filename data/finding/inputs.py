"""The words that a person gives to ``slotseg segment``, turned into images one after the other.

Words are checked at once. Folders and patterns are searched one folder at a time while the images are used, so that
nobody waits for a million files.

A folder or a pattern gives the photos in it, told by their suffix, without hidden files. Links are followed. Each
real folder is entered once, so that links cannot loop. A file that a word or a list names is taken with any suffix.
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
from slotseg.data.reading.images import AS_TYPED, MAX_PIXELS, image_size
from slotseg.data.reading.notes import shown
from slotseg.data.reading.photos import read_photo
from slotseg.data.reading.window_formats import open_windows
from slotseg.data.reading.windows import Windows
from slotseg.errors import DataError
from slotseg.segment_config import ReadingConfig


@dataclass(frozen=True, kw_only=True)
class Input:
    """One image to segment."""

    source: Path | bytes
    """File, or its content."""
    relative: Path
    """Path of its outputs below the output folder, without their suffix; ``output`` adds one."""
    name: str
    """Name in messages."""
    problem: str = ""
    """Reason why it cannot be read, in one sentence; empty if none is known yet."""

    @property
    def file_name(self) -> str:
        """Relative path with slashes, by which other tools find the file."""
        return (self.relative.parent / self.source.name).as_posix() if isinstance(self.source, Path) else "stdin"

    def output(self, suffix: str) -> Path:
        """Path of an output below the output folder: ``a.jpg`` with ``.png`` is ``a.jpg.png``."""
        return self.relative.with_name(self.relative.name + suffix)

    def read(
        self, max_pixels: int = MAX_PIXELS, reading: ReadingConfig = AS_TYPED
    ) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Pixels, ``(H, W, 3)`` or ``(H, W, 4)``, and notes, as ``slotseg.data.reading.photos.read_photo`` gives them.

        Raises:
            DataError: If it cannot be read. Other images may still be fine.
        """
        self._check()
        return read_photo(self.source, max_pixels, self.name, reading)

    def windows(self, max_pixels: int = MAX_PIXELS, reading: ReadingConfig = AS_TYPED) -> Windows:
        """Open the photo to read it in bands of rows.

        Raises:
            DataError: If it cannot be read.
        """
        self._check()
        return open_windows(self.source, max_pixels, self.name, reading)

    def size_hw(self) -> tuple[int, int]:
        """Upright height and width in pixels, from the header; zeros if it cannot be read."""
        try:
            return (0, 0) if self.problem else image_size(self.source, sys.maxsize)
        except DataError:
            return 0, 0

    def _check(self) -> None:
        if self.problem:
            raise DataError(self.problem)


class Inputs(Iterable[Input]):
    """The images that some words stand for, each once, in the order of the words.

    Outputs mirror the tree below a folder, below the fixed part of a pattern, or below the folder of a list.
    With several such trees, each gets an output folder of its own name. A file that a word names keeps only
    its file name, if no other file has the same. Images that differ only in their suffix keep it.

    Args:
        words: Words to turn into images, at least one.
        leave_out: Folder of the outputs. It is not searched, even inside a folder that is.
        stdin: Stream that ``-`` and ``@-`` read; by default the stdin of the process.

    Attributes:
        single: Whether there is only one word and it names one image, so that the output can be one file.

    Raises:
        ConfigError: If there is no word, or two of them read stdin.
        DataError: If a word stands for nothing. Problems further down (a missing path of a list, a subfolder
            without permission) give an ``Input`` with a ``problem`` instead.
    """

    def __init__(
        self, words: Sequence[str | Path], *, leave_out: Path | None = None, stdin: BinaryIO | None = None
    ) -> None:
        self._words = parse_words(words, leave_out, stdin)
        self.single = len(self._words) == 1 and isinstance(self._words[0], FileWord)

    @property
    def folders(self) -> list[Path]:
        """Folders that are searched."""
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
    """Images of a word, one after the other."""
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
    """Give an input outputs that replace no others: add its suffix, or if that is not enough, a problem."""
    if item.problem or hash(item.relative) not in taken:
        return item
    if isinstance(item.source, Path):
        with_suffix = replace(item, relative=item.relative.with_name(item.source.name))
        if hash(with_suffix.relative) not in taken:
            return with_suffix
    problem = f"{item.name} and another input would both become {shown(item.output('.png'))}: segment them one by one"
    return replace(item, problem=problem)
