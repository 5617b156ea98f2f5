"""Rows of a page of a TIFF, decoded block by block: strips or tiles, in one plane or several.

tifffile finds the blocks and decodes them with imagecodecs. Where blocks are deflated, which most GeoTIFFs are, they go
straight into an array of their size, in half the time. Letters: H W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.rasters import Values

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_JPEG, _DEFLATE, _SEPARATE = 7, (8, 32946), 2


def rows_of(tiff: "TiffFile", page: "TiffPage", top: int, bottom: int, bands: Sequence[int]) -> Values:
    """Some rows of a page, ``(bottom - top, W, bands)``."""
    width, samples = page.imagewidth, page.samplesperpixel
    separate = int(page.planarconfig) == _SEPARATE and samples > 1
    found = np.empty((bottom - top, width, len(bands)), np.dtype(page.dtype).newbyteorder("="))
    for plane in sorted(set(bands)) if separate else [0]:
        targets = [i for i, band in enumerate(bands) if not separate or band == plane]
        sources = [0 if separate else bands[i] for i in targets]
        for block, y, x in _blocks(tiff, page, plane, top, bottom):
            over, under, right = max(y, top), min(y + len(block), bottom), min(x + block.shape[1], width)
            part = block[over - y : under - y, : right - x]
            for target, source in zip(targets, sources, strict=True):
                found[over - top : under - top, x:right, target] = part[:, :, source]
    return found


def _blocks(tiff: "TiffFile", page: "TiffPage", plane: int, top: int, bottom: int) -> Iterator[tuple[Values, int, int]]:
    """Decoded blocks of a plane that hold some rows, ``(rows, columns, bands)``, each with its first row and column."""
    height, width = page.imagelength, page.imagewidth
    per_pixel = page.samplesperpixel if int(page.planarconfig) != _SEPARATE else 1
    dtype = np.dtype(page.dtype).newbyteorder(tiff.byteorder)
    whole_bytes = page.bitspersample == 8 * dtype.itemsize and page.fillorder == 1
    if page.is_contiguous and whole_bytes:
        start = page.dataoffsets[0] + (plane * height + top) * width * per_pixel * dtype.itemsize
        data = _bytes(tiff, start, (bottom - top) * width * per_pixel * dtype.itemsize)
        yield np.frombuffer(data, dtype).reshape(bottom - top, width, per_pixel), top, 0
        return
    rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, height)
    cols = page.tilewidth if page.is_tiled else width
    across, down = -(-width // cols), -(-height // rows)
    first, last = plane * across * down + top // rows * across, plane * across * down + -(-bottom // rows) * across
    inflated = int(page.compression) in _DEFLATE and page.predictor in (1, 2) and whole_bytes
    if inflated and not page.is_tiled and all(page.databytecounts[first:last]):
        y = top // rows * rows
        block = np.empty((min(-(-bottom // rows) * rows, height) - y, width, per_pixel), dtype)
        _inflate(tiff, page, first, [block[start : start + rows] for start in range(0, len(block), rows)])
        yield _undone(block, page.predictor), y, 0
        return
    for index in range(first, last):
        y, x = (index - plane * across * down) // across * rows, index % across * cols
        shape = (rows if page.is_tiled else min(rows, height - y), cols, per_pixel)
        if not page.databytecounts[index]:
            yield np.full(shape, page.nodata, dtype), y, x
        elif inflated:
            block = np.empty(shape, dtype)
            _inflate(tiff, page, index, [block])
            yield _undone(block, page.predictor), y, x
        else:
            data = _bytes(tiff, page.dataoffsets[index], page.databytecounts[index])
            if int(page.compression) == _JPEG and per_pixel < page.samplesperpixel:  # tifffile asks a plane for RGB
                yield _grey_jpeg(data, page), y, x
                continue
            decoded: Any = page.decode(data, index, jpegtables=page.jpegtables)[0]
            yield decoded[0], y, x


def _inflate(tiff: "TiffFile", page: "TiffPage", first: int, blocks: Sequence[Values]) -> None:
    """Decompress blocks that follow each other into arrays of their size, in half the time of ``page.decode``."""
    import imagecodecs

    last = first + len(blocks)
    offsets, sizes = page.dataoffsets[first:last], page.databytecounts[first:last]
    start, end = min(offsets), max(map(sum, zip(offsets, sizes, strict=True)))
    near = end - start <= 2 * sum(sizes)  # read at once
    together = memoryview(_bytes(tiff, start, end - start)) if near else memoryview(b"")
    for offset, size, block in zip(offsets, sizes, blocks, strict=True):
        data: Any = together[offset - start : offset - start + size] if near else _bytes(tiff, offset, size)
        out: Any = block.reshape(-1).view(np.uint8)
        if len(imagecodecs.deflate_decode(data, out=out)) != block.nbytes:
            raise ValueError("a block is damaged")


def _grey_jpeg(data: bytes, page: "TiffPage") -> Values:
    import imagecodecs

    return imagecodecs.jpeg_decode(data, tables=page.jpegtables)[:, :, None]


def _undone(block: Values, predictor: int) -> Values:
    """Values in the machine's byte order, whose differences along rows are added up where a predictor took them."""
    import imagecodecs

    block = block.astype(block.dtype.newbyteorder("="), copy=False)
    return imagecodecs.delta_decode(block, axis=1, out=block) if predictor == 2 else block


def unwritten(page: "TiffPage", top: int, bottom: int) -> NDArray[np.bool_]:
    """Pixels of some rows in blocks of no bytes, ``(bottom - top, W)``."""
    height, width = page.imagelength, page.imagewidth
    rows, cols = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    across = -(-width // cols)
    empty = np.array(page.databytecounts[: across * -(-height // rows)]).reshape(-1, across) == 0
    hidden: NDArray[np.bool_] = empty[np.arange(top, bottom) // rows][:, np.arange(width) // cols]
    return hidden


def _bytes(tiff: "TiffFile", offset: int, length: int) -> bytes:
    tiff.filehandle.seek(offset)
    data: bytes = tiff.filehandle.read(length)
    if len(data) < length:
        raise ValueError("it ends early")
    return data
