"""Protocols by name. A protocol fixes split, image list, size, crop, void, classes and matching.

The metrics of two results compare only if all of these are the same. docs/protocols.md says how each of them
changes the metrics. Letters: H W pixels.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.labelled.benchmarks import SETS
from slotseg.data.labelled.labelled import LabelledImage
from slotseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Rules by which a set is scored."""

    name: str
    """Name of the protocol: ``curated``, ``full`` or ``native``."""
    dataset: str
    """Name of the labelled set."""
    classes: str
    """Name of the label set."""
    split: str
    """Part of the set; ``all`` if the set has no parts."""
    image_list: str = "all"
    """Photos of the split that are scored: ``all`` or ``curated``."""
    short_side: int | None = None
    """Short side, in pixels, to which photos (bilinear) and label maps (nearest) are scaled; None: no scaling."""
    crop: int | None = None
    """Side of the centre square that is kept, in pixels; None: no cropping."""
    void: str = "void pixels are dropped before counting"
    """Treatment of pixels without a class."""
    matching: str = "hungarian"
    """Mode of ``slotseg.eval.matching`` that gives prototypes their classes."""

    @property
    def resolution(self) -> str:
        """Size at which pixels are compared, for people."""
        return f"short side {self.short_side}" if self.short_side else "as the label maps are"

    @property
    def cropping(self) -> str:
        """Part of a photo that is kept, for people."""
        return f"centre {self.crop} x {self.crop}" if self.crop else "none"

    def prepare(self, labelled: LabelledImage) -> LabelledImage:
        """Scale and crop a photo with its ground truth."""
        return replace(
            labelled, image=self.prepare_image(labelled.image), class_map=self.prepare_map(labelled.class_map)
        )

    def prepare_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale an RGB image ``(H, W, 3)`` bilinearly, with antialiasing, and crop it."""
        return self._prepare(image, Image.Resampling.BILINEAR)

    def prepare_map(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Scale a map of ids ``(H, W)`` by nearest neighbour, and crop it.

        Pillow takes other neighbours in images of 16 bits than in those of 8 and 32.
        """
        wide = ids.astype(np.int32) if ids.dtype == np.uint16 else ids
        return self._prepare(wide, Image.Resampling.NEAREST).astype(ids.dtype, copy=False)

    def _prepare(self, pixels: NDArray[Any], resampling: Image.Resampling) -> NDArray[Any]:
        height, width = pixels.shape[:2]
        if self.short_side and min(height, width) != self.short_side:
            # torchvision's Resize, which published results used: the long side is rounded down.
            long_side = int(self.short_side * max(height, width) / min(height, width))
            size = (self.short_side, long_side) if width <= height else (long_side, self.short_side)
            pixels = np.asarray(Image.fromarray(pixels).resize(size, resampling))
        return _center(pixels, self.crop) if self.crop else pixels


def _center(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """Centre square, cut to the image where the image is smaller."""
    height, width = pixels.shape[:2]
    top, left = (max(0, round((length - side) / 2)) for length in (height, width))
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


_SIZES: dict[str, dict[str, Any]] = {
    "curated": {"image_list": "curated", "short_side": 320, "crop": 320},
    "full": {"short_side": 320, "crop": 320},
    "native": {},
}
_NAMES = {
    "cocostuff27": ("curated", "full"),
    "cocostuff15": ("curated", "full"),
    "cocostuff171": ("full", "curated", "native"),
    "cocopanoptic27": ("full", "native"),
    "cityscapes27": ("full", "native"),
}
"""Protocols of each set, its default first. Sets that are not listed have ``native`` only."""


def protocol_names(dataset: str) -> tuple[str, ...]:
    """Names of the protocols of a set, its default first."""
    return _NAMES.get(dataset, ("native",))


def find_protocol(
    dataset: str, name: str | None = None, *, split: str | None = None, matching: str = "hungarian"
) -> Protocol:
    """Find a protocol of a set by its name.

    Args:
        dataset: Name of the set: a key of ``slotseg.data.labelled.benchmarks.SETS``, ``scenes`` or ``folder``.
        name: Name of the protocol, one of ``protocol_names``; by default the set's first.
        split: Part of the set; by default the one that papers score.
        matching: Matching mode; by default one-to-one.

    Raises:
        ConfigError: If the set has no such protocol.
    """
    names = protocol_names(dataset)
    if name is not None and name not in names:
        raise ConfigError(f"{dataset} has no protocol {name!r}; expected {' or '.join(names)}")
    known = SETS.get(dataset)
    return Protocol(
        name=name or names[0],
        dataset=dataset,
        classes=known.taxonomy if known else dataset,
        split=split or (known.split if known else "all"),
        matching=matching,
        **_SIZES[name or names[0]],
    )
