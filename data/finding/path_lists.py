"""Lists of paths in text files from an editor, a spreadsheet, ``find -print0`` or PowerShell.

A list has one path per line, relative to the list's folder. Empty lines and lines that start with ``#`` are
skipped (a file ``#1.jpg`` is written ``./#1.jpg``). The text is UTF-8 or UTF-16, with any line ends. Paths that
end in zero bytes are taken literally.
"""

import codecs
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slotseg.errors import DataError

_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, kw_only=True)
class PathList:
    """A list of paths that was read."""

    name: str
    """Name in messages."""
    folder: Path
    """Folder that its paths are relative to."""
    text: str
    """Content of the list. Bytes that are no UTF-8 are escaped as in paths of the operating system."""

    def paths(self) -> Iterator[tuple[int, Path]]:
        """Line numbers, from 1, and paths, absolute or below ``folder``. Paths need not exist."""
        zero_ended = "\0" in self.text
        lines = iter(self.text.split("\0")) if zero_ended else io.StringIO(self.text, newline=None)
        for number, line in enumerate(lines, start=1):
            path = line if zero_ended else self._path(line.removesuffix("\n"))
            if path:
                yield number, self.folder / path

    def _path(self, line: str) -> str:
        """Path of a line; empty if it has none."""
        text = line.strip()
        if not text or text.startswith("#"):
            return ""
        if line != text and os.path.exists(self.folder / line):  # its name has these spaces
            return line
        if len(text) > 2 and text[0] == text[-1] == '"':  # as Windows copies a path
            text = text[1:-1]
        return os.path.expanduser(text)


def parse_path_list(content: bytes, folder: Path, name: str) -> PathList:
    """Read the bytes of a list.

    Args:
        content: Bytes of the file.
        folder: Folder that its paths are relative to.
        name: Name in messages.

    Raises:
        DataError: If it is no text, or names no path.
    """
    encoding = next((e for bom, e in _BOMS.items() if content.startswith(bom)), None)
    if encoding is None:
        encoding = _unmarked_encoding(content)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    try:
        result = PathList(name=name, folder=folder, text=content.decode(encoding, errors))
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is no list in UTF-16 as it seemed: save it as UTF-8 text, a path per line") from error
    if next(result.paths(), None) is None:
        raise DataError(f"{name} names no photo; expected a path per line: fill the list or leave it out")
    return result


def _unmarked_encoding(content: bytes) -> str:
    """Encoding of a list without a byte order mark. In UTF-16, every other byte of plain letters is zero."""
    pairs = {(a > 0, b > 0) for a, b in zip(content[:64:2], content[1:64:2], strict=False)}
    return "utf-16-le" if pairs == {(True, False)} else "utf-16-be" if pairs == {(False, True)} else "utf-8"
