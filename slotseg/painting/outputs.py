"""What ``slotseg segment`` writes and where. All is decided and checked before a photo is read.

One photo may become one mask (``-o mask.png``), and its companions are named after it. Otherwise the output is a
folder that mirrors the tree of the photos.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slotseg.data.finding.inputs import Input, Inputs
from slotseg.data.finding.words import identity
from slotseg.errors import ConfigError
from slotseg.painting.annotations import WRITERS, Writer
from slotseg.painting.sidecars import sidecars

PICTURES = (".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".avif", ".heic")
"""Suffixes that a mask cannot have. Most of these formats would change its ids, and tools read PNG."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options for what is written beside masks."""

    overlay: bool = False
    """Whether to write photos with the classes laid over them, and a sheet of some."""
    confidence: bool = False
    """Whether to write how sure each pixel's class is."""
    legend: bool = False
    """Whether to write a picture of names and colours."""
    geotiff: bool = False
    """Whether to write masks as GeoTIFF too."""
    formats: tuple[str, ...] = ()
    """Formats for other tools, of ``slotseg.painting.annotations.WRITERS``."""

    @property
    def writers(self) -> list[type[Writer]]:
        """The writers of ``formats``."""
        return [WRITERS[form] for form in self.formats]

    @property
    def needs_confidence(self) -> bool:
        """Whether any output is made from confidence."""
        return self.confidence or any(writer.wants_confidence for writer in self.writers)


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files that one photo becomes. A file that is not wanted is None."""

    mask: Path
    geotiff: Path | None
    overlay: Path | None
    confidence: Path | None
    annotations: tuple[Path, ...] = ()
    """Files of the formats that have one for each photo."""

    def __iter__(self) -> Iterator[Path]:
        """The wanted files."""
        return (path for path in (self.mask, self.geotiff, self.overlay, self.confidence, *self.annotations) if path)

    @property
    def sidecars(self) -> tuple[Path, ...]:
        """Files that may lie beside the masks for programs of maps. They are replaced and removed with the masks."""
        return *sidecars(self.mask), *(sidecars(self.geotiff) if self.geotiff else ())

    @property
    def lacks_geotiff(self) -> bool:
        """Whether a GeoTIFF is wanted and does not exist."""
        return self.geotiff is not None and not os.path.exists(self.geotiff)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Counts of photos and of outputs that exist, before a photo is read."""

    num_photos: int
    num_masks: int
    """Number of masks that exist."""
    num_lacking: int
    """Number of those beside which a wanted GeoTIFF does not exist."""
    first: Path | None
    """First mask that exists, or if none does, the first other output."""


