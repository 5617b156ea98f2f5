"""The views of a photo, two or more, and their exact geometry.

A crop box is in pixels of the photo. An overlap box is xyxy in [0, 1] of its own view, after the view's flip.
The published code redraws the second crop a few times and can end without any overlap. Here, the first box then
takes its place, so two views always overlap. Letters: V views, S side of a view in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from slotseg.config import ViewsConfig
from slotseg.data.reading.photos import REDUCTIONS, Photo
from slotseg.data.views.validity import parted

BoxXYXY = tuple[int, int, int, int]
"""Box as left, top, right, bottom in pixels of the photo, right and bottom excluded."""

ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True)
class Views:
    """Crops of one photo that overlap each other, not yet augmented in colour."""

    images: Tensor
    """RGB views, uint8, ``(V, 3, S, S)``."""
    crops: tuple[BoxXYXY, ...]
    """Crop box of each view, before its flip."""
    flips: NDArray[np.bool_]
    """Whether each view is mirrored left-right, ``(V,)``."""
    valid: Tensor | None = None
    """Which pixels of the views are valid, boolean, ``(V, S, S)``; None if all are."""


@dataclass(frozen=True, kw_only=True)
class ViewPair:
    """Two crops of one photo, not yet augmented in colour."""

    images: Tensor
    """RGB views, uint8, ``(2, 3, S, S)``."""
    overlap_boxes: Tensor
    """Overlap boxes, xyxy in [0, 1] of each view, float32, ``(2, 4)``."""
    flips: Tensor
    """Whether each view is mirrored left-right, boolean, ``(2,)``."""
    valid: Tensor | None = None
    """Which pixels of the views are valid, boolean, ``(2, S, S)``; None if all are."""


def draw_crop(
    size_hw: tuple[int, int],
    area: tuple[float, float],
    aspect: tuple[float, float],
    rng: np.random.Generator,
) -> BoxXYXY:
    """Draw a crop box of a photo, xyxy in pixels.

    Area and (log-uniform) aspect are drawn until the box fits, 10 times at most. If no box fits, as in a panorama,
    the result is the largest centred box of an allowed aspect.
    """
    height, width = size_hw
    for _ in range(10):
        target = height * width * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return x, y, x + w, y + h
    ratio = min(max(width / height, aspect[0]), aspect[1])
    w, h = max(1, min(width, round(height * ratio))), max(1, min(height, round(width / ratio)))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


def draw_crops(
    size_hw: tuple[int, int], config: ViewsConfig, rng: np.random.Generator, number: int = 2
) -> tuple[BoxXYXY, ...]:
    """Draw crop boxes, each of which overlaps all earlier ones by at least ``config.min_overlap`` of its own area.

    A box is redrawn until it does, ``ATTEMPTS`` times at most. After that, the first box takes its place.
    """
    crops = [draw_crop(size_hw, config.area, config.aspect, rng)]
    while len(crops) < number:
        for _ in range(ATTEMPTS):
            crop = draw_crop(size_hw, config.area, config.aspect, rng)
            least = max(1, config.min_overlap * _area(crop))
            if all(_area(_intersection(earlier, crop)) >= least for earlier in crops):
                break
        else:
            crop = crops[0]
        crops.append(crop)
    return tuple(crops)


def overlap_box(crop: BoxXYXY, other: BoxXYXY, flip: bool) -> NDArray[np.float32]:
    """Part of ``crop`` that ``other`` shows too, xyxy in [0, 1] of the (flipped) crop."""
    x1, y1, x2, y2 = _intersection(crop, other)
    left, top = crop[0], crop[1]
    width, height = crop[2] - left, crop[3] - top
    start, end = (x1 - left) / width, (x2 - left) / width
    if flip:
        start, end = 1 - end, 1 - start
    return np.array([start, (y1 - top) / height, end, (y2 - top) / height], np.float32)


def make_views(photo: Photo, config: ViewsConfig, rng: np.random.Generator) -> ViewPair:
    """Draw two overlapping, randomly mirrored crops of a photo, as ``cut_views`` does."""
    views = cut_views(photo, config, rng, 2)
    crops, flips = views.crops, views.flips
    boxes = [overlap_box(crops[i], crops[1 - i], bool(flips[i])) for i in (0, 1)]
    return ViewPair(
        images=views.images,
        overlap_boxes=torch.from_numpy(np.stack(boxes)),
        flips=torch.from_numpy(flips),
        valid=views.valid,
    )


def cut_views(photo: Photo, config: ViewsConfig, rng: np.random.Generator, number: int) -> Views:
    """Draw overlapping, randomly mirrored crops of a photo.

    The photo is decoded once, as small as possible: all crops keep at least ``config.image_size`` pixels a side, if
    they have them at full size. A pixel of a view is valid where most of what it was resized from is.

    Args:
        photo: Photo to cut the crops from.
        config: Sizes and ranges.
        rng: Random generator, the only source of randomness.
        number: V, the number of crops.

    Raises:
        DataError: If the photo cannot be decoded, or all of its pixels are missing.
    """
    crops = draw_crops(photo.size_hw, config, rng, number)
    flips = rng.random(number) < config.flip
    reduction = coarsest_reduction(crops, config.image_size)
    pixels, valid = parted(photo.pixels(reduction))
    if pixels.shape[:2] == photo.size_hw:
        reduction = 1

    def rendered(image: NDArray[np.uint8]) -> Tensor:
        places = zip((reduced_box(crop, reduction) for crop in crops), flips, strict=True)
        return torch.stack([_render(image, box, bool(flip), config.image_size) for box, flip in places])

    images, shown = rendered(pixels), None
    if valid is not None:
        shown = rendered(np.uint8(255) * valid[:, :, None])[:, 0] >= 128
    return Views(images=images, crops=crops, flips=flips, valid=None if shown is None or shown.all() else shown)


def coarsest_reduction(crops: Sequence[BoxXYXY], size: int) -> int:
    """Largest of ``REDUCTIONS`` that leaves each crop ``size`` pixels a side, or 1."""
    side = min(min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in crops)
    return next((r for r in REDUCTIONS if side >= r * size), 1)


def reduced_box(box: BoxXYXY, reduction: int) -> BoxXYXY:
    """Box in pixels of the reduced photo. Each side moves by half such a pixel at most."""
    x1, y1, x2, y2 = (round(side / reduction) for side in box)
    return x1, y1, x2, y2


def _render(image: NDArray[np.uint8], crop: BoxXYXY, flip: bool, size: int) -> Tensor:
    x1, y1, x2, y2 = crop
    pixels = torch.from_numpy(image[y1:y2, x1:x2].copy()).permute(2, 0, 1)
    view: Tensor = transforms.resize(pixels, [size, size], InterpolationMode.BICUBIC, antialias=True)
    return view.flip(2) if flip else view


def _intersection(a: BoxXYXY, b: BoxXYXY) -> BoxXYXY:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _area(box: BoxXYXY) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])
