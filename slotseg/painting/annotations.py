"""Class maps as files that other tools read: COCO, CVAT, labelme, and a summary of each photo.

Photos are added one at a time and none is kept in memory. A file about many photos is written whole when the writer
is closed. Until then, and after an error or an interruption, an earlier file stays as it was.
Letters: H W pixels.
"""

from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.errors import ConfigError
from slotseg.labels.label_map import LabelMap
from slotseg.painting.coco import CocoWriter
from slotseg.painting.cvat import CvatWriter
from slotseg.painting.labelme import LabelmeWriter
from slotseg.painting.summary import SummaryWriter


class Writer(Protocol):
    """Writes the class maps of many photos. A context manager that closes unless there was an error.

    Args:
        folder: Folder for the files.
        labels: Names and colours.
    """

    per_photo: ClassVar[bool]
    """Whether each photo becomes a file of its own, written at once. Otherwise all photos share their files."""
    wants_confidence: ClassVar[bool]
    """Whether confidence is computed for this format. Otherwise it is written only if computed anyway."""

    def __init__(self, folder: Path, labels: LabelMap) -> None: ...

    @classmethod
    def files(cls, folder: Path, name: str = "") -> list[Path]:
        """The files in which a photo is written. Its name matters only for writers ``per_photo``."""

    def add(
        self,
        name: str,
        class_map: NDArray[Any],
        confidence: NDArray[np.uint8] | None = None,
        photo: Path | None = None,
    ) -> None:
        """Add a photo.

        Args:
            name: Name of the photo's file, relative, with slashes. The tool finds the photo by it.
            class_map: Ids ``(H, W)`` as from ``LabelMap.class_map``.
            confidence: Confidence ``(H, W)``, 255 for 1.
            photo: File of the photo, for formats that note where it lies (labelme).

        Raises:
            DataError: If the class map is not one of the label map, or the confidence map has another shape.
        """

    def close(self) -> None:
        """Write what is not written yet. A writer left by an error does not."""

    def __enter__(self) -> "Writer": ...

    def __exit__(self, kind: object, *_: object) -> None: ...


WRITERS: dict[str, type[Writer]] = {
    "coco": CocoWriter,
    "cvat": CvatWriter,
    "labelme": LabelmeWriter,
    "summary": SummaryWriter,
}
"""Writer of each format, by name."""


def open_writer(form: str, folder: Path, labels: LabelMap) -> Writer:
    """Open the writer of a format into a folder, for a ``with`` block.

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
