"""Windows of each format of file.

A PNG is a stream of rows, and a TIFF is a set of strips or tiles. The rows or blocks of a window are cut out of the
file and given to Pillow as a small file, so that every depth and colour is read as ``slotseg.data.reading.pillow``
reads it. A raster (``slotseg.data.reading.rasters``) decodes its own blocks.

Other formats, and rarer kinds of these two (interlaced, turned by EXIF), are decoded whole at the first window.
Letters: H W pixels.
"""

import math
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from slotseg.data.reading.images import AS_TYPED, MAX_PIXELS, open_raster
from slotseg.data.reading.notes import header_notes, is_deep, page_notes, shown
from slotseg.data.reading.photos import REDUCTIONS, open_photo, read_large_jpeg
from slotseg.data.reading.pillow import (
    opened_file,
    opened_image,
    orientation,
    to_rgb,
    turned_size,
    upright_rgb,
    upright_size,
)
from slotseg.data.reading.png_rows import SIGNATURE, PngHeader, PngRows, read_header
from slotseg.data.reading.rasters import ArrayRaster
from slotseg.data.reading.releasing import ReleasedRows
from slotseg.data.reading.rendering import Rendering
from slotseg.data.reading.tiff_blocks import TiffBlocks, find_blocks
from slotseg.data.reading.tiff_pages import tiff_page_notes
from slotseg.data.reading.windows import ROWS, Windows
from slotseg.errors import DataError
from slotseg.segment_config import ReadingConfig


def open_windows(
    source: Path | str | bytes, max_pixels: int = MAX_PIXELS, name: str = "", reading: ReadingConfig = AS_TYPED
) -> Windows:
    """Open any image. Only its header is decoded yet.

    Args:
        source: File, or its content.
        max_pixels: Largest accepted height x width.
        name: Name in messages; by default the path.
        reading: Bands and range.

    Raises:
        DataError: In the cases of ``read_image``. Damage behind the header shows only when windows are read.
    """
    name = name or shown(source)
    source = Path(source) if isinstance(source, str) else source
    if (png := _streamed_png(source, max_pixels, name, reading)) is not None:
        return png
    raster = open_raster(source, max_pixels, name, "--max-pixels", reading)
    if raster is not None:
        return _Raster(source, name, Rendering(raster, reading))
    with opened_image(source, max_pixels, name=name, allowed_by="--max-pixels") as image:
        size_hw = upright_size(image)
        notes = header_notes(image)
        image_format = image.format
        blocks = None
        with suppress(ArithmeticError, LookupError, TypeError):  # an odd header; read_image may still make sense of it
            blocks = find_blocks(image) if isinstance(image, TiffImageFile) else None
        notes = (tiff_page_notes(source) if image_format == "TIFF" else page_notes(image)) + notes
    if blocks:
        return _Tiff(source, name, size_hw, notes, blocks)
    return _Whole(source, name, size_hw, notes, max_pixels, is_jpeg=image_format in ("JPEG", "MPO"))


def _streamed_png(source: Path | bytes, max_pixels: int, name: str, reading: ReadingConfig) -> "_Png | None":
    """A PNG whose rows can be read one after another; None for other files."""
    with opened_file(source, name) as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return None
        with opened_image(source, max_pixels, name=name, allowed_by="--max-pixels") as image:
            upright = isinstance(image, PngImageFile) and orientation(image) == 1 and not image.is_animated
            header = read_header(file) if upright else None
            if header is None:
                return None
            notes = () if reading.range and is_deep(image) else header_notes(image)
            return _Png(source, name, upright_size(image), page_notes(image) + notes, header, reading)


class _Raster(Windows):
    """A raster. It is decoded whole where its rows are turned."""

    def __init__(self, source: Path | bytes, name: str, rendering: Rendering) -> None:
        facts = rendering.facts
        super().__init__(source, name, turned_size(facts.size_hw, facts.turn), rendering.notes)
        self._rendering = rendering
        self._decoded: NDArray[np.uint8] | None = None
        self.whole = facts.turn != 1 or isinstance(rendering.raster, ArrayRaster)
        self.band = facts.block_rows * math.ceil(ROWS / facts.block_rows)

    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        if not self.whole:
            rows = self._rendering.rows(top, bottom)
        else:
            if self._decoded is None:
                self._decoded = self._rendering.upright()
            rows = self._decoded[top:bottom].copy()
            if bottom == self.size_hw[0]:  # read to its end: what comes next may need the memory
                self._decoded = None
        self.notes = self._rendering.notes
        return rows


