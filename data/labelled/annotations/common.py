"""What the readers of all annotation formats share: checked names and sizes, and the map of one photo.

Letters: H W pixels.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.shapes import NOTHING
from slotseg.data.reading.images import MAX_PIXELS
from slotseg.errors import DataError
from slotseg.labels.label_map import Color
from slotseg.labels.naming import tidy
from slotseg.values import is_whole


def checked_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    """Names of the classes, each once, as ``class_name`` gives them.

    Raises:
        DataError: If there is none, too many, one is empty, or two are alike.
    """
    tidied = tuple(map(class_name, names))
    twice = [name for name, count in Counter(tidied).items() if count > 1]
    if "" in tidied:
        raise DataError(f"{where} has a class with an empty name; expected a name for each")
    if twice:
        raise DataError(f"{where} has two classes named {twice[0]!r}; expected different names")
    if not 0 < len(names) < NOTHING:
        raise DataError(f"{where} has {len(names) or 'no'} classes; expected 1 to {NOTHING - 1}")
    return tidied


def class_name(value: Any) -> str:
    """A name as it is compared with others: without needless spaces, and in one form of Unicode."""
    return tidy(str(value))


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
        shown = [side if isinstance(side, str) else quoted(side) for side in (width, height)]
        raise ValueError(f"has width {shown[0]} and height {shown[1]}; expected the size of the photo in pixels")
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


def read_json(path: Path, expected: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Content of a JSON file.

    Args:
        path: File.
        expected: What it should be, for messages.
        hook: Function that each object is replaced by.

    Raises:
        DataError: If it cannot be read, is no JSON, or an object has a key twice, of which JSON keeps the last.
    """

    def checked(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) < len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DataError(f"{path} has the key {quoted(key)} twice; expected each once")
        return hook(found) if hook else found

    content = read_bytes(path, expected)
    try:
        return json.loads(content, object_pairs_hook=checked)
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}, column {error.colno}"
    except RecursionError:
        problem = "it is nested too deep"
    except ValueError:
        problem = "it is no text of UTF-8"
    raise DataError(f"{path} is no whole JSON ({problem}); expected {expected}")


def id_of(value: Any) -> int | None:
    """An id from a number or from text of digits; None if it is neither."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return int(value)
    return value if is_whole(value) else None


def quoted(value: Any) -> str:
    """A value as JSON has it, cut if it is long, for messages."""
    return json.dumps(value, ensure_ascii=False, default=str)[:80]


def read_bytes(path: Path, expected: str) -> bytes:
    """Content of a file.

    Raises:
        DataError: If it cannot be read; ``expected`` says what it should be.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected {expected}") from error
