"""What a run finds in a collection of photos: its concepts, their best segments, and ``concepts.json``.

A concept is a prototype, or several that were merged, seen over many photos. Letters: K prototypes, h w pixels.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.errors import DataError
from slotseg.files import write_json, writing
from slotseg.labels.label_map import Color

FORMAT = 1
"""Version of the file's format."""

BoxXYXY = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, right and bottom excluded."""
Related = tuple[int, float]
"""A prototype and how strongly it is related, 0..1."""
THUMBNAIL_SIDE = 320
"""Pixels along the longer side of a thumbnail; pages show none larger."""


@dataclass(frozen=True, kw_only=True)
class ConceptFiles:
    """The files in a folder of concepts."""

    folder: Path
    """Folder of the files."""

    @property
    def page(self) -> Path:
        """The page to name concepts on."""
        return self.folder / "index.html"

    @property
    def data(self) -> Path:
        """The concepts as JSON."""
        return self.folder / "concepts.json"

    @property
    def names(self) -> Path:
        """Names that were carried from another run."""
        return self.folder / "names.json"

    @property
    def figure(self) -> Path:
        """Columns of the best segments, where no other path is given."""
        return self.folder / "figure.png"

    @property
    def failures(self) -> Path:
        """Photos that could not be read."""
        return self.folder / "failures.jsonl"


@dataclass(frozen=True, kw_only=True, eq=False)
class Thumbnail:
    """A small photo with its segmentation."""

    image: NDArray[np.uint8]
    """RGB, ``(h, w, 3)``. Pages show at most ``THUMBNAIL_SIDE`` pixels a side."""
    prototype_map: NDArray[np.integer[Any]]
    """Prototype map, ``(h, w)``."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The pixels that a prototype wins in one photo."""

    photo: str
    """Name of the photo, unique in the collection."""
    score: float
    """Mean cosine of the pixels and the prototype."""
    pixels: int
    """Number of pixels."""
    box_xyxy: BoxXYXY
    """Box around all of them, in the photo's own pixels."""


