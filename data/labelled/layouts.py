"""Layouts in which people have a labelled set on disk, each with the paths that it needs.

Paths are relative to the data folder and may hold ``{split}``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slotseg.data.finding.listing import list_images
from slotseg.data.finding.places import check_data_dir, nothing_complete
from slotseg.data.labelled.coco import CocoAnnotations, PanopticAnnotations
from slotseg.data.labelled.label_sources import LabelFiles, LabelSource, TrainIdFiles
from slotseg.data.labelled.taxonomy import Taxonomy
from slotseg.errors import DataError
from slotseg.labels.label_map import IGNORE

TRAIN_IDS = "_labelTrainIds.png"
"""End of the names of label maps that hold train ids."""


@dataclass(frozen=True, kw_only=True)
class Layout(ABC):
    """A folder of photos, and the place of their label maps."""

    images: str
    """Folder of the photos."""
    image_suffixes: tuple[str, ...] = (".jpg",)
    """Ends of the photos' names. The part before is the key."""
    refused: str = ""
    """Reason why label maps of this layout cannot be scored, if that is so."""

    def photo_pattern(self) -> str:
        """Path pattern of the photos."""
        return f"{self.images}/*{self.image_suffixes[0] if len(self.image_suffixes) == 1 else ''}"

    @abstractmethod
    def needs(self, split: str) -> list[str]:
        """Paths that must exist. A name that starts with ``*`` stands for any such file."""

    @abstractmethod
    def source(self, root: Path, split: str, taxonomy: Taxonomy, keys: Sequence[str]) -> LabelSource:
        """Source of the label maps below a data folder, for the photos of some keys."""

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
    """A file with a label map for each photo."""

    labels: str
    """Folder of the label maps."""
    label_suffix: str = ".png"
    """End of the label maps' names, after the key."""
    listing: str = ""
    """File that names the photos of the split, a key a line; empty if there is none."""
    train_ids: tuple[int, ...] = ()
    """Id of each train id, if label maps hold those."""
    train_void: int = IGNORE
    """Id of void pixels, if label maps hold train ids."""

    def needs(self, split: str) -> list[str]:
        """Paths of photos, label maps and listing."""
        paths = [self.photo_pattern(), f"{self.labels}/*{self.label_suffix}", self.listing]
        return [path.format(split=split) for path in paths if path]

    def source(self, root: Path, split: str, taxonomy: Taxonomy, keys: Sequence[str]) -> LabelSource:
        """Source of label maps from files of ids, of train ids, or of the colours of the taxonomy."""
        files = LabelFiles(
            folder=root / self.labels.format(split=split),
            keys=keys,
            suffix=self.label_suffix,
            id_colors=taxonomy.id_colors,
        )
        return TrainIdFiles(files=files, ids=self.train_ids, void=self.train_void) if self.train_ids else files


@dataclass(frozen=True, kw_only=True)
class JsonLayout(Layout):
    """COCO's stuff and instance annotations."""

    stuff: str = "annotations/stuff_{split}.json"
    """File of the stuff annotations."""
    instances: str = "annotations/instances_{split}.json"
    """File of the instance annotations."""

    def needs(self, split: str) -> list[str]:
        """Paths of the photos and of both files."""
        return [path.format(split=split) for path in (self.photo_pattern(), self.stuff, self.instances)]

    def source(self, root: Path, split: str, taxonomy: Taxonomy, keys: Sequence[str]) -> LabelSource:
        """Source of label maps from rasterised annotations."""
        return CocoAnnotations(root / self.stuff.format(split=split), root / self.instances.format(split=split))


@dataclass(frozen=True, kw_only=True)
class PanopticLayout(Layout):
    """COCO's panoptic annotations."""

    masks: str
    """Folder of the PNGs."""
    annotations: str = "annotations/panoptic_{split}.json"
    """File of the segments and their categories."""

    def needs(self, split: str) -> list[str]:
        """Paths of photos, file and PNGs."""
        paths = (self.photo_pattern(), self.annotations, f"{self.masks}/*.png")
        return [path.format(split=split) for path in paths]

    def source(self, root: Path, split: str, taxonomy: Taxonomy, keys: Sequence[str]) -> LabelSource:
        """Source of label maps from the category ids of the segments."""
        return PanopticAnnotations(root / self.annotations.format(split=split), root / self.masks.format(split=split))


def find_layout(
    layouts: Sequence[Layout], data_dir: Path, split: str, name: str, below: Sequence[str] = ()
) -> tuple[Path, Layout]:
    """Find the layout that is on disk, and the folder that its paths are relative to.

    Args:
        layouts: Layouts, in the order in which they are tried.
        data_dir: Folder of the data set as it was published.
        split: Part of the set.
        name: Name of the set in messages.
        below: Subfolders of ``data_dir`` that are searched too.

    Raises:
        DataError: If no layout is complete, with every path that would do and which of them are missing; or if the
            one that is there cannot be scored.
    """
    check_data_dir(data_dir, name)
    for root in (data_dir, *(data_dir / folder for folder in below)):
        for layout in layouts:
            if all(_is_there(root / path) for path in layout.needs(split)):
                if layout.refused:
                    raise DataError(f"{root} has {layout.needs(split)[1]} alone: {layout.refused}")
                return root, layout
    rows = [layout.needs(split) for layout in layouts if not layout.refused]
    error = nothing_complete(f"{name} {split}", data_dir, rows, _is_there)
    raise DataError(f"{error}\n(or the same below {' or '.join(below)})") if below else error


def _is_there(path: Path) -> bool:
    """Whether a file exists; for a name that starts with ``*``, any such file at any depth.

    Files of train ids often lie beside files of ids, whose end ``.png`` they have too.
    """
    if not path.name.startswith("*"):
        return path.is_file()
    fits = (f for f in path.parent.rglob(path.name) if TRAIN_IDS in path.name or not f.name.endswith(TRAIN_IDS))
    return path.parent.is_dir() and next(fits, None) is not None