class _Tiff(Windows):
    def __init__(
        self, source: Path | bytes, name: str, size_hw: tuple[int, int], notes: tuple[str, ...], blocks: TiffBlocks
    ) -> None:
        super().__init__(source, name, size_hw, notes)
        self._blocks = blocks
        self.band = blocks.rows * math.ceil(ROWS / blocks.rows)  # each block is decoded once

    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        try:
            with opened_file(self._source, self._name) as file:
                content, start = self._blocks.tiff(file, top, bottom)
        except (struct.error, OverflowError) as error:  # its header names values that no TIFF can hold
            raise self._damaged(error) from error
        return self._cut(content)[top - start : bottom - start]


class _Png(Windows):
    def __init__(
        self,
        source: Path | bytes,
        name: str,
        size_hw: tuple[int, int],
        notes: tuple[str, ...],
        header: PngHeader,
        reading: ReadingConfig,
    ) -> None:
        super().__init__(source, name, size_hw, notes)
        self._header, self._reading = header, reading
        self._stream = PngRows(header, name)
        self._kept = np.empty((0, size_hw[1], 3), np.uint8)  # the rows before the stream's next

    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        if top < self._stream.next_row - len(self._kept):
            self._stream, self._kept = PngRows(self._header, self._name), self._kept[:0]
        while self._stream.next_row < top:
            self._advance(min(top - self._stream.next_row, ROWS))
            self._kept = self._kept[:0]
        self._kept = self._kept[len(self._kept) - (self._stream.next_row - top) :]
        if bottom > self._stream.next_row:
            self._advance(bottom - self._stream.next_row)
        return self._kept[: bottom - top].copy()

    def _advance(self, count: int) -> None:
        try:
            with opened_file(self._source, self._name) as file:
                content = self._stream.png(file, count)
        except DataError:
            raise
        except Exception as error:  # zlib, Pillow and the end of the file
            self._stream, self._kept = PngRows(self._header, self._name), self._kept[:0]
            raise self._damaged(error) from error
        rows = self._cut(content, self._reading)
        if rows.shape[2] > self._kept.shape[2]:
            self._kept = np.dstack([self._kept, np.full(self._kept.shape[:2], 255, np.uint8)])
        elif rows.shape[2] < self._kept.shape[2]:
            rows = np.dstack([rows, np.full(rows.shape[:2], 255, np.uint8)])
        self._kept = np.concatenate([self._kept, rows]) if len(self._kept) else rows


class _Whole(Windows):
    whole = True

    def __init__(
        self,
        source: Path | bytes,
        name: str,
        size_hw: tuple[int, int],
        notes: tuple[str, ...],
        max_pixels: int,
        *,
        is_jpeg: bool,
    ) -> None:
        super().__init__(source, name, size_hw, notes)
        self._max_pixels = max_pixels
        self._jpeg = source if is_jpeg and isinstance(source, Path) else None
        self._decoded: Image.Image | NDArray[np.uint8] | ReleasedRows | None = None

    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        if self._decoded is None or (isinstance(self._decoded, ReleasedRows) and top < self._decoded.first):
            self._decoded = None  # before it is decoded anew
            self._decoded = self._decode()
        if isinstance(self._decoded, Image.Image):
            band = self._decoded.crop((0, top, self.size_hw[1], bottom))
            rgb, transparent = to_rgb(band, self._decoded.format, self._name)
            self._note_transparency(transparent)
            rows = np.array(rgb)
        elif isinstance(self._decoded, ReleasedRows):
            rows = self._decoded.pixels[top:bottom].copy()
            self._decoded.release(top)  # what comes next overlaps with this at most
        else:
            rows = self._decoded[top:bottom].copy()
        if bottom == self.size_hw[0]:  # read to its end: what comes next may need the memory
            self._decoded = None
        return rows

    def _reduced(self, factor: int) -> tuple[NDArray[np.uint8], int]:
        reduction = next(r for r in REDUCTIONS if r <= factor)
        if self._decoded is None and self._jpeg and reduction > 1:  # a fraction of the time and memory
            pixels = open_photo(self._jpeg, self._max_pixels).pixels(reduction)
            if pixels.shape[:2] != self.size_hw:
                return pixels, reduction
        return super()._reduced(factor)

    def _decode(self) -> Image.Image | NDArray[np.uint8] | ReleasedRows:
        """Decode the photo to an array, or leave it with Pillow if that takes less memory."""
        if self._jpeg and (plain := read_large_jpeg(self._jpeg, self._max_pixels)) is not None:
            return plain
        with opened_image(self._source, self._max_pixels, name=self._name) as image:
            if isinstance(image, TiffImageFile) or orientation(image) == 1:
                image.load()
                return image
            pixels, transparent = upright_rgb(image, self._name)
        self._note_transparency(transparent)
        return pixels
