"""Sources of label maps: one PNG per photo, or COCO's annotations (``slotseg.data.labelled.coco``).

A source gives the ids as the data set stores them. A ``Taxonomy`` turns them into classes.
Letters: H W pixels.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.data.reading.images import read_image, read_label
from slotseg.errors import DataError
from slotseg.labels.label_map import Color


class LabelSource(Protocol):
    """Label maps by the key of their photo."""

    description: str
    """Description for the result: the files and, if need be, how they are read."""

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Expected paths of the label maps that are absent for these photos."""
        ...

    def read(self, key: str) -> NDArray[Any]:
        """Ids of a photo's label map, ``(H, W)``. Raises ``DataError`` if it cannot be read."""
        ...

    def where(self, key: str) -> str:
        """Name of a photo's label map in messages."""
        ...


class LabelFiles:
    """One label map per photo in a folder.

    Args:
        folder: Folder with the files ``<key><suffix>``.
        suffix: End of the file names.
        id_colors: Id of each colour, if the files are RGB images; without it, the files hold ids.
    """

    def __init__(self, folder: Path, suffix: str = ".png", id_colors: tuple[tuple[int, Color], ...] = ()) -> None:
        self.folder, self.suffix, self.id_colors = folder, suffix, id_colors
        self.description = f"{folder.name}/*{suffix}"

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Paths of the files that are absent."""
        return [str(path) for path in map(self._path, keys) if not path.is_file()]

    def read(self, key: str) -> NDArray[Any]:
        """Ids ``(H, W)`` of a file.

        Raises:
            DataError: If the file cannot be read, or holds a colour without an id.
        """
        path = self._path(key)
        return ids_of_colors(read_image(path), self.id_colors, path) if self.id_colors else read_label(path)

    def where(self, key: str) -> str:
        """Path of the file."""
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{self.suffix}"


def ids_of_colors(image: NDArray[np.uint8], id_colors: tuple[tuple[int, Color], ...], path: Path) -> NDArray[np.uint16]:
    """Ids ``(H, W)`` of the colours of an RGB image ``(H, W, 3)``.

    Raises:
        DataError: If the image has a colour that is not among them.
    """
    ids, colors = zip(*sorted(id_colors, key=lambda item: item[1]), strict=True)
    codes = _codes(np.array(colors))
    found = _codes(image)
    places = np.searchsorted(codes, found).clip(max=len(codes) - 1)
    unknown = codes[places] != found
    if unknown.any():
        color = tuple(int(v) for v in image[unknown][0])
        raise DataError(f"{path} has the colour {color}, which is no class; expected the colours of the original files")
    id_map: NDArray[np.uint16] = np.array(ids, np.uint16)[places]
    return id_map


def _codes(colors: NDArray[Any]) -> NDArray[np.int32]:
    r, g, b = np.moveaxis(colors.astype(np.int32), -1, 0)
    codes: NDArray[np.int32] = (r << 16) | (g << 8) | b
    return codes
