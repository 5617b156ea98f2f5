"""Ways in which people have a labelled set on disk, each with what must be there.

Paths are below the data folder and may hold ``{split}``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slotseg.data.finding.listing import list_images
from slotseg.data.finding.places import check_data_dir, nothing_complete
from slotseg.data.labelled.coco import CocoAnnotations, PanopticAnnotations
from slotseg.data.labelled.label_sources import LabelFiles, LabelSource
from slotseg.data.labelled.taxonomy import Taxonomy
from slotseg.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Layout(ABC):
    """A folder of photos, and label maps somewhere."""

    images: str
    """Folder of the photos."""
    image_suffixes: tuple[str, ...] = (".jpg",)
    """Ends of their names; what is before is the key."""

    def photo_pattern(self) -> str:
        """A path that stands for the photos."""
        return f"{self.images}/*{self.image_suffixes[0] if len(self.image_suffixes) == 1 else ''}"

    @abstractmethod
    def needs(self, split: str) -> list[str]:
        """Everything that must be there; a name that starts with ``*`` stands for any such file."""

    @abstractmethod
    def source(self, root: Path, split: str, taxonomy: Taxonomy) -> LabelSource:
        """The label maps below a data folder."""

    def photos(self, root: Path, split: str) -> list[tuple[str, Path]]:
        """Key and file of each photo."""
        folder = root / self.images.format(split=split)
        found = []
        for path in list_images(folder):
            suffix = next((s for s in self.image_suffixes if path.name.lower().endswith(s.lower())), None)
            if suffix:
                found.append((path.relative_to(folder).as_posix()[: -len(suffix)], path))
        return found


@dataclass(frozen=True, kw_only=True)
class FileLayout(Layout):
    """A label map in a file for each photo."""

    labels: str
    """Folder of the label maps."""
    label_suffix: str = ".png"
    """End of their names, after the key."""
    listing: str = ""
    """A file that names the photos of the split, a key a line."""
    colored: bool = False
    """Label maps are RGB images in the colours of the taxonomy."""

    def needs(self, split: str) -> list[str]:
        """Photos, label maps and listing."""
        paths = [self.photo_pattern(), f"{self.labels}/*{self.label_suffix}", self.listing]
        return [path.format(split=split) for path in paths if path]

    def source(self, root: Path, split: str, taxonomy: Taxonomy) -> LabelSource:
        """Files of ids or of colours."""
        folder = root / self.labels.format(split=split)
        return LabelFiles(folder, self.label_suffix, taxonomy.id_colors if self.colored else ())


@dataclass(frozen=True, kw_only=True)
class JsonLayout(Layout):
    """COCO's stuff and instance annotations."""

    stuff: str = "annotations/stuff_{split}.json"
    instances: str = "annotations/instances_{split}.json"

    def needs(self, split: str) -> list[str]:
        """Photos and both files."""
        return [path.format(split=split) for path in (self.photo_pattern(), self.stuff, self.instances)]

    def source(self, root: Path, split: str, taxonomy: Taxonomy) -> LabelSource:
        """Rasterised annotations."""
        return CocoAnnotations(root / self.stuff.format(split=split), root / self.instances.format(split=split))


@dataclass(frozen=True, kw_only=True)
class PanopticLayout(Layout):
    """COCO's panoptic annotations."""

    masks: str
    """Folder of the PNGs."""
    annotations: str = "annotations/panoptic_{split}.json"

    def needs(self, split: str) -> list[str]:
        """Photos, file and PNGs."""
        paths = (self.photo_pattern(), self.annotations, f"{self.masks}/*.png")
        return [path.format(split=split) for path in paths]

    def source(self, root: Path, split: str, taxonomy: Taxonomy) -> LabelSource:
        """Category ids of the segments."""
        return PanopticAnnotations(root / self.annotations.format(split=split), root / self.masks.format(split=split))


def find_layout(
    layouts: Sequence[Layout], data_dir: Path, split: str, name: str, below: Sequence[str] = ()
) -> tuple[Path, Layout]:
    """The layout that is there, and the folder that its paths are below.

    Args:
        layouts: Tried in this order.
        data_dir: Where to look.
        split: Part of the set.
        name: Of the set, for messages.
        below: Folders of ``data_dir`` to look in as well.

    Raises:
        DataError: If none is complete; it says every path that would do, and which are missing.
    """
    check_data_dir(data_dir, name)
    for root in (data_dir, *(data_dir / folder for folder in below)):
        for layout in layouts:
            if all(_is_there(root / path) for path in layout.needs(split)):
                return root, layout
    error = nothing_complete(f"{name} {split}", data_dir, [layout.needs(split) for layout in layouts], _is_there)
    raise DataError(f"{error}\n(or the same below {' or '.join(below)})") if below else error


def _is_there(path: Path) -> bool:
    """Whether there is a file; for a name that starts with ``*``, any such file at any depth."""
    if not path.name.startswith("*"):
        return path.is_file()
    return path.parent.is_dir() and next(path.parent.rglob(path.name), None) is not None