@dataclass(frozen=True, kw_only=True)
class CarriedName:
    """The name that most pixels of a prototype had in another run."""

    name: str | None
    """Name, or None if they were ignored."""
    confidence: float
    """Share of its pixels that had this name, 0..1."""

    @property
    def is_majority(self) -> bool:
        """Whether more than half of its pixels had this name, so that the prototype takes it."""
        return self.confidence > 0.5


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A prototype over a collection."""

    id: int
    """Number of the prototype, as in prototype maps."""
    name: str
    """Name so far, such as ``prototype 3``."""
    color: Color
    """Colour of the prototype in masks without names."""
    share: float
    """Share of all pixels, 0..1."""
    num_photos: int
    """Number of photos in which it wins a pixel."""
    confidence: float | None
    """Mean confidence of its pixels, 0..1. None where it wins none, or where that was not asked for."""
    near: tuple[Related, ...] = ()
    """Prototypes closest to it, with their cosine, the closest first."""
    together: tuple[Related, ...] = ()
    """Prototypes that occur in its photos most often, with the share of its photos, the most frequent first."""
    segments: tuple[Segment, ...] = ()
    """Segments that are its best, the best first."""
    carried: CarriedName | None = None
    """Carried name. None where no names were carried, or most of its pixels had none."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Two prototypes that may be one concept."""

    one: int
    other: int
    strength: float
    """Strength of their confusion, 0 or more. Pairs of 0.8 and more are suggested."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The concepts of a run over a collection of photos.

    Raises:
        DataError: If the concepts are not numbered 0 to K - 1, or a number elsewhere is none of theirs.
    """

    run: str
    """Name of the run, for people."""
    checkpoint: str
    """Start of the checkpoint's SHA-256, as from ``slotseg.runs.checkpoint.digest``."""
    num_photos: int
    """Number of photos that were read."""
    concepts: tuple[Concept, ...]
    """Concept of each prototype, length K, by id."""
    merges: tuple[Merge, ...] = ()
    """Suggested merges, the strongest first."""
    carried_from: str | None = None
    """Name of the run whose names were carried to this one, for people."""

    def __post_init__(self) -> None:
        """Check the numbers of the prototypes."""
        number = len(self.concepts)
        if [c.id for c in self.concepts] != list(range(number)):
            raise DataError(f"concepts are not numbered 0 to {number - 1}; expected one for each prototype, in order")
        mentioned = [other for c in self.concepts for other, _ in (*c.near, *c.together)]
        mentioned += [prototype for m in self.merges for prototype in (m.one, m.other)]
        wrong = [p for p in mentioned if not 0 <= p < number]
        if wrong:
            raise DataError(f"concepts mention prototype {wrong[0]}; expected 0 to {number - 1}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, as ``docs/concepts.md`` describes them."""
        return {
            "format": FORMAT,
            "run": self.run,
            "checkpoint": self.checkpoint,
            "num_photos": self.num_photos,
            "num_prototypes": len(self.concepts),
            "carried_from": self.carried_from,
            "concepts": [_concept_dict(c) for c in self.concepts],
            "merges": [{"one": m.one, "other": m.other, "strength": _short(m.strength)} for m in self.merges],
        }

    @classmethod
    def from_dict(cls, values: Any, where: str = "the concepts") -> "Collection":
        """The inverse of ``to_dict``.

        Raises:
            DataError: If a value is missing or doesn't fit. ``where`` names the file in the message.
        """
        try:
            if values["format"] != FORMAT:
                raise DataError(f"{where} is of format {values['format']}; expected {FORMAT}: make it again")
            return cls(
                run=str(values["run"]),
                checkpoint=str(values["checkpoint"]),
                num_photos=int(values["num_photos"]),
                concepts=tuple(_concept(c) for c in values["concepts"]),
                merges=tuple(
                    Merge(one=int(m["one"]), other=int(m["other"]), strength=float(m["strength"]))
                    for m in values["merges"]
                ),
                carried_from=None if values.get("carried_from") is None else str(values["carried_from"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{where} is no concepts.json ({error!r}); expected what slotseg concepts writes"
            ) from error


def write_concepts(file: Path, collection: Collection) -> None:
    """Write a collection as ``concepts.json``, atomically.

    Raises:
        DataError: If the file cannot be written.
    """
    with writing(file):
        write_json(file, collection.to_dict())


def read_concepts(file: Path) -> Collection:
    """Read a ``concepts.json``.

    Raises:
        DataError: If the file is missing or is no ``concepts.json``.
    """
    try:
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); expected a concepts.json") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON ({error}); expected a concepts.json") from error
    return Collection.from_dict(values, str(file))


def _concept_dict(concept: Concept) -> dict[str, Any]:
    return {
        "id": concept.id,
        "name": concept.name,
        "color": list(concept.color),
        "share": _short(concept.share),
        "num_photos": concept.num_photos,
        "confidence": None if concept.confidence is None else _short(concept.confidence),
        "near": [[other, _short(cosine)] for other, cosine in concept.near],
        "together": [[other, _short(share)] for other, share in concept.together],
        "segments": [
            {"photo": s.photo, "score": _short(s.score), "pixels": s.pixels, "box": list(s.box_xyxy)}
            for s in concept.segments
        ],
        "carried": concept.carried and {"name": concept.carried.name, "confidence": _short(concept.carried.confidence)},
    }


def _concept(values: Mapping[str, Any]) -> Concept:
    red, green, blue = values["color"]
    return Concept(
        id=int(values["id"]),
        name=str(values["name"]),
        color=(int(red), int(green), int(blue)),
        share=float(values["share"]),
        num_photos=int(values["num_photos"]),
        confidence=None if values["confidence"] is None else float(values["confidence"]),
        near=tuple((int(other), float(cosine)) for other, cosine in values["near"]),
        together=tuple((int(other), float(share)) for other, share in values["together"]),
        segments=tuple(_segment(s) for s in values["segments"]),
        carried=None if values.get("carried") is None else _carried(values["carried"]),
    )


def _carried(values: Mapping[str, Any]) -> CarriedName:
    name = values["name"]
    return CarriedName(name=None if name is None else str(name), confidence=float(values["confidence"]))


def _segment(values: Mapping[str, Any]) -> Segment:
    left, top, right, bottom = values["box"]
    return Segment(
        photo=str(values["photo"]),
        score=float(values["score"]),
        pixels=int(values["pixels"]),
        box_xyxy=(int(left), int(top), int(right), int(bottom)),
    )


def _short(value: float) -> float:
    """A value to six digits, which are enough to sort by."""
    return float(f"{value:.6g}")
