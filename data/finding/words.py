"""The meaning of each word, and places for the outputs of several words, so that none replaces another's.

A word is a file, a folder, a quoted pattern (``'photos/**/*.jpg'``), a list of paths (``@list.txt``,
``@-`` from stdin), or one image from stdin (``-``). It is checked at once and becomes plain data that says where to
look. The files are searched later, while they are used.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from slotseg.data.finding.path_lists import PathList, parse_path_list
from slotseg.data.finding.photo_trees import PhotoTree, split_pattern, stem
from slotseg.data.finding.walk import IMAGE_SUFFIXES, real_folder
from slotseg.data.reading.notes import shown
from slotseg.errors import ConfigError, DataError

STDIN_LIMIT = 2_000_000_000
"""Largest number of bytes that are read from stdin; more are no photo."""

_STDIN_IMAGE = "-"
_STDIN_LIST = "@-"


@dataclass(frozen=True, kw_only=True)
class FileWord:
    """A file that a word names, or the image on stdin."""

    source: Path | bytes
    """File, or its content."""
    relative: Path
    """Path of its outputs below the output folder, without their suffix."""


@dataclass(frozen=True, kw_only=True)
class TreeWord:
    """A folder or pattern."""

    tree: PhotoTree
    """Photos of the folder or pattern."""
    prefix: Path = field(default_factory=Path)
    """Folder of its outputs, below the output folder."""

    @property
    def base(self) -> Path:
        """Folder that is searched. Outputs are relative to it."""
        return self.tree.top


@dataclass(frozen=True, kw_only=True)
class ListWord:
    """A list of paths."""

    paths: PathList
    """Paths of files and folders."""
    base: Path
    """Absolute folder that outputs are relative to."""
    shared: frozenset[int]
    """Hashes of the absolute paths without suffix that several files share."""
    leave_out: Path | None
    """Folder that is not searched."""
    prefix: Path = field(default_factory=Path)
    """Folder of its outputs, below the output folder."""


Word = FileWord | TreeWord | ListWord


def parse_words(words: Sequence[str | Path], leave_out: Path | None, stdin: BinaryIO | None) -> list[Word]:
    """Find out what words stand for, and give each its own place for outputs.

    Args:
        words: Words to parse, at least one.
        leave_out: Folder that is not searched.
        stdin: Stream that ``-`` and ``@-`` read; None: the stdin of the process.

    Raises:
        ConfigError: If there is no word, or two of them read stdin.
        DataError: If a word stands for nothing.
    """
    texts = [os.fspath(word) for word in words]
    if not texts or "" in texts:
        raise ConfigError("an input is empty; expected a file, a folder, a quoted pattern, @list.txt or -")
    if sum(text in (_STDIN_IMAGE, _STDIN_LIST) for text in texts) > 1:
        raise ConfigError("two inputs read from stdin; expected - or @- once")
    return _told_apart([_parse(text, leave_out, stdin) for text in texts])


def identity(source: Path | bytes) -> int:
    """Number that is the same for all paths to one file, through whichever folders."""
    if isinstance(source, bytes):
        return 0
    return hash((real_folder(os.path.dirname(os.path.abspath(source))), source.name))


def _common_folder(folders: list[str]) -> str:
    """Deepest folder that holds all absolute paths; empty if they lie on several drives of Windows."""
    try:
        return os.path.commonpath(folders)
    except ValueError:
        return ""


def below(path: Path, folder: Path) -> Path:
    """Path relative to a folder; only its name if it does not lie in the folder."""
    try:
        return Path(os.path.abspath(path)).relative_to(folder)
    except ValueError:
        return Path(path.name)


def _parse(word: str, leave_out: Path | None, stdin: BinaryIO | None) -> Word:
    """Parse one word.

    Raises:
        DataError: If it stands for nothing.
    """
    path = Path(word)
    if word == _STDIN_IMAGE:
        return FileWord(source=_read_stdin(word, stdin), relative=Path("stdin"))
    if word == _STDIN_LIST:
        return _listed(parse_path_list(_read_stdin(word, stdin), Path(), "the list on stdin"), leave_out)
    if word.startswith("@") and (os.path.exists(os.path.expanduser(word[1:])) or not os.path.exists(path)):
        return _listed(_read_list(Path(os.path.expanduser(word[1:]))), leave_out)
    if os.path.isdir(path):
        return _searched(PhotoTree(top=path, closed=leave_out), word)
    if os.path.isfile(path):
        return FileWord(source=path, relative=Path(path.name))
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


def _searched(tree: PhotoTree, word: str) -> TreeWord:
    """Check that a tree holds a photo.

    Raises:
        DataError: If it holds no photo, or cannot be listed.
    """
    try:
        if tree.holds_photo():
            return TreeWord(tree=tree)
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


def _listed(paths: PathList, leave_out: Path | None) -> ListWord:
    """Read a list once for everything that the names of its outputs depend on."""
    base = os.path.abspath(paths.folder)
    common, inside = "", True
    stems = np.empty(sum(1 for _ in paths.paths()), np.int64)
    for i, (_, path) in enumerate(paths.paths()):
        absolute = os.path.abspath(path)
        stems[i] = hash(stem(absolute))
        parent = os.path.dirname(absolute)
        inside = inside and Path(parent).is_relative_to(base)
        common = _common_folder([common, parent]) if common else parent
    values, counts = np.unique(stems, return_counts=True)
    return ListWord(
        paths=paths,
        base=Path(base if inside else common),
        shared=frozenset(values[counts > 1].tolist()),
        leave_out=leave_out,
    )


def _told_apart(words: list[Word]) -> list[Word]:
    """Tell outputs of words apart: those of files by folders or suffixes, those of trees by folders of their own."""
    files = [word.source for word in words if isinstance(word, FileWord) and isinstance(word.source, Path)]
    names = _names_of_files(list({identity(file): file for file in files}.values()))
    prefixes = _prefixes_of_trees({os.path.abspath(word.base) for word in words if not isinstance(word, FileWord)})
    result: list[Word] = []
    for word in words:
        if isinstance(word, FileWord):
            named = names.get(word.source, word.relative) if isinstance(word.source, Path) else word.relative
            result.append(replace(word, relative=named))
        else:
            result.append(replace(word, prefix=prefixes[os.path.abspath(word.base)]))
    return result


def _names_of_files(files: list[Path]) -> dict[Path, Path]:
    """Output paths of files: the file name, below as many folders as it takes, with the suffix only if needed."""
    same = Counter(file.name for file in files)
    common = {name: _common_folder([os.path.abspath(f.parent) for f in files if f.name == name]) for name in same}
    named = {f: below(f, Path(common[f.name])) if same[f.name] > 1 else Path(f.name) for f in files}
    stems = Counter(stem(str(path)) for path in named.values())
    return {f: path if stems[stem(str(path))] > 1 else Path(stem(str(path))) for f, path in named.items()}


def _prefixes_of_trees(bases: set[str]) -> dict[str, Path]:
    """Output folder of each of several trees; none if there is only one tree."""
    if len(bases) == 1:
        return dict.fromkeys(bases, Path())
    same = Counter(os.path.basename(base) for base in bases)
    common = {
        name: _common_folder([os.path.dirname(base) for base in bases if os.path.basename(base) == name])
        for name in same
    }
    return {base: below(Path(base), Path(common[os.path.basename(base)])) for base in bases}
