"""One file about many photos, written whole at the end without keeping the photos in memory.

Letters: H W pixels.
"""

import contextlib
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from slotseg.files import replacing, writing
from slotseg.labels.label_map import LabelMap

Self = TypeVar("Self", bound="SpooledFile")


class SpooledFile(ABC):
    """A file whose parts are gathered in temporary files beside it.

    The temporary files have no names, so that not even a killed process leaves them behind. Leaving the ``with`` block
    writes the file. After an error or an interruption, an earlier file stays as it was.

    Args:
        folder: Folder for the file, made if it does not exist.
        labels: Names and colours.

    Raises:
        DataError: If the folder cannot be written.
    """

    per_photo: ClassVar[bool] = False
    """Whether each photo becomes a file of its own. Here all photos share the files."""
    wants_confidence: ClassVar[bool] = False
    """Whether confidence is computed for this format."""
    file_names: ClassVar[tuple[str, ...]]
    """Names of the files that are written. The first one is that of the spooled file."""
    num_spools: ClassVar[int] = 1
    """Number of parts that grow side by side."""

    def __init__(self, folder: Path, labels: LabelMap) -> None:
        self.path = folder / self.file_names[0]
        self.labels = labels
        self._closing = contextlib.ExitStack()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.spools: list[IO[bytes]] = [
                self._closing.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
                for _ in range(self.num_spools)
            ]
        self._is_open = True

    @classmethod
    def files(cls, folder: Path, name: str = "") -> list[Path]:
        """The files in which all photos are written."""
        return [folder / file for file in cls.file_names]

    def add(
        self,
        name: str,
        class_map: NDArray[Any],
        confidence: NDArray[np.uint8] | None = None,
        photo: Path | None = None,
    ) -> None:
        """Add a photo. See ``slotseg.painting.annotations.Writer.add``."""
        parts = self.describe(name, class_map, confidence)
        with writing(self.path):
            for spool, part in zip(self.spools, parts, strict=True):
                spool.write(part)

    @abstractmethod
    def describe(self, name: str, class_map: NDArray[Any], confidence: NDArray[np.uint8] | None) -> tuple[bytes, ...]:
        """The bytes that a photo adds to each part."""

    @abstractmethod
    def write_whole(self, file: IO[bytes]) -> None:
        """Write everything. The spools are rewound."""

    def close(self) -> None:
        """Write the file and drop the spools. A second call does nothing.

        Raises:
            DataError: If the file cannot be written.
        """
        if not self._is_open:
            return
        self._is_open = False
        with self._closing, writing(self.path):
            for spool in self.spools:
                spool.seek(0)
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                self.write_whole(file)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        self._is_open = False
        self._closing.close()
