"""``discover.json``: what a folder of ``slotseg discover`` was asked for, and how far its stages are.

It is written before the first stage and after each. So a later call knows what is whole, continues with the rest,
and refuses other photos and settings.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_origin

import slotseg
from slotseg.concepts.collection import BoxXYXY
from slotseg.errors import ConfigError
from slotseg.files import remove_leftovers, write_json, writing

FORMAT = 1
"""Version of the file's format."""
STAGES = ("training", "decoder", "concepts", "masks")
"""Names of the stages, in order. The decoder is the second stage of a training, and left out where there is none."""
ITEMS = {"photos": str, "figure": int, "figure_cells": list}
"""Types of what lists of the file hold, by name."""


T = TypeVar("T", "Stage", "DiscoveryRecord")


@dataclass(kw_only=True)
class Stage:
    """Progress of a stage."""

    expected_seconds: float
    """Seconds that it was expected to take, before the first call began."""
    seconds: float = 0.0
    """Seconds that it took so far, over all calls."""
    made_of: str = ""
    """Digest of the checkpoint, and perhaps of the labels, that its files are made of."""
    whole: bool = False
    """Whether all its files are there."""
    num_failures: int = 0
    """Photos that could not be used."""


@dataclass(kw_only=True)
class DiscoveryRecord:
    """Request of a discovery, and the progress of its stages."""

    path: Path
    """Folder of the discovery."""
    photos: list[str]
    """Files and folders of photos, absolute."""
    settings: dict[str, Any]
    """Settings by dotted name, as they were given."""
    num_photos: int
    """Number of photos that were found."""
    photo_names: str
    """Digest of the photos' names, in order."""
    command: str
    """Command of the first call, for people."""
    expected_memory: int
    """Peak memory that was expected, bytes."""
    stages: dict[str, Stage]
    """Stages by name, those of ``STAGES`` in order."""
    geotiff: bool = False
    """Whether masks are written as GeoTIFF too."""
    figure: list[int] = field(default_factory=list)
    """Concepts in the columns of the figure."""
    figure_cells: list[list[BoxXYXY]] = field(default_factory=list)
    """Boxes of the segments in each column of the figure, in its pixels. Empty where an earlier version drew it."""

    @contextmanager
    def working(self, name: str) -> Iterator[Stage]:
        """Do a stage or a part of it. Its time is added and kept, even if it is interrupted.

        Raises:
            ConfigError: If the file cannot be written.
        """
        stage, start = self.stages[name], time.monotonic()
        try:
            yield stage
        finally:
            stage.seconds += time.monotonic() - start
            self.write()

    def write(self) -> None:
        """Write the file, atomically.

        Raises:
            ConfigError: If the file cannot be written.
        """
        content = {"format": FORMAT, "version": slotseg.__version__}
        content |= {name: value for name, value in vars(self).items() if name not in ("path", "stages")}
        content["stages"] = {name: vars(stage) for name, stage in self.stages.items()}
        with writing(self.path, kind=ConfigError):
            write_json(_file(self.path), content)

    def check(self, photos: list[str], settings: Mapping[str, Any], num_photos: int, photo_names: str) -> None:
        """Refuse photos and settings that differ from the first call. Settings may be left out.

        Raises:
            ConfigError: If something differs. The message says what, and what to do.
        """
        other = f"choose another --output than {self.path} for a discovery of its own"
        if photos != self.photos:
            was, wanted = (", ".join(words) for words in (self.photos, photos))
            raise ConfigError(
                f"{self.path} was begun with photos of {was} and not of {wanted}; expected the same: {other}"
            )
        if num_photos != self.num_photos or photo_names != self.photo_names:
            how = "others" if num_photos == self.num_photos else f"{num_photos:,} and not {self.num_photos:,} as before"
            raise ConfigError(
                f"the photos changed since {self.path} was begun: they are {how}; expected the same: put them back, "
                f"paint new ones with slotseg segment --checkpoint {self.path / 'run'}, or {other}"
            )
        for name, value in settings.items():
            if name not in self.settings or self.settings[name] != value:
                was = repr(self.settings[name]) if name in self.settings else "left out"
                raise ConfigError(
                    f"{name} is to be {value!r} and was {was} when {self.path} was begun; expected no other: "
                    f"leave it out, or {other}"
                )


def read_record(path: Path) -> DiscoveryRecord | None:
    """Read the record of a folder.

    Returns:
        The record, or None for a folder that is new or empty.

    Raises:
        ConfigError: If the folder belongs to something else, or its record is damaged.
    """
    file = _file(path)
    if not file.is_file():
        if path.exists() and not (path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir())):
            raise ConfigError(
                f"{path} exists and is no folder of slotseg discover; expected a new or an empty one as --output"
            )
        return None
    try:
        values = json.loads(file.read_bytes())
        if _get(values, "format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        given = _get(values, "stages")
        names = [name for name in STAGES if name != "decoder" or name in given]
        stages = {name: _made(Stage, _get(given, name)) for name in names}
        record = _made(DiscoveryRecord, {**values, "path": path, "stages": stages})
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{file} cannot be used ({error}); expected what slotseg discover writes: choose another --output"
        ) from error
    remove_leftovers(path)
    return record


def _get(values: Any, name: str) -> Any:
    """A value from a file.

    Raises:
        ValueError: If there is none of that name.
    """
    if not isinstance(values, dict) or name not in values:
        raise ValueError(f"it lacks {name}")
    return values[name]


def _made(kind: type[T], values: Any) -> T:
    """A dataclass with the values that a file has for it, once the type of each is checked.

    Raises:
        ValueError: If a value is missing.
        TypeError: If a value is of another type. The message names the first one.
    """
    known = {each.name: each for each in fields(kind)}
    for name, each in known.items():
        if each.default is MISSING and each.default_factory is MISSING:
            _get(values, name)
    made = kind(**{name: value for name, value in values.items() if name in known})
    for name, each in known.items():
        value = getattr(made, name)
        items = value if isinstance(value, list) else []
        if not _is_type(value, each.type) or not all(isinstance(item, ITEMS.get(name, object)) for item in items):
            raise TypeError(f"{name} is {value!r}")
    return made


def _is_type(value: object, declared: Any) -> bool:
    expected = get_origin(declared) or declared
    return isinstance(value, (int, float) if expected is float else expected)


def _file(path: Path) -> Path:
    return path / "discover.json"
