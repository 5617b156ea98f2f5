"""A label map: which prototype is which class, with names and colours, and its file.

Letters: K prototypes, C classes, H W pixels.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.errors import DataError

IGNORE = 255
"""Id in a class map of void, and of prototypes without a class."""

IGNORE_16 = 65_535
"""Id of void in 16-bit masks, which hold maps of more than 255 ids."""

UNNAMED = "prototypes"
"""Origin of a label map whose prototypes have no names yet."""

NAMED = "names"
"""Origin of a label map whose names a person gave."""

Color = tuple[int, int, int]


def voc_color(index: int) -> Color:
    """The Pascal VOC colour of an id, whose bits are spread over the three channels from the top."""
    rgb = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return rgb[0], rgb[1], rgb[2]


def palette(num_colors: int) -> tuple[Color, ...]:
    """Colours of ids 0, 1, ...: the VOC colours without its black background."""
    return tuple(voc_color(i + 1) for i in range(num_colors))


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """The class of every prototype, with names and colours.

    ``LabelMap.prototypes(K)`` is the map of a model whose prototypes have no names yet.
    """

    classes: tuple[int, ...]
    """Class id of each prototype, ``IGNORE`` for one without a class; length K."""
    names: tuple[str, ...]
    """Name of each class; length C."""
    colors: tuple[Color, ...]
    """RGB of each class; length C."""
    origin: str
    """Origin of the map: ``UNNAMED``, ``NAMED``, the matching that found it (``hungarian``, ``merge`` or
    ``majority``), or ``truth`` where its ids are those of labelled images."""
    source: str = ""
    """Labelled images that it was matched on, or file of the names; empty if it has neither."""

    def __post_init__(self) -> None:
        """Check that names, colours and ids fit."""
        if len(self.colors) != len(self.names):
            raise DataError(f"{len(self.colors)} colours for {len(self.names)} names; expected one each")
        if not all(0 <= channel <= 255 for color in self.colors for channel in color):
            raise DataError("label map has a colour out of range; expected three numbers from 0 to 255")
        wrong = [c for c in self.classes if not (0 <= c < len(self.names) or c == self.ignore)]
        if wrong:
            raise DataError(f"label map names class {wrong[0]}; expected 0 to {len(self.names) - 1} or {self.ignore}")

    @property
    def num_prototypes(self) -> int:
        """K, the number of prototypes."""
        return len(self.classes)

    @property
    def ignore(self) -> int:
        """The id of pixels without a class, in a mask of this map."""
        return IGNORE if len(self.names) <= IGNORE else IGNORE_16

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Type of class maps: 8 bits, or 16 where there are more than 255 classes."""
        return np.uint8 if self.ignore == IGNORE else np.uint16

    @classmethod
    def prototypes(cls, num_prototypes: int) -> "LabelMap":
        """The map in which every prototype is a class of its own, ``prototype 0`` and so on."""
        names = tuple(f"prototype {k}" for k in range(num_prototypes))
        return cls.of_classes(names, palette(num_prototypes), origin=UNNAMED)

    @classmethod
    def of_classes(cls, names: tuple[str, ...], colors: tuple[Color, ...], origin: str = "truth") -> "LabelMap":
        """The map in which every id is its own class, as in a class map."""
        return cls(classes=tuple(range(len(names))), names=names, colors=colors, origin=origin)

    def class_map(self, prototype_map: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Class ids ``(H, W)`` of a prototype map."""
        table: NDArray[Any] = np.array(self.classes, self.dtype)
        ids: NDArray[Any] = table[prototype_map]
        return ids

    def to_dict(self) -> dict[str, Any]:
        """The map as JSON-ready values."""
        return {
            "classes": list(self.classes),
            "names": list(self.names),
            "colors": [list(c) for c in self.colors],
            "origin": self.origin,
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, values: Any, where: str) -> "LabelMap":
        """A map from the values of ``to_dict``.

        Raises:
            DataError: If a value is missing or doesn't fit; ``where`` names the file.
        """
        try:
            return cls(
                classes=tuple(int(c) for c in values["classes"]),
                names=tuple(str(n) for n in values["names"]),
                colors=tuple((int(r), int(g), int(b)) for r, g, b in values["colors"]),
                origin=str(values["origin"]),
                source=str(values.get("source", "")),
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{where} is no label map; expected the labels.json of a run, with classes, names, colors and origin"
            ) from error


def read_labels(path: Path) -> LabelMap:
    """Read a label map's file.

    Raises:
        DataError: If it is missing or no label map.
    """
    try:
        return LabelMap.from_dict(json.loads(path.read_text()), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected the labels.json of a run") from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON; expected the labels.json of a run") from error
