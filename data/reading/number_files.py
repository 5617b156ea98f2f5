"""Reading of arrays of numbers: NumPy's ``.npy`` and ``.npz``, and MATLAB's ``.mat``. Letters: H W pixels."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.pillow import opened_file
from slotseg.errors import DataError

NUMBER_SUFFIXES = (".npy", ".npz", ".mat")
"""Suffixes, in small letters, of the files that ``read_numbers`` reads."""


def read_numbers(path: Path, max_pixels: int) -> NDArray[Any]:
    """Read the one map of numbers in a file. Nothing in the file is run.

    Args:
        path: File with a suffix of ``NUMBER_SUFFIXES``.
        max_pixels: Largest accepted height x width.

    Returns:
        Numbers of the type that the file has, shape ``(H, W)``. Axes of length 1 are left out.

    Raises:
        DataError: If the file is missing, empty, damaged or too large, or holds no map of numbers or several.
    """
    with opened_file(path, str(path)):
        pass  # a file that is missing or empty is refused in the words that images are
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            named = _arrays(path)
    except NotImplementedError as error:
        raise DataError(f"{path} is a MATLAB file of version 7.3; expected version 7: save it with -v7") from error
    except Exception as error:  # on damaged files NumPy, zipfile and SciPy raise nearly anything
        raise DataError(f"{path} cannot be read ({error}); expected one array of whole numbers, (H, W)") from error
    maps = {name: array for name, array in named.items() if array.dtype.kind in "buif" and array.ndim >= 2}
    if len(maps) > 1:  # a row of numbers beside a map is a list
        maps = {name: array for name, array in maps.items() if array.ndim > 2 or min(array.shape) > 1}
    if len(maps) != 1:
        found = ", ".join(sorted(maps)) or "none"
        raise DataError(f"{path} has several or no maps of numbers (here: {found}); expected one array (H, W)")
    (numbers,) = maps.values()
    if numbers.ndim > 2:
        numbers = numbers.squeeze()
    if numbers.ndim != 2:
        raise DataError(f"{path} has the shape {numbers.shape}; expected one class id for each pixel, (H, W)")
    if numbers.size > max_pixels:
        height, width = numbers.shape
        raise DataError(
            f"{path} has {width} x {height} pixels, more than the limit of {max_pixels}: cut it into pieces"
        )
    return np.array(numbers)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a file by name. Those of an ``.npy`` stay on disk until they are used."""
    if path.suffix.lower() == ".mat":
        from scipy.io import loadmat

        content = loadmat(path)
        return {name: value for name, value in content.items() if isinstance(value, np.ndarray) and value.size > 1}
    loaded = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix.lower() == ".npy" else None)
    if isinstance(loaded, np.ndarray):
        return {path.stem: loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}
