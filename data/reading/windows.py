"""Rows of a huge photo at full resolution, without the whole of it in memory if its format allows that.

A PNG is a stream of rows, and a TIFF is a set of strips or tiles. The rows or blocks of a window are cut out of the
file and given to Pillow as a small file, so that every depth and colour is read as ``slotseg.data.reading.pillow``
reads it.

Other formats, and rarer kinds of these two (interlaced, turned by EXIF, separate colour planes), are decoded whole at
the first window. Letters: H W pixels.
"""

import math
import struct
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from slotseg.data.reading.images import MAX_PIXELS
from slotseg.data.reading.notes import TRANSPARENT, header_notes, page_notes, shown
from slotseg.data.reading.photos import REDUCTIONS, open_photo, read_large_jpeg
from slotseg.data.reading.pillow import opened_file, opened_image, orientation, to_rgb, upright_rgb, upright_size
from slotseg.data.reading.png_rows import PngHeader, PngRows, read_header
from slotseg.data.reading.releasing import ReleasedRows
from slotseg.data.reading.tiff_blocks import TiffBlocks, find_blocks
from slotseg.errors import DataError

_BAND = 256


class Windows(ABC):
    """A photo that is read in bands of rows.

    Args:
        source: File, or its content.
        name: Name in messages.
        size_hw: Upright height and width, in pixels.
        notes: Notes on what is known to be left out or changed.

    Attributes:
        size_hw: Height and width, in pixels.
        notes: Notes on what is left out or changed. A note on transparency is added while the photo is read.
        whole: Whether the first window decodes the whole photo.
        band: Number of rows that are best read at once, from a multiple of it on.
    """

    whole = False
    band = _BAND

    def __init__(self, source: Path | bytes, name: str, size_hw: tuple[int, int], notes: tuple[str, ...]) -> None:
        self._source = source
        self._name = name
        self.size_hw = size_hw
        self.notes = notes

    def read(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Read the rows ``top`` to ``bottom``, exclusive, as ``read_image`` gives them: ``(bottom - top, W, 3)``.

        Bands are best read from the top down. They may overlap.

        Raises:
            DataError: If the rows cannot be decoded.
            ValueError: If the rows are not within the photo.
        """
        if not 0 <= top < bottom <= self.size_hw[0]:
            raise ValueError(f"rows {top} to {bottom} of a photo of {self.size_hw[0]}; expected some within it")
        return self._rows(top, bottom)

    def reduced(self, max_side: int) -> NDArray[np.uint8]:
        """Read the whole photo at a small size: its longer side becomes ``max_side``, if it is larger.

        Returns:
            RGB pixels, ``(h, w, 3)``, each the mean of the pixels that it replaces.

        Raises:
            DataError: If the photo cannot be decoded.
        """
        height, width = self.size_hw
        factor = max(max(height, width) // max_side, 1)
        small, factor = self._reduced(factor)
        scale = min(max_side / max(height, width), 1)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        box = (0, 0, min(width / factor, small.shape[1]), min(height / factor, small.shape[0]))
        return np.array(Image.fromarray(small).resize(size, Image.Resampling.BOX, box))

    @abstractmethod
    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]: ...

    def _reduced(self, factor: int) -> tuple[NDArray[np.uint8], int]:
        """Read the photo at 1 / ``factor`` of its size, or at a larger 1 / n if that is cheaper, and return n too."""
        step = factor * math.ceil(self.band / factor)
        bands = [
            np.asarray(Image.fromarray(self.read(top, min(top + step, self.size_hw[0]))).reduce(factor))
            for top in range(0, self.size_hw[0], step)
        ]
        return np.concatenate(bands), factor

    def _cut(self, content: bytes) -> NDArray[np.uint8]:
        """Decode a small file that was cut out of this one."""
        with opened_image(content, sys.maxsize, name=self._name) as image:
            pixels, transparent = upright_rgb(image, self._name)
        self._note_transparency(transparent)
        return pixels

    def _note_transparency(self, transparent: bool) -> None:
        if transparent and TRANSPARENT not in self.notes:
            self.notes += (TRANSPARENT,)

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self._name} cannot be decoded ({error}): copy it again or leave it out")


def open_windows(source: Path | str | bytes, max_pixels: int = MAX_PIXELS, name: str = "") -> Windows:
    """Open any image. Only its header is decoded yet.

    Args:
        source: File, or its content.
        max_pixels: Largest accepted height x width.
        name: Name in messages; by default the path.

    Raises:
        DataError: In the cases of ``read_image``. Damage behind the header shows only when windows are read.
    """
    name = name or shown(source)
    source = Path(source) if isinstance(source, str) else source
    with opened_image(source, max_pixels, name=name, allowed_by="--max-pixels") as image:
        size_hw = upright_size(image)
        notes = header_notes(image)
        image_format = image.format
        blocks = None
        with suppress(ArithmeticError, LookupError, TypeError):  # an odd header; read_image may still make sense of it
            blocks = find_blocks(image) if isinstance(image, TiffImageFile) else None
        streamed = isinstance(image, PngImageFile) and orientation(image) == 1 and not image.is_animated
        notes = page_notes(image) + notes
    if blocks:
        return _Tiff(source, name, size_hw, notes, blocks)
    if streamed:
        with opened_file(source, name) as file:
            if header := read_header(file):
                return _Png(source, name, size_hw, notes, header)
    return _Whole(source, name, size_hw, notes, max_pixels, is_jpeg=image_format in ("JPEG", "MPO"))


class ArrayWindows(Windows):
    """A photo in memory, RGB, ``(H, W, 3)``."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__(b"", "the array", (pixels.shape[0], pixels.shape[1]), ())
        self._pixels = pixels

    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        return self._pixels[top:bottom]


class _Tiff(Windows):
    def __init__(
        self, source: Path | bytes, name: str, size_hw: tuple[int, int], notes: tuple[str, ...], blocks: TiffBlocks
    ) -> None:
        super().__init__(source, name, size_hw, notes)
        self._blocks = blocks
        self.band = blocks.rows * math.ceil(_BAND / blocks.rows)  # each block is decoded once

    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        try:
            with opened_file(self._source, self._name) as file:
                content, start = self._blocks.tiff(file, top, bottom)
        except (struct.error, OverflowError) as error:  # its header names values that no TIFF can hold
            raise self._damaged(error) from error
        return self._cut(content)[top - start : bottom - start]


class _Png(Windows):
    def __init__(
        self, source: Path | bytes, name: str, size_hw: tuple[int, int], notes: tuple[str, ...], header: PngHeader
    ) -> None:
        super().__init__(source, name, size_hw, notes)
        self._header = header
        self._stream = PngRows(header, name)
        self._kept = np.empty((0, size_hw[1], 3), np.uint8)  # the rows before the stream's next

    def _rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        if top < self._stream.next_row - len(self._kept):
            self._stream, self._kept = PngRows(self._header, self._name), self._kept[:0]
        while self._stream.next_row < top:
            self._advance(min(top - self._stream.next_row, _BAND))
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
        rows = self._cut(content)
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
