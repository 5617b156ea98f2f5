"""Pictures: indexed mask, overlay, legend, contact sheet. NumPy and Pillow only.

Letters: H W pixels, C classes.
"""

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slotseg.files import write_bytes, write_json, writing
from slotseg.labels.label_map import IGNORE, LabelMap

TILE = 240
LEGEND_ROWS = 32
BAND = 64
"""Rows of a picture that are mixed at once, so that no copy of it in float32 is needed."""
SHEET_ROWS = 12
"""Most rows of a sheet that has one photo in a row."""

Row = list[NDArray[np.uint8]]
"""Pictures of one photo, side by side on the sheet."""


def mask_png(class_map: NDArray[Any], labels: LabelMap) -> bytes:
    """A mask as PNG: indexed with the label map's colours, or 16-bit grey where ids need it.

    Args:
        class_map: Ids ``(H, W)`` as from ``LabelMap.class_map``.
        labels: Label map with the palette. The ignore id is black.
    """
    if labels.ignore == IGNORE:
        image = Image.fromarray(class_map.astype(np.uint8, copy=False))
        image.putpalette(color_table(labels).tobytes())
    else:
        image = Image.fromarray(class_map.astype(np.uint16, copy=False))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_type=zlib.Z_RLE)  # masks are made of runs; takes a third of the time
    return buffer.getvalue()


def overlay(
    image: NDArray[np.uint8], class_map: NDArray[Any], labels: LabelMap, alpha: float = 0.5
) -> NDArray[np.uint8]:
    """Lay class colours over a photo, with a line where the class changes.

    Args:
        image: RGB, ``(H, W, 3)``.
        class_map: Ids ``(H, W)``. Pixels of the ignore id are darkened.
        labels: Label map with the colours.
        alpha: Opacity of the colours.

    Returns:
        RGB, ``(H, W, 3)``.
    """
    tints = np.float32(alpha) * color_table(labels).astype(np.float32)
    picture = np.empty_like(image)
    for top in range(0, len(image), BAND):
        ids = class_map[top : top + BAND]
        mixed = image[top : top + BAND] * np.float32(1 - alpha)
        mixed += tints[ids]
        mixed[:, 1:][ids[:, 1:] != ids[:, :-1]] = 255
        first = max(top, 1)  # the row above the first is in the band before, if there is one
        mixed[first - top :][class_map[first : top + BAND] != class_map[first - 1 : top + len(ids) - 1]] = 255
        picture[top : top + BAND] = mixed
    return picture


def colored(class_map: NDArray[Any], labels: LabelMap) -> NDArray[np.uint8]:
    """Class colours ``(H, W, 3)``. The ignore id is black."""
    picture: NDArray[np.uint8] = color_table(labels)[class_map]
    return picture


def legend(labels: LabelMap) -> dict[str, Any]:
    """Names and colours by id, for ``legend.json``."""
    return {
        "classes": [
            {"id": i, "name": name, "color": list(color)}
            for i, (name, color) in enumerate(zip(labels.names, labels.colors, strict=True))
        ],
        "ignore_id": labels.ignore,
        "origin": labels.origin,
    }


def legend_picture(labels: LabelMap) -> Image.Image:
    """A picture of names and colours, in columns. Classes without a prototype are left out."""
    font = ImageFont.load_default(14)
    used = sorted({c for c in labels.classes if c != labels.ignore})
    rows = max(1, min(len(used), LEGEND_ROWS))
    width = 34 + max([0, *(int(font.getlength(labels.names[c])) for c in used)])
    picture = Image.new("RGB", (width * max(1, -(-len(used) // rows)), 24 * rows + 8), "white")
    draw = ImageDraw.Draw(picture)
    for i, class_id in enumerate(used):
        x, y = width * (i // rows) + 6, 24 * (i % rows) + 6
        draw.rectangle((x, y, x + 14, y + 14), labels.colors[class_id], "black")
        draw.text((x + 20, y), labels.names[class_id], "black", font)
    return picture


def contact_sheet(rows: Sequence[Sequence[NDArray[np.uint8]]], titles: Sequence[str], labels: LabelMap) -> Image.Image:
    """Pictures side by side, one row each under column titles, with a legend below.

    Args:
        rows: RGB pictures ``(H, W, 3)`` of any size. They are scaled to fit their tile.
        titles: Title of each column.
        labels: Label map for the legend.
    """
    font = ImageFont.load_default(14)
    used = [(n, c) for i, (n, c) in enumerate(zip(labels.names, labels.colors, strict=True)) if i in labels.classes]
    per_line = max(1, len(titles) * TILE // 160)
    legend_height = 24 * -(-len(used) // per_line)
    sheet = Image.new("RGB", (len(titles) * TILE, 24 + len(rows) * TILE + legend_height + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * TILE + 6, 4), title, "black", font)
        for row, pictures in enumerate(rows):
            if column < len(pictures):
                tile = _fitted(pictures[column])
                sheet.paste(
                    tile,
                    (column * TILE + (TILE - tile.width) // 2, 24 + row * TILE + (TILE - tile.height) // 2),
                )
    for i, (name, color) in enumerate(used):
        x, y = 160 * (i % per_line) + 6, 24 + len(rows) * TILE + 24 * (i // per_line) + 6
        draw.rectangle((x, y, x + 14, y + 14), color, "black")
        draw.text((x + 20, y), name[:18], "black", font)
    return sheet


def sheet(rows: Sequence[Row], labels: LabelMap) -> Image.Image:
    """The contact sheet of photos, each with overlay and mask; two photos in a row where there are many."""
    if len(rows) <= SHEET_ROWS:
        return contact_sheet(rows, ["photo", "overlay", "mask"], labels)
    half = -(-len(rows) // 2)
    pairs = [left + right for left, right in zip(rows[:half], [*rows[half:], []], strict=False)]
    return contact_sheet(pairs, ["photo", "overlay", "mask"] * 2, labels)


def save_mask(path: Path, class_map: NDArray[Any], labels: LabelMap) -> None:
    """Write a mask as PNG, whole or not at all.

    Raises:
        DataError: If the file cannot be written.
    """
    _write(path, mask_png(class_map, labels))


def save_picture(path: Path, picture: NDArray[np.uint8] | Image.Image) -> None:
    """Write a picture to look at, as PNG or JPEG by its suffix, whole or not at all.

    Raises:
        DataError: If the file cannot be written.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if path.suffix == ".png" else "JPEG", quality=90)
    _write(path, buffer.getvalue())


def save_gray(path: Path, values: NDArray[np.uint8]) -> None:
    """Write values ``(H, W)`` as a grey PNG, whole or not at all.

    Raises:
        DataError: If the file cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    _write(path, buffer.getvalue())


def save_legend(path: Path, labels: LabelMap) -> None:
    """Write ``legend`` as JSON, whole or not at all.

    Raises:
        DataError: If the file cannot be written.
    """
    with writing(path):
        write_json(path, legend(labels))


def _write(path: Path, content: bytes) -> None:
    """Write a picture without waiting for the disk, as it can be made again."""
    with writing(path):
        write_bytes(path, content, flush=False)


def color_table(labels: LabelMap) -> NDArray[np.uint8]:
    """Colours by id, ``(ignore + 1, 3)``. The last one, of the ignore id, is black."""
    table = np.zeros((labels.ignore + 1, 3), np.uint8)
    table[: len(labels.colors)] = labels.colors
    return table


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture at the size of a tile of ``contact_sheet``, to be kept until the sheet is drawn."""
    return np.asarray(_fitted(picture))


def _fitted(picture: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(picture)
    scale = (TILE - 4) / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC)
