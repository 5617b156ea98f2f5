"""What a person throws at ``slotseg segment``: words, turned into images one after the other.

A word is a file, a folder, a quoted pattern (``'photos/**/*.jpg'``), a list of paths (``@list.txt``,
``@-`` from stdin), or one image from stdin (``-``). Words are checked at once; folders and patterns
are searched while the images are used, one folder at a time, so that a million files are not waited for.

Of folders and patterns the photos are taken, known by their suffix, without hidden files; links are
followed, and each real folder is entered once, so that they cannot loop. A file of a word or of a
list is taken whatever its suffix.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from slotseg.data.finding.output_names import below, common_folder, names_of_files, prefixes_of_trees
from slotseg.data.finding.path_lists import PathList, parse_path_list
from slotseg.data.finding.photo_trees import PhotoTree, split_pattern, stem
from slotseg.data.finding.walk import IMAGE_SUFFIXES
from slotseg.data.reading.images import MAX_PIXELS, image_size
from slotseg.data.reading.notes import shown
from slotseg.data.reading.photos import read_photo
from slotseg.data.reading.windows import Windows, open_windows
from slotseg.errors import ConfigError, DataError

STDIN_LIMIT = 2_000_000_000
"""Bytes of stdin that are waited for; more are no photo."""

_STDIN_IMAGE = "-"
_STDIN_LIST = "@-"


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
        texts = [os.fspath(word) for word in words]
        if not texts or "" in texts:
            raise ConfigError("an input is empty; expected a file, a folder, a quoted pattern, @list.txt or -")
        if sum(text in (_STDIN_IMAGE, _STDIN_LIST) for text in texts) > 1:
            raise ConfigError("two inputs read from stdin; expected - or @- once")
        parts = [_part(text, leave_out, stdin) for text in texts]
        self.single = len(parts) == 1 and isinstance(parts[0], _File)
        self._parts = _told_apart(parts)

    @property
    def folders(self) -> list[Path]:
        """The folders that are searched."""
        return [part.base for part in self._parts if isinstance(part, _Tree)]

    def __iter__(self) -> Iterator[Input]:
        if len(self._parts) == 1 and isinstance(self._parts[0], _Tree):  # repeats nothing and needs no memory
            yield from self._parts[0].inputs()
            return
        seen, taken = set[int](), set[int]()
        for item in (item for part in self._parts for item in part.inputs()):
            photo = identity(item.source)
            if photo not in seen:
                seen.add(photo)
                item = _in_its_place(item, taken)
                if not item.problem:
                    taken.add(hash(item.relative))
                yield item


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file that a word names, or the image on stdin."""

    source: Path | bytes
    relative: Path

    def inputs(self) -> Iterator[Input]:
        name = "the image on stdin" if isinstance(self.source, bytes) else shown(self.source)
        yield Input(source=self.source, relative=self.relative, name=name)


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """A folder or pattern."""

    tree: PhotoTree
    prefix: Path = field(default_factory=Path)

    @property
    def base(self) -> Path:
        return self.tree.top

    def inputs(self) -> Iterator[Input]:
        for folder in self.tree.folders():
            path, relative = self.tree.top / folder.inside, self.prefix / folder.inside
            if folder.error:
                problem = f"cannot list {shown(path)} ({folder.error.strerror}): check its permissions"
                yield Input(source=path, relative=relative, name=shown(path), problem=problem)
            for stem_, group in groupby(folder.photos, key=stem):
                names = list(group)
                keep = len(names) > 1 or f"{stem_}.png" in folder.subfolders or stem_.lower().endswith(IMAGE_SUFFIXES)
                for name in names:
                    photo = path / name
                    yield Input(source=photo, relative=relative / (name if keep else stem_), name=shown(photo))


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """The paths of a list."""

    paths: PathList
    base: Path
    """What the outputs are relative to, absolute."""
    shared: frozenset[int]
    """Hashes of the absolute paths without suffix that several have."""
    leave_out: Path | None
    prefix: Path = field(default_factory=Path)

    def inputs(self) -> Iterator[Input]:
        for number, path in self.paths.paths():
            relative = self.prefix / below(path, self.base)
            if os.path.isdir(path):
                yield from _Tree(tree=PhotoTree(top=path, closed=self.leave_out), prefix=relative).inputs()
                continue
            problem = ""
            if not os.path.exists(path):
                problem = f"{self.paths.name}, line {number}: {shown(path)} does not exist: correct the list"
            if hash(stem(os.path.abspath(path))) not in self.shared:
                relative = relative.with_name(stem(relative.name))
            yield Input(source=path, relative=relative, name=shown(path), problem=problem)


_Part = _File | _Tree | _Listed


