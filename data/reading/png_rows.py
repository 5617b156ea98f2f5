"""Rows of a PNG, in their order, as small PNGs.

A row is stored as a difference to the row above. So only the first row of a cut needs more than the stored bytes: the
row above it, already decoded, is put before it as one more row.
Source: PNG specification, third edition, sections 7 (filtering and compression) and 11 (chunks).
"""

import struct
import sys
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.pillow import opened_image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIECE = 1 << 18  # compressed bytes that are read at once
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of the colour types
_GRAYS_AND_COLORS = {1: 0, 2: 4, 3: 2, 4: 6}  # bytes that filters reach back -> the type of 8 bits whose filters do so


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    """Parts of a PNG that are needed to cut rows out of it."""

    width: int
    """Width in pixels."""
    depth: int
    """Bits of a channel."""
    color_type: int
    """Colour type of the PNG specification."""
    colors: bytes
    """Chunks of palette and transparency, as they are stored."""
    pixels: tuple[tuple[int, int], ...]
    """Offset in the file and length of each piece of the compressed rows."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row."""
        return (self.width * self.depth * _CHANNELS[self.color_type] + 7) // 8

    @property
    def reach(self) -> int:
        """Number of bytes that a filter looks back: those of a pixel, at least one."""
        return max(self.depth * _CHANNELS[self.color_type] // 8, 1)


def read_header(file: BinaryIO) -> PngHeader | None:
    """Read the header of a PNG. None if rows cannot be cut out of it: it is interlaced, or has 16 bits in colour."""
    file.seek(len(SIGNATURE))
    colors, pixels, first = b"", [], b""
    while len(start := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        offset = file.tell()
        if name == b"IDAT":
            pixels.append((offset, length))
        elif name in (b"PLTE", b"tRNS"):
            colors += start + file.read(length + 4)
        elif name == b"IHDR":
            first = file.read(length)
        file.seek(offset + length + 4)
    width, _, depth, color_type, _, _, interlaced = struct.unpack(">2I5B", first)
    header = PngHeader(width=width, depth=depth, color_type=color_type, colors=colors, pixels=tuple(pixels))
    return None if interlaced or header.reach not in _GRAYS_AND_COLORS else header


class PngRows:
    """The rows of a PNG, from the first on.

    Args:
        header: Header of the file.
        name: Name in messages.

    Attributes:
        next_row: Number of the row at which ``png`` continues.
    """

    def __init__(self, header: PngHeader, name: str) -> None:
        self._name = name
        self.next_row = 0
        self._header = header
        self._inflate = zlib.decompressobj()
        self._tail = b""
        self._read = 0  # compressed bytes so far
        self._above = np.zeros((1, header.row_bytes), np.uint8)

    def png(self, file: BinaryIO, count: int) -> bytes:
        """Cut out the next rows as a PNG with the colours of the file.

        Raises:
            EOFError: If the file has fewer rows.
            zlib.error: If the file is damaged.
        """
        rows = self._decoded(self._filtered(file, count), count)
        self._above = rows[-1:].copy()
        self.next_row += count
        unfiltered = np.concatenate([np.zeros((count, 1), np.uint8), rows], axis=1)
        header = self._header
        return _png(header.width, count, header.depth, header.color_type, header.colors, unfiltered.tobytes())

    def _filtered(self, file: BinaryIO, count: int) -> bytearray:
        """Decompress the next rows: for each, a byte for its filter and its filtered bytes."""
        wanted = count * (1 + self._header.row_bytes)
        rows = bytearray()
        while len(rows) < wanted:
            more = self._inflate.decompress(self._tail, wanted - len(rows))
            self._tail = self._inflate.unconsumed_tail
            rows += more
            if not more and not self._tail:
                self._tail = self._compressed(file)
                if not self._tail or self._inflate.eof:
                    raise EOFError(f"its rows end at {self.next_row + len(rows) // (1 + self._header.row_bytes)}")
        return rows

    def _compressed(self, file: BinaryIO) -> bytes:
        """Read the next compressed bytes, up to a limit; none at their end."""
        before = self._read
        for offset, length in self._header.pixels:
            if before < length:
                file.seek(offset + before)
                piece = file.read(min(length - before, _PIECE))
                self._read += len(piece)
                return piece
            before -= length
        return b""

    def _decoded(self, filtered: bytearray, count: int) -> NDArray[np.uint8]:
        """Undo the filters, with Pillow, to rows ``(count, row_bytes)``.

        Filters work on bytes. So the rows are read as those of an 8-bit image whose pixels have as many bytes.
        """
        reach = self._header.reach
        above = b"\0" + self._above.tobytes()
        width = self._header.row_bytes // reach
        png = _png(width, count + 1, 8, _GRAYS_AND_COLORS[reach], b"", above + filtered)
        with opened_image(png, sys.maxsize, name=self._name) as image:
            return np.asarray(image).reshape(count + 1, -1)[1:]


def _png(width: int, height: int, depth: int, color_type: int, colors: bytes, rows: bytes | bytearray) -> bytes:
    header = struct.pack(">2I5B", width, height, depth, color_type, 0, 0, 0)
    pixels = _chunk(b"IDAT", zlib.compress(rows, 0))
    return SIGNATURE + _chunk(b"IHDR", header) + colors + pixels + _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
