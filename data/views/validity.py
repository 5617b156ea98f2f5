"""Missing pixels: where a photo holds no picture (nodata, masked, transparent), there is nothing to learn.

Letters: H W pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slotseg.data.reading.images import split_missing
from slotseg.errors import DataError


class NoPictureError(DataError):
    """A photo of missing pixels alone. Its text goes on behind the photo's name."""

    def __init__(self) -> None:
        super().__init__("has no picture, only missing pixels; expected some valid ones: leave it out")


def parted(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Part pixels as ``Photo.pixels`` gives them into colours and validity.

    Args:
        pixels: RGB, ``(H, W, 3)``, or with a fourth channel that is 0 where pixels are missing, ``(H, W, 4)``.

    Returns:
        RGB ``(H, W, 3)``, and which pixels are valid, ``(H, W)``; None if all are.

    Raises:
        NoPictureError: If none is.
    """
    colors, missing = split_missing(pixels)
    if missing is None or not missing.any():
        return colors, None
    if missing.all():
        raise NoPictureError
    return colors, ~missing


def stacked(valid: Sequence[Tensor | None], dim: int = 0) -> Tensor | None:
    """Stack the validity of several photos along a new axis; those with None are valid throughout.

    Returns:
        The stack; None if all are None.
    """
    some = next((v for v in valid if v is not None), None)
    if some is None:
        return None
    return torch.stack([torch.ones_like(some) if v is None else v for v in valid], dim=dim)
