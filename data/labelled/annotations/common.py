"""What the readers of all annotation formats share: checked names and sizes, and the map of one photo.

Letters: H W pixels.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.shapes import NOTHING
from slotseg.data.reading.images import MAX_PIXELS
from slotseg.errors import DataError
from slotseg.labels.label_map import Color


def checked_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    """Names of the classes, each once.

    Raises:
        DataError: If there is none, too many, or two are alike.
    """
    twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if twice:
        raise DataError(f"{where} has two classes named {twice[0]!r}; expected different names")
    if not 0 < len(names) < NOTHING:
        raise DataError(f"{where} has {len(names) or 'no'} classes; expected 1 to {NOTHING - 1}")
    return tuple(map(str, names))


def checked_size(height: Any, width: Any) -> tuple[int, int]:
    """Height and width of a photo, numbers or text.

    Raises:
        ValueError: If they are no size of an image; the message is a clause without a subject.
    """
    try:
        size = int(height), int(width)
    except (TypeError, ValueError, OverflowError):
        size = 0, 0
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"has width {width} and height {height}; expected the size of the photo in pixels")
    return size


def common_colors(colors: Sequence[Color | None]) -> tuple[Color, ...] | None:
    """The colours of all classes; None unless each of them has one."""
    found = tuple(color for color in colors if color)
    return found if found and len(found) == len(colors) else None


def color_of(values: Any) -> Color | None:
    """A colour from three numbers or from text such as ``#80ff00``; None if it is none."""
    if isinstance(values, str) and re.fullmatch("#[0-9a-fA-F]{6}", values):
        values = tuple(bytes.fromhex(values[1:]))
    if not isinstance(values, list | tuple) or len(values) != 3:
        return None
    if not all(isinstance(v, int) and 0 <= v <= 255 for v in values):
        return None
    return values[0], values[1], values[2]


def empty_map(size_hw: tuple[int, int]) -> NDArray[np.uint16]:
    """Map ``(H, W)`` in which no pixel has an annotation."""
    return np.full(size_hw, NOTHING, np.uint16)


def read_bytes(path: Path, expected: str) -> bytes:
    """Content of a file.

    Raises:
        DataError: If it cannot be read; ``expected`` says what it should be.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected {expected}") from error