def _part(word: str, leave_out: Path | None, stdin: BinaryIO | None) -> _Part:
    """What a word stands for.

    Raises:
        DataError: If that is nothing.
    """
    path = Path(word)
    if word == _STDIN_IMAGE:
        return _File(source=_read_stdin(word, stdin), relative=Path("stdin"))
    if word == _STDIN_LIST:
        return _listed(parse_path_list(_read_stdin(word, stdin), Path(), "the list on stdin"), leave_out)
    if word.startswith("@") and (os.path.exists(os.path.expanduser(word[1:])) or not os.path.exists(path)):
        return _listed(_read_list(Path(os.path.expanduser(word[1:]))), leave_out)
    if os.path.isdir(path):
        return _searched(PhotoTree(top=path, closed=leave_out), word)
    if os.path.isfile(path):
        return _File(source=path, relative=Path(path.name))
    top, patterns = split_pattern(word)
    if patterns and not os.path.lexists(path):
        return _searched(PhotoTree(top=top, patterns=patterns, closed=leave_out), word)
    raise DataError(_why_nothing(path, word))


def _why_nothing(path: Path, word: str) -> str:
    if os.path.exists(path):
        return f"{shown(word)} is a pipe or device; expected a file: save it first, or pipe the image into -"
    if os.path.islink(path):
        return f"{shown(word)} is a link that leads nowhere; expected a file or folder: correct the link"
    if "://" in word:
        return f"{shown(word)} is a web address; expected a file: download it first, or pipe the image into -"
    return f"{shown(word)} does not exist; expected a file, folder, quoted pattern, @list.txt or -: check the path"


def _searched(tree: PhotoTree, word: str) -> _Tree:
    """A tree that holds something.

    Raises:
        DataError: If it holds no photo, or cannot be listed.
    """
    try:
        if tree.holds_photo():
            return _Tree(tree=tree)
    except OSError as error:
        raise DataError(f"cannot list {shown(tree.top)} ({error.strerror}): check its path and permissions") from error
    if tree.patterns:
        raise DataError(f"no photo fits {shown(word)}; expected one at least: check the pattern and its quotes")
    raise DataError(f"no photo in {shown(word)}: expected files ending in {', '.join(IMAGE_SUFFIXES)}")


def _read_stdin(word: str, stdin: BinaryIO | None) -> bytes:
    stream = sys.stdin.buffer if stdin is None else stdin
    what = "an image" if word == _STDIN_IMAGE else "a list of paths"
    if stream.isatty():
        raise DataError(f"{word} reads {what} from stdin, which is the keyboard: pipe one in, as in cat FILE | …")
    content = stream.read(STDIN_LIMIT + 1)
    if len(content) > STDIN_LIMIT:
        raise DataError(f"stdin holds more than {STDIN_LIMIT:,} bytes; expected {what}: save it as a file first")
    if not content:
        raise DataError(f"stdin is empty; expected {what} for {word}: check the command before the pipe")
    return content


def _read_list(file: Path) -> PathList:
    if not os.path.isfile(file):
        wrong = "is a folder, a pipe or a device" if os.path.exists(file) else "does not exist"
        raise DataError(f"the list {shown(file)} {wrong}; expected a text file: check the path, or pipe it into @-")
    if file.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(f"{shown(file)} is a photo and no list of paths: leave out the @")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"the list {shown(file)} cannot be read ({error.strerror}): check its permissions") from error
    return parse_path_list(content, file.parent, shown(file))


def _listed(paths: PathList, leave_out: Path | None) -> _Listed:
    """A list with what the names of its outputs depend on, for which it is read once."""
    base = os.path.abspath(paths.folder)
    common, inside = "", True
    stems = np.empty(sum(1 for _ in paths.paths()), np.int64)
    for i, (_, path) in enumerate(paths.paths()):
        absolute = os.path.abspath(path)
        stems[i] = hash(stem(absolute))
        parent = os.path.dirname(absolute)
        inside = inside and Path(parent).is_relative_to(base)
        common = common_folder([common, parent]) if common else parent
    values, counts = np.unique(stems, return_counts=True)
    return _Listed(
        paths=paths,
        base=Path(base if inside else common),
        shared=frozenset(values[counts > 1].tolist()),
        leave_out=leave_out,
    )


def _told_apart(parts: list[_Part]) -> list[_Part]:
    """Parts whose outputs do not meet: files by their folders or suffixes, trees by folders of their own."""
    files = [part.source for part in parts if isinstance(part, _File) and isinstance(part.source, Path)]
    names = names_of_files(list({identity(file): file for file in files}.values()))
    prefixes = prefixes_of_trees({os.path.abspath(part.base) for part in parts if not isinstance(part, _File)})
    result: list[_Part] = []
    for part in parts:
        if isinstance(part, _File):
            named = names.get(part.source, part.relative) if isinstance(part.source, Path) else part.relative
            result.append(replace(part, relative=named))
        else:
            result.append(replace(part, prefix=prefixes[os.path.abspath(part.base)]))
    return result


def identity(source: Path | bytes) -> int:
    """A number that is the same for paths that lead to one file through different folders."""
    if isinstance(source, bytes):
        return 0
    return hash((_real(os.path.dirname(os.path.abspath(source))), source.name))


@lru_cache(maxsize=1024)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


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
