"""What is fixed in a benchmark, by name: split, image list, size, crop, void, classes, matching.

Two scores compare only if all of it is the same. docs/protocols.md says what each does to the
number. Letters: H W pixels.
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
    """How a set is scored."""

    name: str
    """``curated``, ``full`` or ``native``."""
    dataset: str
    """What it is a protocol of."""
    classes: str
    """The label set."""
    split: str
    """Which part of the set; the whole of a set that has no parts is ``all``."""
    image_list: str = "all"
    """Which photos of the split: ``all`` or ``curated``."""
    short_side: int | None = None
    """Photos (bilinear) and label maps (nearest) are scaled to this short side; None: as they are."""
    crop: int | None = None
    """Side of the centre square that is kept; None: everything."""
    void: str = "void pixels are dropped before counting"
    """What becomes of pixels without a class."""
    matching: str = "hungarian"
    """How prototypes get their classes: a mode of ``slotseg.eval.matching``."""

    @property
    def resolution(self) -> str:
        """Size at which pixels are compared, for people."""
        return f"short side {self.short_side}" if self.short_side else "as the label maps are"

    @property
    def cropping(self) -> str:
        """What is kept of a photo, for people."""
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
        """Scale a map of ids ``(H, W)`` by nearest neighbour, and crop it."""
        return self._prepare(ids, Image.Resampling.NEAREST)

    def _prepare(self, pixels: NDArray[Any], resampling: Image.Resampling) -> NDArray[Any]:
        height, width = pixels.shape[:2]
        if self.short_side and min(height, width) != self.short_side:
            # torchvision's Resize, which published results used: the long side is rounded down.
            long_side = int(self.short_side * max(height, width) / min(height, width))
            size = (self.short_side, long_side) if width <= height else (long_side, self.short_side)
            pixels = np.asarray(Image.fromarray(pixels).resize(size, resampling))
        return _center(pixels, self.crop) if self.crop else pixels


def _center(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """The centre square, or what there is of it."""
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
"""The protocols of each set, its default first; sets that are not here are scored ``native``."""


def protocol_names(dataset: str) -> tuple[str, ...]:
    """The protocols of a set, its default first."""
    return _NAMES.get(dataset, ("native",))


def find_protocol(
    dataset: str, name: str | None = None, *, split: str | None = None, matching: str = "hungarian"
) -> Protocol:
    """The protocol of a set by name.

    Args:
        dataset: A key of ``slotseg.data.labelled.benchmarks.SETS``, or a set of one's own such as ``folder``.
        name: One of ``protocol_names``; by default the set's first.
        split: Instead of the one that papers score.
        matching: Instead of one-to-one.

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
