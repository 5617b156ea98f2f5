"""Unlabelled sources of photos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from slotseg.data.finding.listing import list_photos
from slotseg.data.reading.photos import ArrayPhoto, Photo, open_photo
from slotseg.data.scenes import draw_scene


class Source(Protocol):
    """A numbered collection of photos."""

    def __len__(self) -> int:
        """Number of photos."""
        ...

    def name(self, index: int) -> str:
        """What to call a photo in a message."""
        ...

    def open(self, index: int) -> Photo:
        """A photo; raises ``DataError`` where it cannot be opened."""
        ...


class PhotoFolder:
    """Photos in files and folders, found recursively.

    Args:
        inputs: Files and folders.

    Raises:
        DataError: If one does not exist or holds no image.
    """

    def __init__(self, inputs: Sequence[Path]) -> None:
        self.paths = list_photos(inputs)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])

    def open(self, index: int) -> Photo:
        """The photo of the file."""
        return open_photo(self.paths[index])


class Scenes:
    """The built-in synthetic scenes, without their labels.

    Args:
        num_scenes: How many different ones.
    """

    def __init__(self, num_scenes: int = 2000) -> None:
        self.num_scenes = num_scenes

    def __len__(self) -> int:
        return self.num_scenes

    def name(self, index: int) -> str:
        """``scene-<seed>``."""
        return f"scene-{index}"

    def open(self, index: int) -> Photo:
        """The scene drawn from ``index`` as its seed."""
        return ArrayPhoto(draw_scene(index)[0])