class Outputs:
    """Paths of everything that photos become.

    Args:
        inputs: Photos that the user named.
        output: File ``.png`` for the mask of one photo, or a folder.
        wanted: Options for what is written beside masks.

    Attributes:
        folder: Folder for files about all photos.
        legend: JSON file of names and colours.
        legend_picture: Picture of names and colours.
        sheet: Picture of some overlays side by side. None without overlays, or for one mask.
        failures: File of photos that could not be read.

    Raises:
        ConfigError: If ``output`` does not suit the photos.
    """

    def __init__(self, inputs: Inputs, output: Path, wanted: OutputOptions) -> None:
        self.inputs, self.wanted = inputs, wanted
        suffix = output.suffix.lower()
        if suffix in PICTURES and not output.is_dir():
            beside = "; --format geotiff writes a TIFF beside it" if suffix in (".tif", ".tiff") else ""
            raise ConfigError(
                f"{output} ends in {suffix}; expected a .png, which keeps ids as they are, or a folder{beside}"
            )
        self._mask = output if inputs.single and suffix == ".png" and not output.is_dir() else None
        if self._mask is None and suffix == ".png" and not output.is_dir():
            raise ConfigError(f"{output} names one mask; expected a folder for the masks of several photos")
        if self._mask is None and output.exists() and not output.is_dir():
            raise ConfigError(f"{output} is a file; expected a folder for the masks, or a mask.png for one photo")
        if self._mask is None and any(_same(output, top) for top in inputs.folders):
            raise ConfigError(f"{output} is the folder of the photos; expected another --output, or one below it")
        self.folder = output.parent if self._mask else output
        self.legend = self._common("legend.json")
        self.legend_picture = self._common("legend.png")
        self.failures = self._common("failures.jsonl")
        self.sheet = self.folder / "overlay" / "sheet.jpg" if wanted.overlay and not self._mask else None

    @property
    def single(self) -> bool:
        """Whether there is only one mask, named by ``output``."""
        return self._mask is not None

    def files(self, item: Input) -> Files:
        """The files that a photo becomes."""
        per_photo = [writer for writer in self.wanted.writers if writer.per_photo]
        return Files(
            mask=self._mask or self.folder / item.output(".png"),
            geotiff=self._geotiff(item) if self.wanted.geotiff else None,
            overlay=self._beside(item, "overlay", ".jpg") if self.wanted.overlay else None,
            confidence=self._beside(item, "confidence", ".png") if self.wanted.confidence else None,
            annotations=tuple(file for writer in per_photo for file in writer.files(self.folder, item.file_name)),
        )

    @property
    def common(self) -> list[Path]:
        """The wanted files about all photos."""
        return [
            self.legend,
            self.failures,
            *([self.legend_picture] if self.wanted.legend else []),
            *([self.sheet] if self.sheet else []),
            *(file for writer in self.wanted.writers if not writer.per_photo for file in writer.files(self.folder)),
        ]

    def survey(self) -> Survey:
        """Look at all inputs once, without reading them.

        Raises:
            ConfigError: If two photos would become one file, or an output would replace a photo.
        """
        kept = {self.legend, self.failures}  # of an earlier call; these are written anew each time
        first_mask, first = None, next((file for file in self.common if file not in kept and file.exists()), None)
        sources, taken = set[int](), {identity(file) for file in self.common}
        num_photos = num_masks = num_lacking = 0
        for item in self.inputs:
            num_photos += 1
            if item.problem:
                continue
            if isinstance(item.source, Path):
                sources.add(identity(item.source))
            files = self.files(item)
            for file in files:
                if (name := identity(file)) in taken:
                    raise ConfigError(
                        f"{file}, of {item.name}, would be another output's file too; expected names that differ: "
                        "rename one, or segment them one by one"
                    )
                taken.add(name)
                first = first or (file if os.path.exists(file) else None)
            if os.path.exists(files.mask):
                num_masks, first_mask = num_masks + 1, first_mask or files.mask
                num_lacking += files.lacks_geotiff
        if taken & sources:
            self._refuse_to_replace(sources)
        first = first_mask or first
        return Survey(num_photos=num_photos, num_masks=num_masks, num_lacking=num_lacking, first=first)

    def _common(self, name: str) -> Path:
        return self._mask.with_name(f"{self._mask.stem}_{name}") if self._mask else self.folder / name

    def _geotiff(self, item: Input) -> Path:
        return self._mask.with_suffix(".tif") if self._mask else self.folder / item.output(".tif")

    def _beside(self, item: Input, kind: str, suffix: str) -> Path:
        if self._mask:
            return self._mask.with_name(f"{self._mask.stem}_{kind}{suffix}")
        return self.folder / kind / item.output(suffix)

    def _refuse_to_replace(self, sources: set[int]) -> None:
        files: Iterable[Path] = (file for item in self.inputs if not item.problem for file in self.files(item))
        clash = next(file for file in (*self.common, *files) if identity(file) in sources)
        raise ConfigError(f"{clash} would replace a photo; expected another --output")


def check_existing(found: Survey, *, overwrite: bool, skip_existing: bool) -> None:
    """Refuse to replace outputs that exist, unless one of the two ways is chosen.

    Raises:
        ConfigError: If an output exists and no way is chosen, or both are.
    """
    if overwrite and skip_existing:
        raise ConfigError("--overwrite replaces masks that exist and --skip-existing keeps them; expected one of them")
    if overwrite or skip_existing or found.first is None:
        return
    which = f"{found.num_masks} of {found.num_photos} masks exist, the first file is " if found.num_masks else ""
    exists = "" if found.num_masks else " exists"
    raise ConfigError(f"{which}{found.first}{exists}; expected a new --output, or --overwrite or --skip-existing")


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
