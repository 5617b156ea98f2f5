"""Masks from run lengths and polygons, by pycocotools, and from ellipses.

It reads past the end of damaged run lengths, or fills in what happens to be in memory. What it refuses to decode it
never frees. So all that it is given is checked here. A ``ValueError`` says what is wrong with a shape, without a
subject: ``has a polygon of 2 points``.
Letters: H W pixels.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_masks

NOTHING = 65_535
"""Id, in the map of an annotation file, of a pixel without an annotation."""

FARTHEST = 1.5
"""Largest distance of a corner from the middle of the photo, in long sides of the photo."""

Rle = dict[str, Any]
"""Compressed run lengths: ``size``, which is H and W, and ``counts``."""

_COUNTS = re.compile(r"(?:[P-o]{0,6}[0-O])+")  # numbers in digits of 5 bits, as pycocotools writes them


def polygon_rle(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> Rle:
    """Run lengths of the pixels that are in any of some polygons ``[x0, y0, x1, y1, ...]``, in pixels.

    Raises:
        ValueError: If one has no three points, or lies far beyond the photo.
    """
    flat = [_checked_polygon(polygon, max(size_hw)) for polygon in polygons]
    rle: Rle = coco_masks.merge(coco_masks.frPyObjects(flat, *size_hw))
    return rle


def run_length_rle(counts: Any, size_hw: tuple[int, int]) -> Rle:
    """Run lengths from a list of counts or COCO's compressed text, down the columns.

    Raises:
        ValueError: If they are damaged, or do not cover the photo.
    """
    try:
        numbers = _numbers(counts) if isinstance(counts, str) else np.array([int(c) for c in counts], np.int64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("has run lengths that are no whole numbers, nor COCO's compressed text") from None
    if numbers.min(initial=0) < 0 or numbers.sum() != size_hw[0] * size_hw[1]:
        raise ValueError(f"has run lengths that do not cover {size_hw[1]} x {size_hw[0]} pixels; expected whole ones")
    rle: Rle = {"size": list(size_hw), "counts": counts}
    return rle if isinstance(counts, str) else coco_masks.frPyObjects({**rle, "counts": numbers.tolist()}, *size_hw)


def area(rle: Rle) -> int:
    """Number of pixels in run lengths."""
    return int(coco_masks.area(rle))


def decode(rle: Rle) -> NDArray[np.bool_]:
    """Mask ``(H, W)`` of run lengths."""
    inside: NDArray[np.bool_] = coco_masks.decode(rle).view(np.bool_)
    return inside


def row_mask(counts: str, width: int, height: int) -> NDArray[np.bool_]:
    """Mask ``(height, width)`` from CVAT's counts, row by row, such as ``3, 5, 7``.

    Raises:
        ValueError: If they do not cover it.
    """
    return decode(run_length_rle(counts.split(","), (width, height))).T


def ellipse_mask(
    center: tuple[float, float], radii: tuple[float, float], rotation: float, size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Mask ``(H, W)`` of the pixels whose middle is in an ellipse.

    Args:
        center: x and y of its middle, in pixels.
        radii: Half its width and half its height before it is turned, in pixels.
        rotation: Angle by which it is turned clockwise, in degrees.
        size_hw: Height and width of the photo.

    Raises:
        ValueError: If it is empty, or lies far beyond the photo.
    """
    (x, y), (rx, ry), angle = center, radii, math.radians(rotation)
    if min(rx, ry) <= 0:
        raise ValueError(f"has an ellipse of the radii {rx:g} and {ry:g}; expected two above 0: remove or redraw it")
    _check_near([x - rx, x + rx, y - ry, y + ry], max(size_hw), "an ellipse")
    farthest = max(rx, ry)
    (top, bottom), (left, right) = ((max(math.floor(c - farthest), 0), max(math.ceil(c + farthest), 0)) for c in (y, x))
    mask = np.zeros(size_hw, np.bool_)
    box = mask[top:bottom, left:right]
    dx, dy = np.arange(box.shape[1]) + left + 0.5 - x, np.arange(box.shape[0])[:, None] + top + 0.5 - y
    along, across = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
    box[:] = (along / rx) ** 2 + (across / ry) ** 2 <= 1
    return mask


def _numbers(text: str) -> NDArray[np.int64]:
    """Counts in COCO's compressed text. The sixth bit of a character says that the number goes on in the next one.

    The fifth bit of the last is the sign. From the fourth number on, the text holds the difference to the one two
    before.
    """
    if not _COUNTS.fullmatch(text):
        raise ValueError("no compressed text")
    digits = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits < 32)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    places = np.arange(digits.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((digits & 31) << 5 * places, starts)
    numbers -= (digits[ends] & 16) << (5 * lengths - 4)
    for first in (1, 2):
        numbers[first::2] = numbers[first::2].cumsum()
    return numbers


def _checked_polygon(polygon: Any, side: int) -> list[float]:
    try:
        numbers = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    if numbers.ndim != 1 or numbers.size % 2:
        raise ValueError("has a polygon that is no list of x and y; expected [x0, y0, x1, y1, ...]")
    if numbers.size < 6:
        raise ValueError(f"has a polygon of {numbers.size // 2} points; expected 3 or more: remove it or draw it anew")
    _check_near(numbers, side, "a polygon")
    flat: list[float] = numbers.tolist()
    return flat


def _check_near(numbers: ArrayLike, side: int, what: str) -> None:
    if not (np.abs(np.asarray(numbers) - side / 2) <= FARTHEST * side).all():
        raise ValueError(f"has {what} far beyond the photo; expected x and y in pixels of the photo")
