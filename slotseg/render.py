"""Pictures: indexed mask, overlay, legend, contact sheet. NumPy and Pillow only.

Letters: H W pixels, C classes.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slotseg.errors import DataError
from slotseg.files import write_bytes, write_json
from slotseg.labels import IGNORE, Color, LabelMap

TILE = 240
LEGEND_ROWS = 32


def mask_png(class_map: NDArray[Any], labels: LabelMap) -> bytes:
    """A mask as PNG: indexed with the label map's colours, or 16-bit grey where ids need it.

    Args:
        class_map: Ids ``(H, W)`` as from ``LabelMap.class_map``.
        labels: Gives the palette; the ignore id is black.
    """
    if labels.ignore == IGNORE:
        image = Image.fromarray(class_map.astype(np.uint8))
        image.putpalette(_palette_bytes(labels))
    else:
        image = Image.fromarray(class_map.astype(np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def overlay(
    image: NDArray[np.uint8], class_map: NDArray[Any], labels: LabelMap, alpha: float = 0.5
) -> NDArray[np.uint8]:
    """Lay class colours over a photo, with a line where the class changes.

    Args:
        image: RGB, ``(H, W, 3)``.
        class_map: Ids ``(H, W)``; pixels of the ignore id are darkened.
        labels: Gives the colours.
        alpha: Opacity of the colours.

    Returns:
        RGB, ``(H, W, 3)``.
    """
    mixed = (1 - alpha) * image + alpha * colored(class_map, labels)
    edge = np.zeros(class_map.shape, bool)
    edge[:, 1:] |= class_map[:, 1:] != class_map[:, :-1]
    edge[1:] |= class_map[1:] != class_map[:-1]
    mixed[edge] = 255
    return mixed.astype(np.uint8)


def colored(class_map: NDArray[Any], labels: LabelMap) -> NDArray[np.uint8]:
    """Class colours ``(H, W, 3)``; the ignore id is black."""
    table = np.zeros((labels.ignore + 1, 3), np.uint8)
    table[: len(labels.colors)] = labels.colors
    picture: NDArray[np.uint8] = table[class_map]
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
    """Names and colours of the classes that some prototype has, in columns."""
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
        rows: RGB pictures ``(H, W, 3)`` of any size; scaled to fit their tile.
        titles: One for each column.
        labels: Gives the legend.
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


def save_mask(path: Path, class_map: NDArray[Any], labels: LabelMap) -> None:
    """Write a mask atomically as PNG.

    Raises:
        DataError: If it cannot be written.
    """
    _write(path, mask_png(class_map, labels))


def save_picture(path: Path, picture: NDArray[np.uint8] | Image.Image) -> None:
    """Write a picture to look at, as PNG or JPEG by its suffix, atomically.

    Raises:
        DataError: If it cannot be written.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if path.suffix == ".png" else "JPEG", quality=90)
    _write(path, buffer.getvalue())


def save_gray(path: Path, values: NDArray[np.uint8]) -> None:
    """Write values ``(H, W)`` as a grey PNG, atomically.

    Raises:
        DataError: If it cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    _write(path, buffer.getvalue())


def save_legend(path: Path, labels: LabelMap) -> None:
    """Write ``legend`` as JSON, atomically.

    Raises:
        DataError: If it cannot be written.
    """
    with _writing(path):
        write_json(path, legend(labels))


def _write(path: Path, content: bytes) -> None:
    with _writing(path):
        write_bytes(path, content)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); choose another --output") from error


def _palette_bytes(labels: LabelMap) -> bytes:
    colors: list[Color] = list(labels.colors) + [(0, 0, 0)] * (256 - len(labels.colors))
    return bytes(channel for color in colors for channel in color)


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as large as a tile of ``contact_sheet`` shows it, to be kept until there is one."""
    return np.asarray(_fitted(picture))


def _fitted(picture: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(picture)
    scale = (TILE - 4) / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC)
