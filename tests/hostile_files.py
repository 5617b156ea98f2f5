"""Files that no photo can be read from, as they turn up in real folders or are made to do harm."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def write_hostile_files(folder: Path) -> list[Path]:
    """Write one of each kind.

    Args:
        folder: Exists.

    Returns:
        Their paths, named as photos are.
    """
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content())
    os.symlink(folder / "moved away.jpg", folder / "broken link.jpg")
    os.mkfifo(folder / "pipe.jpg")
    return sorted([folder / name for name in CONTENTS] + [folder / "broken link.jpg", folder / "pipe.jpg"])


def _encoded(image_format: str, mode: str = "RGB") -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, image_format)
    return buffer.getvalue()


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _tiff_that_points_at_itself() -> bytes:
    return (
        struct.pack("<2sHL", b"II", 42, 8) + struct.pack("<H", 1) + struct.pack("<HHLL", 330, 4, 1, 8) + b"\x08\0\0\0"
    )


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", _encoded("JPEG"))
    return buffer.getvalue()


def _depths() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(0, 9, 4800, dtype=np.float32).reshape(60, 80)).save(buffer, "TIFF")
    return buffer.getvalue()


CONTENTS: dict[str, Callable[[], bytes]] = {
    "empty.jpg": lambda: b"",
    "one byte.png": lambda: b"\x89",
    "page.jpg": lambda: b"<!DOCTYPE html><title>404 Not Found</title>",
    "drawing.png": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "document.jpg": lambda: b"%PDF-1.7\n" + bytes(500),
    "postscript.jpg": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 80 60\n(/etc/passwd) run\n%%EOF\n",
    "archive.jpg": _zip,
    "noise.webp": lambda: np.random.default_rng(1).bytes(5000),
    "zeros.bmp": lambda: bytes(5000),
    "truncated.jpg": lambda: _encoded("JPEG")[:1000],
    "truncated.png": lambda: _encoded("PNG")[:5000],
    "truncated.tif": lambda: _encoded("TIFF")[:5000],
    "truncated.webp": lambda: _encoded("WEBP")[:1000],
    "truncated.gif": lambda: _encoded("GIF", "P")[:900],
    "bomb.png": lambda: _png(60_000, 60_000, zlib.compress(bytes(100_000))),
    "bomb.gif": lambda: b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b"," + bytes(20),
    "no pixels.png": lambda: _png(0, 0, zlib.compress(b"")),
    "circle.tif": _tiff_that_points_at_itself,
    "depths.tif": _depths,
    "ünïcode ☃\n.png": lambda: b"not a photo",
}
