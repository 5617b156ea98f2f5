"""The legend beside slotseg's masks: names and colours of their ids, and the id of void."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slotseg.data.labelled.annotations.common import checked_names, color_of, common_colors, id_of, quoted, read_json
from slotseg.data.labelled.annotations.photo_names import file_named
from slotseg.errors import DataError
from slotseg.labels.label_map import IGNORE, IGNORE_16, Color

LEGEND = "legend.json"
"""Name of the file."""

_EXPECTED = 'the legend of the masks, {"classes": [{"id": 0, "name": "sky"}, ...]}, or none'


@dataclass(frozen=True, kw_only=True)
class Legend:
    """Ids of masks, with their names and colours."""

    path: Path
    """The file."""
    ids: tuple[int, ...]
    """Id of each class, from 0 to 65534, each once."""
    names: tuple[str, ...]
    """Name of each class; empty if none has one."""
    colors: tuple[Color, ...] | None
    """Colour of each class; None unless all have one."""
    ignore_id: int
    """Id of pixels without a class: 255, or 65535 in 16 bits."""

    @property
    def id_colors(self) -> tuple[tuple[int, Color], ...]:
        """Ids and their colours, if all classes have one. Black stands for no class unless it is one."""
        if self.colors is None:
            return ()
        none = (self.ignore_id, (0, 0, 0))
        return (*zip(self.ids, self.colors, strict=True), *([] if none[1] in self.colors else [none]))


def legend_of(masks: Path) -> Path:
    """Path of the legend of a folder of masks, or of a single one."""
    return file_named(masks, LEGEND) if masks.is_dir() else masks.with_name(f"{masks.stem}_{LEGEND}")


def read_legend(path: Path, *, named: bool = True) -> Legend | None:
    """Read a legend; None if there is no such file. Its ids may have gaps, and may be numbers or text.

    Args:
        path: File.
        named: Whether each class needs a name.

    Raises:
        DataError: If it is no legend, or gives an id two meanings.
    """
    if not path.is_file():
        return None
    content = read_json(path, _EXPECTED)
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, list) or not classes or not all(isinstance(c, dict) for c in classes):
        raise DataError(f"{path} has no classes; expected {_EXPECTED}")
    ids = [_id(c.get("id"), path) for c in classes]
    ignore_id = _id(content.get("ignore_id", IGNORE if max(ids) < IGNORE else IGNORE_16), path)
    twice = next((i for i, count in Counter([*ids, ignore_id]).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path} gives the id {twice} two meanings; expected each id once, and another ignore_id")
    nameless = next((c for c in classes if not isinstance(c.get("name"), str)), None)
    if named and nameless is not None:
        raise DataError(f"{path} gives the id {quoted(nameless['id'])} no name; expected {_EXPECTED}")
    return Legend(
        path=path,
        ids=tuple(ids),
        names=() if nameless is not None else checked_names([c["name"] for c in classes], str(path)),
        colors=common_colors([color_of(c.get("color")) for c in classes]),
        ignore_id=ignore_id,
    )


def _id(value: Any, path: Path) -> int:
    """An id, as a number or as text."""
    number = id_of(value)
    if number is None or not 0 <= number <= IGNORE_16:
        raise DataError(f"{path} has the id {quoted(value)}; expected a whole number from 0 to {IGNORE_16}")
    return number
