"""The legend beside slotseg's masks: names and colours of their ids, and the id of void."""

import json
from dataclasses import dataclass
from pathlib import Path

from slotseg.data.labelled.annotations.common import checked_names, color_of, common_colors, read_bytes
from slotseg.errors import DataError
from slotseg.labels.label_map import IGNORE, IGNORE_16, Color
from slotseg.values import is_whole

LEGEND = "legend.json"
"""Name of the file."""

_EXPECTED = "the legend of the masks, or none"


@dataclass(frozen=True, kw_only=True)
class Legend:
    """Names and colours of masks."""

    path: Path
    """The file."""
    names: tuple[str, ...]
    """Name of each id, 0 and up."""
    colors: tuple[Color, ...] | None
    """Colour of each id; None unless all have one."""
    ignore_id: int
    """Id of pixels without a class: 255, or 65535 in 16 bits."""


def legend_of(masks: Path) -> Path:
    """Path of the legend of a folder of masks, or of a single one."""
    return masks / LEGEND if masks.is_dir() else masks.with_name(f"{masks.stem}_{LEGEND}")


def read_legend(path: Path) -> Legend | None:
    """Read a legend; None if there is no such file.

    Raises:
        DataError: If it is no legend, or its ids are not 0 and up.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(read_bytes(path, _EXPECTED))
        classes = values["classes"]
        if [c["id"] for c in classes] != list(range(len(classes))):
            raise ValueError("its ids are not 0, 1, 2 and so on")
        usual = IGNORE if len(classes) <= IGNORE else IGNORE_16
        ignore_id = values.get("ignore_id", usual)
        if not is_whole(ignore_id) or not len(classes) <= ignore_id <= IGNORE_16:
            raise ValueError(f"its ignore_id is {ignore_id}")
        return Legend(
            path=path,
            names=checked_names([c["name"] for c in classes], str(path)),
            colors=common_colors([color_of(c.get("color")) for c in classes]),
            ignore_id=ignore_id,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} cannot be used ({error!r}); expected {_EXPECTED}") from error
