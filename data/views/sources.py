"""Sources of unlabelled photos for training: files and folders, and the built-in scenes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from slotseg.data.finding.listing import list_photos
from slotseg.data.reading.images import AS_TYPED
from slotseg.data.reading.photos import ArrayPhoto, Photo, open_photo
from slotseg.data.scenes import draw_scene
from slotseg.segment_config import ReadingConfig


class Source(Protocol):
    """A numbered collection of photos."""

    def __len__(self) -> int:
        """Number of photos."""
        ...

    def name(self, index: int) -> str:
        """Name of a photo in messages."""
        ...

    def open(self, index: int) -> Photo:
        """Open a photo. Raises ``DataError`` if it cannot be opened."""
        ...


class PhotoFolder:
    """Photos in files and folders, found recursively.

    Args:
        inputs: Files and folders to search.
        reading: Bands and range.

    Raises:
        DataError: If a file or folder does not exist, or a folder holds no photo.
    """

    def __init__(self, inputs: Sequence[Path], reading: ReadingConfig = AS_TYPED) -> None:
        self.paths, self.reading = list_photos(inputs), reading

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Path of the file."""
        return str(self.paths[index])

    def open(self, index: int) -> Photo:
        """Open the photo of a file."""
        return open_photo(self.paths[index], reading=self.reading)


class Scenes:
    """The built-in synthetic scenes, without their labels.

    Args:
        num_scenes: Number of different scenes.
    """

    def __init__(self, num_scenes: int = 2000) -> None:
        self.num_scenes = num_scenes

    def __len__(self) -> int:
        return self.num_scenes

    def name(self, index: int) -> str:
        """Name of a scene, ``scene-<seed>``."""
        return f"scene-{index}"

    def open(self, index: int) -> Photo:
        """Draw the scene whose seed is ``index``."""
        return ArrayPhoto(draw_scene(index)[0])
