"""Class maps as files that other tools read: COCO, CVAT, labelme, and a summary of each photo.

Photos are added one at a time and none is kept in memory. A file of many photos is written whole when the writer is
closed; until then, and after an error or an interruption, an earlier one is as it was.
Letters: H W pixels.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.errors import ConfigError
from slotseg.labels.label_map import LabelMap
from slotseg.painting.coco import FILE_NAME as COCO_FILE
from slotseg.painting.coco import CocoWriter
from slotseg.painting.cvat import FILE_NAME as CVAT_FILE
from slotseg.painting.cvat import LABELS_NAME, CvatWriter
from slotseg.painting.labelme import LabelmeWriter, file_of
from slotseg.painting.summary import FILE_NAME as SUMMARY_FILE
from slotseg.painting.summary import SummaryWriter


class Writer(Protocol):
    """Where the class maps of many photos go; a context manager that closes unless there was an error."""

    def add(
        self,
        name: str,
        class_map: NDArray[Any],
        confidence: NDArray[np.uint8] | None = None,
        photo: Path | None = None,
    ) -> None:
        """Add a photo.

        Args:
            name: Of its file, relative, with slashes; the tool finds the photo by it.
            class_map: Ids ``(H, W)`` as from ``LabelMap.class_map``.
            confidence: ``(H, W)``, 255 for 1.
            photo: Its file, if the format notes where it lies (labelme does).

        Raises:
            DataError: If the class map is not one of the label map, or the confidence map is of another shape.
        """

    def close(self) -> None:
        """Write what is not written yet; a writer left by an error does not."""

    def __enter__(self) -> "Writer": ...

    def __exit__(self, kind: object, *_: object) -> None: ...


WRITERS: dict[str, Callable[[Path, LabelMap], Writer]] = {
    "coco": CocoWriter,
    "cvat": CvatWriter,
    "labelme": LabelmeWriter,
    "summary": SummaryWriter,
}
"""A writer for each format's name."""


FILES = {"coco": (COCO_FILE,), "cvat": (CVAT_FILE, LABELS_NAME), "summary": (SUMMARY_FILE,)}
"""Of the formats with files about all photos."""


def open_writer(form: str, folder: Path, labels: LabelMap) -> Writer:
    """A writer of a format into a folder; use it in a ``with`` block.

    Raises:
        ConfigError: If there is no such format.
        DataError: If the folder cannot be written.

    Example:
        >>> with open_writer("coco", Path("masks"), segmentation.labels) as writer:
        ...     writer.add("photo.jpg", segmentation.class_map)
    """
    if form not in WRITERS:
        raise ConfigError(f"the format is {form}; expected one of {', '.join(WRITERS)}")
    return WRITERS[form](folder, labels)


def files_of(form: str, folder: Path, names: Iterable[str]) -> list[Path]:
    """The files that a writer would write for photos of these names, whatever is there already."""
    if form == "labelme":
        return [folder / file_of(name) for name in names]
    return [folder / name for name in FILES[form]]
