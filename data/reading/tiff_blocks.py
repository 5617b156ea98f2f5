"""Strips and tiles of a TIFF, as small TIFFs.

The blocks of some rows are copied as they are stored, compressed or not. A header before them gives the depth, colours
and compression of the file. Source: TIFF 6.0, sections 3 and 15.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from PIL.TiffImagePlugin import TiffImageFile

_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _PLANES = 256, 257, 259, 262, 274, 284
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_JPEG_TABLES = 347
_COPIED = (258, 259, 262, 266, 277, 284, 317, 320, 322, 323, 332, 338, 339, _JPEG_TABLES, 530)
_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)  # none, LZW, JPEG, deflate, packed bits, deflate of old
_PHOTOMETRICS = (0, 1, 2, 3, 5, 6)  # grey, RGB, palette, CMYK, YCbCr
_SHORT, _LONG, _BYTES = 3, 4, 7
_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class TiffBlocks:
    """Places of the rows of a TIFF in its file."""

    order: str
    """Byte order, ``<`` or ``>``, as for ``struct``."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    rows: int
    """Rows of a block. The last blocks may have fewer."""
    across: int
    """Number of blocks side by side."""
    tiled: bool
    """Whether blocks are tiles; otherwise they are strips."""
    offsets: tuple[int, ...]
    """Offset of each block in the file, in bytes."""
    sizes: tuple[int, ...]
    """Bytes of each block as it is stored."""
    tags: dict[int, int | tuple[int, ...] | bytes]
    """Tags that all blocks have in common."""

    def tiff(self, file: BinaryIO, top: int, bottom: int) -> tuple[bytes, int]:
        """Blocks with the rows ``top`` to ``bottom``, exclusive, as a TIFF, and the row at which it starts."""
        first, last = top // self.rows, -(-bottom // self.rows)
        blocks = []
        for i in range(first * self.across, last * self.across):
            file.seek(self.offsets[i])
            blocks.append(file.read(self.sizes[i]))
        start = first * self.rows
        return self._file(blocks, min(last * self.rows, self.height) - start), start

    def _file(self, blocks: list[bytes], height: int) -> bytes:
        offsets, end = [], 8
        for block in blocks:
            offsets.append(end)
            end += len(block)
        where, sizes = (_TILE_OFFSETS, _TILE_BYTES) if self.tiled else (_STRIP_OFFSETS, _STRIP_BYTES)
        tags = {
            **self.tags,
            _WIDTH: self.width,
            _HEIGHT: height,
            where: tuple(offsets),
            sizes: tuple(len(block) for block in blocks),
        }
        if not self.tiled:
            tags[_STRIP_ROWS] = self.rows
        padding = b"\0" * (end % 2)
        mark = b"II" if self.order == "<" else b"MM"
        start = struct.pack(f"{self.order}2sHL", mark, 42, end + len(padding))
        return start + b"".join(blocks) + padding + _directory(self.order, tags, end + len(padding))


def find_blocks(image: TiffImageFile) -> TiffBlocks | None:
    """Find the blocks of the first page of a TIFF. None if it is of a rarer kind, or has only one block."""
    tags = image.tag_v2
    compression, photometric = tags.get(_COMPRESSION, 1), tags.get(_PHOTOMETRIC, 0)
    plain = (
        compression in _COMPRESSIONS
        and photometric in _PHOTOMETRICS
        and (photometric != 6 or compression == 7)
        and tags.get(_PLANES, 1) == 1
        and tags.get(_ORIENTATION, 1) == 1
    )
    tiled = _TILE_OFFSETS in tags
    where, counts = (_TILE_OFFSETS, _TILE_BYTES) if tiled else (_STRIP_OFFSETS, _STRIP_BYTES)
    if not plain or where not in tags or counts not in tags:
        return None
    width, height = tags[_WIDTH], tags[_HEIGHT]
    rows = tags[_TILE_HEIGHT] if tiled else min(tags.get(_STRIP_ROWS, height), height)
    across = -(-width // tags[_TILE_WIDTH]) if tiled else 1
    offsets, sizes = tuple(tags[where]), tuple(tags[counts])
    if compression == 1 and not tiled and len(offsets) == 1 and sizes[0] % height == 0:
        row, rows = sizes[0] // height, min(_ROWS, height)  # rows that are not compressed can be cut anywhere
        starts = range(0, height, rows)
        offsets = tuple(offsets[0] + top * row for top in starts)
        sizes = tuple(min(rows, height - top) * row for top in starts)
    if len(offsets) != len(sizes) or len(offsets) != across * -(-height // rows) or len(offsets) == 1:
        return None
    return TiffBlocks(
        order="<" if tags.prefix == b"II" else ">",
        height=height,
        width=width,
        rows=rows,
        across=across,
        tiled=tiled,
        offsets=offsets,
        sizes=sizes,
        tags={tag: tags[tag] for tag in _COPIED if tag in tags},
    )


def _directory(order: str, tags: dict[int, int | tuple[int, ...] | bytes], offset: int) -> bytes:
    """Image file directory for the place ``offset``. Values that do not fit into it follow behind it."""
    entries, behind = b"", b""
    end = offset + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            kind, count, packed = _BYTES, len(value), value
        else:
            values = value if isinstance(value, tuple) else (value,)
            kind = _LONG if tag in (_WIDTH, _HEIGHT, _STRIP_ROWS) or max(values) > 65535 else _SHORT
            count, packed = len(values), struct.pack(f"{order}{len(values)}{'L' if kind == _LONG else 'H'}", *values)
        if len(packed) > 4:
            packed, behind = struct.pack(f"{order}L", end + len(behind)), behind + packed + b"\0" * (len(packed) % 2)
        entries += struct.pack(f"{order}HHL", tag, kind, count) + packed.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(tags)) + entries + b"\0\0\0\0" + behind
