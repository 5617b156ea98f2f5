"""Settings of reading and segmenting an image, as frozen dataclasses that check themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

from slotseg.values import is_number, is_whole, require, require_positive, require_range

EDGES = ("none", "field", "guided")
SEVERAL_SCALES = (0.85, 1.4)
"""Relative working sizes of test-time augmentation, where a run has none of its own."""


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """Reading of photos with other than three bands, or with values of more than 8 bits."""

    bands: tuple[int, ...] = ()
    """Numbers, from 1, of the bands to take as red, green and blue, or of one for grey; empty: the first three."""
    range: tuple[float, ...] = ()
    """Values that become 0 and 255, a pair for all bands or one for each. Empty: at the start of a training those that
    its photos use; later, those of the type."""

    def __post_init__(self) -> None:
        """Check numbers and order."""
        ok = len(self.bands) in (0, 1, 3) and all(is_whole(b) and b >= 1 for b in self.bands)
        require(ok, self, "bands", "one or three whole numbers from 1")
        pairs = tuple(zip(self.range[::2], self.range[1::2], strict=False))
        ok = all(is_number(v) and isfinite(v) for v in self.range)
        ok = ok and len(self.range) in (0, 2, 6) and all(a < b for a, b in pairs)
        require(ok, self, "range", "LOW,HIGH with LOW below HIGH, or three such pairs")

    def sentence(self) -> str:
        """Words on the range: ``values 104 to 3,050 as 0 to 255``; empty without one."""
        pairs = zip(self.range[::2], self.range[1::2], strict=True)
        words = [f"{low:,.6g} to {high:,.6g}" for low, high in pairs]
        of = f", of each band ({', '.join(words)})" if len(words) > 1 else ""
        return f"values {words[0] if not of else 'by a range'}{of} as 0 to 255" if words else ""

    def ranges(self, num_bands: int) -> tuple[tuple[float, float], ...]:
        """A pair (LOW, HIGH) for each of so many bands; empty without a range."""
        pairs = tuple(zip(self.range[::2], self.range[1::2], strict=True))
        if len(pairs) == num_bands or not pairs:
            return pairs
        return ((min(low for low, _ in pairs), max(high for _, high in pairs)),) * num_bands


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """Segmentation of an image by a trained model: test-time augmentation (several looks, averaged) and refinement."""

    scales: tuple[float, ...] = (1.0,)
    """Working sizes relative to ``--size``; the finest gives the grid."""
    mirror: bool = False
    """Whether the mirrored image is looked at too."""
    edges: str = "none"
    """Way to follow the photo's edges: ``none``, ``field`` (a mean field) or ``guided`` (a guided filter)."""
    field_strength: float = 3.0
    """Strength with which the mean field makes pixels of like colour near each other agree on a prototype."""

    def __post_init__(self) -> None:
        """Check ranges."""
        ok = len(self.scales) > 0 and all(is_number(s) and 0.1 <= s <= 10 for s in self.scales)
        require(ok, self, "scales", "one or more numbers from 0.1 to 10")
        require(self.edges in EDGES, self, "edges", f"one of {', '.join(EDGES)}")
        require_positive(self, "field_strength")
        require_range(self, 0, 100, "field_strength")

    REPLACED: ClassVar[Mapping[str, str]] = {"refinement": "edges=field and field_strength"}
    """Settings of earlier versions, and what a person writes today."""

    @staticmethod
    def upgraded(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings of a run of any version under their names of today.

        In earlier versions ``refinement`` was the strength of the mean field, or 0 for none. ``edges`` was ``auto`` if
        the strength alone decided.
        """
        if "field_strength" in settings or not ("refinement" in settings or settings.get("edges") == "auto"):
            return settings
        upgraded = dict(settings)
        strength, edges = upgraded.pop("refinement", 0.0), upgraded.pop("edges", "auto")
        if strength != 0:
            upgraded["field_strength"] = strength
        upgraded["edges"] = ("field" if strength != 0 else "none") if edges == "auto" else edges
        return upgraded

    @property
    def follows_edges(self) -> bool:
        """Whether scores become assignments that follow the photo's edges."""
        return self.edges != "none"


PLAIN: Mapping[str, Any] = {"scales": (1.0,), "mirror": False, "edges": "none"}
"""Settings that reduce any ``SegmentConfig`` to the network alone: one look and nothing after it."""
