"""The paper's figure 3: columns of the best segments of some concepts (Wen et al., NeurIPS 2022)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slotseg.concepts.collection import BoxXYXY, Collection, Concept, Segment, Thumbnail
from slotseg.errors import ConfigError

SIDE = 200
"""Side of a cell, pixels."""
GAP = 6
HEAD = 30
"""Height of the names, pixels."""
DIMMED = 0.25
"""Share of the light that is left outside a segment."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawn figure, with the places of its segments."""

    image: Image.Image
    """Picture of the figure."""
    ids: list[int]
    """Concepts in its columns."""
    cells: list[list[BoxXYXY]]
    """Boxes of the segments of each column, from the top, in pixels of the picture."""


def concept_figure(
    collection: Collection,
    thumbnails: Mapping[str, Thumbnail],
    ids: Sequence[int] = (),
    *,
    columns: int = 8,
    names: Mapping[int, str] | None = None,
) -> Figure:
    """Draw the best segments of concepts, a column each, the best on top.

    Args:
        collection: Collection with the segments.
        thumbnails: Thumbnails by photo.
        ids: Concepts to draw, all of the collection, by default those of ``telling``.
        columns: Number of concepts by default.
        names: Names of concepts, where these are not as in the collection.

    Raises:
        ConfigError: If no concept has a segment.
    """
    chosen = [collection.concepts[k] for k in ids] or telling(collection, columns)
    rows = max((len(c.segments) for c in chosen), default=0)
    if not rows:
        raise ConfigError("no concept has a segment to draw; expected photos in which some prototype wins")
    step = SIDE + GAP
    image = Image.new("RGB", (len(chosen) * step + GAP, HEAD + rows * step), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    cells: list[list[BoxXYXY]] = []
    for column, concept in enumerate(chosen):
        left = GAP + column * step
        name = (names or {}).get(concept.id, concept.name)
        while len(name) > 1 and font.getlength(name) > SIDE:
            name = f"{name[:-2].rstrip()}…"
        draw.text((left, 7), name, "black", font)
        tops = range(HEAD, image.height, step)
        cells.append([(left, top, left + SIDE, top + SIDE) for top, _ in zip(tops, concept.segments, strict=False)])
        for cell, segment in zip(cells[-1], concept.segments, strict=True):
            image.paste(_dimmed(thumbnails[segment.photo], concept.id), cell[:2])
    return Figure(image=image, ids=[concept.id for concept in chosen], cells=cells)


def telling(collection: Collection, number: int) -> list[Concept]:
    """The ``number`` concepts whose best segments are most like the prototype, by id.

    Only concepts with as many segments as any are considered.
    """
    shown = [c for c in collection.concepts if c.segments]
    most = max((len(c.segments) for c in shown), default=0)
    full = [c for c in shown if len(c.segments) == most]
    best = sorted(full, key=lambda c: -_mean(c.segments))[:number]
    return sorted(best, key=lambda c: c.id)


def _mean(segments: Sequence[Segment]) -> float:
    return sum(s.score for s in segments) / len(segments)


def _dimmed(thumbnail: Thumbnail, prototype: int) -> Image.Image:
    """A square of a photo around a segment, dark and grey outside it."""
    image: NDArray[np.float32] = thumbnail.image.astype(np.float32)
    mask = (thumbnail.prototype_map == prototype)[:, :, None]
    gray = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    shown = Image.fromarray(np.where(mask, image, gray * DIMMED).astype(np.uint8))
    rows, columns = np.flatnonzero(mask.any(axis=(1, 2))), np.flatnonzero(mask.any(axis=(0, 2)))
    side = min(shown.size)
    center = ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2) if rows.size else (side / 2, side / 2)
    top, left = (
        int(min(max(c - side / 2, 0), length - side)) for c, length in zip(center, image.shape[:2], strict=True)
    )
    return shown.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
