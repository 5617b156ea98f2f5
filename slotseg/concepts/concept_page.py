"""The page of concepts: a card for each, with its best segments, to be named.

The page is a single file that loads nothing. Its data is JSON that the page's own script lays out as text. The page's
content security policy lets no other script run. Letters: K prototypes, h w pixels.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, features

import slotseg
from slotseg.concepts.collection import THUMBNAIL_SIDE, Collection, Thumbnail
from slotseg.errors import DataError
from slotseg.labels import colors as hashed_colors
from slotseg.labels import naming
from slotseg.labels.naming import Naming
from slotseg.pages import check_replaceable, page_text, picture_uri, render_page, write_page

SIDES = (THUMBNAIL_SIDE, 256, 208, 168, 136, 112, 92, 76, 60)
"""Longer sides that pictures may have, pixels. The largest that keeps to ``MAX_PICTURE_BYTES`` is taken."""
MAX_PICTURE_BYTES = 24_000_000
"""Most bytes of a page's pictures and outlines together."""
SAMPLE = 48
"""Number of pictures that are tried to see how many bytes a size takes."""
QUALITY = 60
"""Quality of the pictures, as WebP counts it."""
MAX_PARTS = 24
"""Most outlines that are kept of a segment, the largest ones."""
TOLERANCE = 0.6
"""Largest distance of a drawn outline from the segment's, pixels."""

_FORM = "WEBP" if features.check("webp") else "JPEG"


def write_concept_page(
    file: Path,
    collection: Collection,
    thumbnails: Mapping[str, Thumbnail],
    names: Naming | None = None,
    *,
    scores: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the page of a collection, atomically. An older page of concepts is replaced.

    Args:
        file: Path of the page.
        collection: Collection to show.
        thumbnails: Thumbnails by photo. Each is asked for once or twice, and may be read only then.
        names: Names that the page begins with, where the browser remembers nothing typed for this checkpoint.
        scores: Sentences on what names are worth so far, where there are labels to score them with.
        overwrite: Whether a file that is no page of concepts is replaced too.

    Raises:
        DataError: If there is a file that may not be replaced, a thumbnail is missing, or the page cannot be written.
    """
    if not overwrite:
        check_replaceable(file, "concepts", "page of concepts")
    write_page(file, render(collection, thumbnails, names, scores))


def render(
    collection: Collection,
    thumbnails: Mapping[str, Thumbnail],
    names: Naming | None = None,
    scores: Sequence[str] = (),
) -> str:
    """The page's HTML."""
    script = "\n".join(page_text("slotseg.concepts", name).strip() for name in ("concept_names.js", "concept_page.js"))
    digest = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode()
    return render_page(
        "slotseg.concepts",
        "concept_page.html",
        {},
        version=slotseg.__version__,
        run=collection.run,
        carried_from=collection.carried_from,
        num_photos=collection.num_photos,
        num_prototypes=len(collection.concepts),
        scores=scores,
        style=Markup(page_text("slotseg.concepts", "concept_page.css").strip()),
        script=Markup(script),
        script_digest=digest,
        data=Markup(_script_json(page_data(collection, thumbnails, names))),
    )


def page_data(
    collection: Collection, thumbnails: Mapping[str, Thumbnail], names: Naming | None = None
) -> dict[str, Any]:
    """Data that the page's script lays out, JSON-ready.

    Raises:
        DataError: If a segment's photo has no thumbnail.
    """
    wanted: dict[str, list[int]] = {}
    for concept in collection.concepts:
        for segment in concept.segments:
            wanted.setdefault(segment.photo, []).append(concept.id)
    missing = [photo for photo in wanted if photo not in thumbnails]
    if missing:
        raise DataError(f"{missing[0]} has segments and no thumbnail; expected one for each photo that is shown")
    side = _side(wanted, thumbnails)
    pictures = {photo: _picture(photo, thumbnails[photo], ids, side) for photo, ids in wanted.items()}
    numbers = {photo: i for i, photo in enumerate(pictures)}
    return {
        "format": naming.FORMAT,
        "checkpoint": collection.checkpoint,
        "names": names.to_dict() if names else None,
        "salt": hashed_colors.SALT,
        "lightness": hashed_colors.LIGHTNESS,
        "chroma": hashed_colors.CHROMA,
        "photos": [{k: v for k, v in picture.items() if k != "parts"} for picture in pictures.values()],
        "carried_from": collection.carried_from,
        "merges": [[m.one, m.other, m.strength] for m in collection.merges],
        "concepts": [
            {
                "name": concept.name,
                "color": concept.color,
                "share": concept.share,
                "photos": concept.num_photos,
                "confidence": concept.confidence,
                "near": concept.near,
                "together": concept.together,
                "carried": (c := concept.carried) and [c.name, c.confidence, c.is_majority],
                "segments": [
                    [numbers[s.photo], round(s.score, 4), *pictures[s.photo]["parts"][concept.id]]
                    for s in concept.segments
                ],
            }
            for concept in collection.concepts
        ],
    }


def outline(mask: NDArray[np.bool_]) -> tuple[str, list[int]]:
    """The outlines of a mask's largest parts and their holes.

    Args:
        mask: Mask ``(h, w)``.

    Returns:
        An SVG path to be filled by the rule ``evenodd``, and the box of what the mask covers: left, top, right and
        bottom. If it covers nothing, the box is the whole picture.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    largest = sorted(contours, key=len, reverse=True)[:MAX_PARTS]
    drawn = [cv2.approxPolyDP(contour, TOLERANCE, True)[:, 0] for contour in largest]
    last = np.array(mask.shape[::-1]) - 1  # outlines go through the middle of pixels, but along the picture's edges
    drawn = [points + (points == last) for points in drawn]
    path = "".join("M" + " ".join(f"{x} {y}" for x, y in points.tolist()) + "z" for points in drawn)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return "", [0, 0, mask.shape[1], mask.shape[0]]
    return path, [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _side(wanted: Mapping[str, Sequence[int]], thumbnails: Mapping[str, Thumbnail]) -> int:
    """The largest side at which all pictures are likely to fit the page, judged by a sample."""
    photos = list(wanted)
    sample = [(photo, thumbnails[photo]) for photo in photos[:: -(-len(photos) // SAMPLE) or 1]]
    for side in SIDES:
        size = sum(len(json.dumps(_picture(photo, shown, wanted[photo], side))) for photo, shown in sample)
        if size * len(photos) <= MAX_PICTURE_BYTES * max(1, len(sample)):
            return side
    return SIDES[-1]


def _picture(photo: str, thumbnail: Thumbnail, prototypes: Sequence[int], side: int) -> dict[str, Any]:
    """A photo, scaled to a longer side, with the outlines of some prototypes, JSON-ready."""
    height, width = thumbnail.image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(thumbnail.image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return {
        "name": photo,
        "width": size[0],
        "height": size[1],
        "uri": picture_uri(image, _FORM, quality=QUALITY),
        "parts": {k: outline(_small(thumbnail.prototype_map == k, size)) for k in prototypes},
    }


def _small(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask scaled to a size (width, height): true where it covers half of a pixel, or else the most."""
    cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small: NDArray[np.bool_] = cover >= min(0.5, max(float(cover.max()), 1e-6))
    return small


def _script_json(values: Any) -> str:
    """JSON that a script element can hold whatever is in its strings."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
