"""Cleaning of class maps. Unsure pixels and small parts may be left out.

Letters: H W pixels.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slotseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CleaningOptions:
    """Options for cleaning class maps. By default the maps stay as they are.

    Raises:
        ConfigError: If a value is out of range.
    """

    min_area: int = 0
    """Fewest pixels of a connected part. A smaller one takes the class of the nearest part that is large enough."""
    ignore_below: float = 0.0
    """Least confidence, 0..1. Pixels with less get the ignore id."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.min_area < 0:
            raise ConfigError(f"min_area is {self.min_area}; expected a number of pixels, 0 or more")
        if not 0 <= self.ignore_below <= 1:
            raise ConfigError(f"ignore_below is {self.ignore_below}; expected a number from 0 to 1")

    def __call__(self, class_map: NDArray[Any], confidence: NDArray[np.uint8] | None, ignore: int) -> NDArray[Any]:
        """Clean a class map. Unsure pixels are left out before parts are measured.

        Args:
            class_map: Ids ``(H, W)``.
            confidence: Confidence ``(H, W)``, 255 for certain. Only ``ignore_below`` needs it.
            ignore: The ignore id.
        """
        if self.ignore_below:
            assert confidence is not None, "ignore_below needs a confidence map"
            class_map = class_map.copy()
            class_map[confidence < self.ignore_below * 255] = ignore
        return absorb_small_parts(class_map, self.min_area, ignore) if self.min_area > 1 else class_map


AS_PAINTED = CleaningOptions()
"""No cleaning."""


def absorb_small_parts(class_map: NDArray[Any], min_area: int, ignore: int) -> NDArray[Any]:
    """Give small connected parts (of eight neighbours) to the nearest large one.

    Args:
        class_map: Ids ``(H, W)``.
        min_area: Fewest pixels of a large part. Parts of the ignore id are never small.
        ignore: The ignore id.

    Returns:
        A class map ``(H, W)``. It is the same object if no part is small, or all are.
    """
    small = np.zeros(class_map.shape, np.uint8)
    for class_id in np.flatnonzero(np.bincount(class_map.ravel(), minlength=ignore)[:ignore]):
        box = _box(class_map == class_id)
        _, labels, stats, _ = cv2.connectedComponentsWithStats((class_map[box] == class_id).astype(np.uint8))
        is_small = stats[:, cv2.CC_STAT_AREA] < min_area
        is_small[0] = False  # what is not of this class
        if is_small.any():
            small[box] |= is_small[labels]
    if not small.any() or small.all():
        return class_map
    _, nearest = cv2.distanceTransformWithLabels(small, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    large = small == 0
    class_of = np.empty(nearest.max() + 1, class_map.dtype)
    class_of[nearest[large]] = class_map[large]
    return np.where(large, class_map, class_of[nearest])


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns that hold the true pixels of a mask. There must be some."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)
