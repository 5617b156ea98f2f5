"""A photo at another size in strips of rows, without the whole of it at either size.

Letters: H W pixels.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.reading.windows import Windows


def scaled_strips(windows: Windows, size_hw: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Scale a photo, from the top down.

    Args:
        windows: Photo to scale. Each row is read once.
        size_hw: Height and width wanted, in pixels.

    Yields:
        RGB strips, ``(rows, W, 3)``. Together they are the photo as Pillow scales it, bilinear and antialiased,
        with values that differ by 1 at most.

    Raises:
        DataError: If the photo cannot be decoded.
    """
    height, width = windows.size_hw
    factor = height / size_hw[0]
    reach = math.ceil(max(factor, 1)) + 1  # photo rows beyond its own that a scaled one depends on
    step = max(1, math.floor(windows.band / factor))
    held, first = windows.read(0, min(windows.band, height)), 0
    for top in range(0, size_hw[0], step):
        bottom = min(top + step, size_hw[0])
        start, stop = max(math.floor(top * factor) - reach, 0), min(math.ceil(bottom * factor) + reach, height)
        held, first = _extended(windows, held[start - first :], start, stop), start
        if size_hw == windows.size_hw:
            yield held[top - start : bottom - start]
            continue
        box = (0, top * factor - start, width, min(bottom * factor - start, stop - start))
        rows = Image.fromarray(held[: stop - start])
        yield np.array(rows.resize((size_hw[1], bottom - top), Image.Resampling.BILINEAR, box))


def _extended(windows: Windows, held: NDArray[np.uint8], first: int, stop: int) -> NDArray[np.uint8]:
    """Extend the rows held, which start at ``first``, to at least ``stop``. Whole bands are read."""
    last = first + len(held)
    if last >= stop:
        return held
    bottom = min(math.ceil(stop / windows.band) * windows.band, windows.size_hw[0])
    return np.concatenate([held, windows.read(last, bottom)])
