"""Look once at all photos of a collection and gather what the prototypes of a run stand for.

Letters: K prototypes, H W pixels, h w feature cells.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from slotseg.concepts.collection import (
    THUMBNAIL_SIDE,
    BoxXYXY,
    Collection,
    Concept,
    Merge,
    Related,
    Segment,
    Thumbnail,
)
from slotseg.concepts.retrieval import BestSegment, Occurrences
from slotseg.data.finding.inputs import Input
from slotseg.data.reading.images import MAX_PIXELS
from slotseg.data.reading.windows import Windows
from slotseg.errors import none_readable
from slotseg.files import note_failure
from slotseg.labels.label_map import IGNORE_16, palette
from slotseg.method.merging import IN_VIEWS, SIZE_EXPONENT
from slotseg.segment_config import ReadingConfig
from slotseg.segmenting.scorer import Scorer, rgb_size
from slotseg.segmenting.segmenter import Segmenter
from slotseg.segmenting.streaming import Missing, Pixels, stream
from slotseg.segmenting.upsampling import best_prototypes

LARGEST = 2048
"""Longer side to which photos that are read in windows are reduced, pixels."""
RELATED = 5
"""Number of close prototypes that are kept of each, and of prototypes that occur with it."""


@dataclass(frozen=True, kw_only=True)
class CollectResult:
    """The concepts of a collection, and the pictures to show them with."""

    collection: Collection
    thumbnails: Mapping[str, Thumbnail]
    """Thumbnails of the photos of the best segments, by photo."""
    num_failures: int
    """Number of photos that could not be read."""


def collect(
    segmenter: Segmenter,
    photos: Iterable[Input],
    *,
    failures: Path,
    run: str,
    checkpoint: str,
    keep: int = 5,
    batch_size: int = 8,
    max_pixels: int = MAX_PIXELS,
    total: int | None = None,
    observe: Callable[[NDArray[np.uint8], NDArray[np.uint16]], None] | None = None,
) -> CollectResult:
    """Gather the concepts of a collection. Memory does not grow with the number of photos.

    Args:
        segmenter: Segmenter with the run's network.
        photos: Photos of the collection.
        failures: File for photos that cannot be read.
        run: Name of the run, for people.
        checkpoint: Start of the checkpoint's SHA-256.
        keep: Number of best segments that are kept of each prototype.
        batch_size: Most photos that the network sees at once.
        max_pixels: Most pixels of a photo. Larger ones are left out.
        total: Number of photos, for the progress bar.
        observe: Function called with each photo as it is seen, RGB ``(H, W, 3)``, and its prototype map ``(H, W)``.
            Huge photos are seen reduced.

    Raises:
        DataError: If none of the photos can be read.
    """
    assigned = segmenter.encoder.decoder is not None
    temperature = None if assigned else segmenter.config.model.teacher_temperature
    occurrences = Occurrences[_SegmentPicture](segmenter.encoder.num_concepts, temperature, keep)
    num_failures, first_failure = 0, ""
    results = stream(_PhotoReader(segmenter.scorer), photos, batch_size, max_pixels)
    for result in tqdm(results, total=total, unit="photo", desc="looking", disable=None):
        assert isinstance(result.photo, Input)
        if result.error:
            num_failures, first_failure = num_failures + 1, first_failure or result.error
            note_failure(failures, result.photo.name, result.error)
        else:
            assert result.segmentation is not None
            if observe:
                observe(result.segmentation.image, result.segmentation.prototype_map)
            occurrences.add(result.photo.file_name, result.segmentation.seen, result.segmentation.kept)
    if num_failures and not occurrences.num_photos:
        raise none_readable(num_failures, first_failure, failures)
    vectors = segmenter.encoder.concept_vectors().cpu().numpy()
    return CollectResult(
        collection=Collection(
            run=run,
            checkpoint=checkpoint,
            num_photos=occurrences.num_photos,
            concepts=_concepts(occurrences, vectors),
            merges=suggested_merges(occurrences.assigned),
        ),
        thumbnails=_Thumbnails(occurrences.best),
        num_failures=num_failures,
    )


def suggested_merges(assigned: NDArray[np.floating[Any]]) -> tuple[Merge, ...]:
    """Find pairs that confuse each other more than any other, and so much that training would have merged them.

    Measure and bound are those of ``slotseg.method.merging``. The confusion is here the mean of both directions.

    Args:
        assigned: Assignment to all prototypes of the cells that prototype i wins, in row i, as in ``Occurrences``,
            ``(K, K)``.

    Returns:
        Merges, the strongest first.
    """
    pairs = (assigned + assigned.T).astype(np.float64)
    pairs /= max(pairs.sum(), 1e-12)
    size = np.maximum(pairs.sum(axis=1), 1e-12) ** SIZE_EXPONENT
    closeness = pairs / np.outer(size, size)
    np.fill_diagonal(closeness, 0)
    closest = closeness.argmax(axis=1)
    merges = [
        Merge(one=i, other=int(j), strength=float(closeness[i, j]))
        for i, j in enumerate(closest)
        if i < j and closest[j] == i and closeness[i, j] >= IN_VIEWS
    ]
    return tuple(sorted(merges, key=lambda merge: -merge.strength))


@dataclass(frozen=True, kw_only=True, eq=False)
class _SegmentPicture:
    """The picture of a segment among the best."""

    pixels: int
    box_xyxy: BoxXYXY
    photo: "_SmallPhoto"


@dataclass(frozen=True, kw_only=True, eq=False)
class _SmallPhoto:
    """A small photo and its prototype map, compressed, as there may be ten thousand."""

    image: bytes
    prototype_map: bytes

    @classmethod
    def of(cls, image: NDArray[np.uint8], prototype_map: NDArray[np.uint16]) -> "_SmallPhoto":
        return cls(image=_encoded(image, "JPEG", quality=90), prototype_map=_encoded(prototype_map, "PNG"))

    def thumbnail(self) -> Thumbnail:
        image, prototype_map = (np.array(Image.open(io.BytesIO(c))) for c in (self.image, self.prototype_map))
        return Thumbnail(image=image, prototype_map=prototype_map.astype(np.uint16))


@dataclass(kw_only=True, eq=False)
class _PhotoMaps:
    """The scores and the prototype map of one photo."""

    scores: Tensor
    """Cosines of the cells that the photo covers, ``(K, h, w)``."""
    seen: Tensor
    """Those of the cells that are picture, ``(K, h, w)`` or ``(K, cells, 1)``."""
    image: NDArray[np.uint8]
    prototype_map: NDArray[np.uint16]
    factor: float
    """Number of the photo's pixels along a side of one pixel of ``image``."""
    packed: list[_SmallPhoto] = field(default_factory=list)
    """The small photo, once it is asked for."""

    def kept(self, prototype: int) -> _SegmentPicture:
        """The picture that is kept of a prototype's segment."""
        mask = self.prototype_map == prototype
        if not mask.any():  # the colours of the photo have taken it all
            cells = (self.scores.argmax(dim=0) == prototype).cpu().numpy().astype(np.uint8)
            mask = cv2.resize(cells, mask.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
        if not self.packed:
            self.packed.append(_SmallPhoto.of(_small(self.image), _small(self.prototype_map)))
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top, right, bottom = (
            round(self.factor * int(edge)) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        )
        pixels = round(int(mask.sum()) * self.factor**2)
        return _SegmentPicture(pixels=pixels, box_xyxy=(left, top, right, bottom), photo=self.packed[0])


class _PhotoReader:
    """Makes maps from scores. See ``slotseg.segmenting.streaming.Computing``."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.batch_scores = scorer, scorer.batch_scores

    def segmentation(
        self, image: Pixels, scores: Tensor, covered: tuple[float, float], missing: Missing = None, factor: float = 1.0
    ) -> _PhotoMaps:
        prototype_map = best_prototypes(*self.scorer.follow_edges(image, scores, covered), rgb_size(image))
        height, width = (math.ceil(cells) for cells in covered)
        seen = scores = scores[:, :height, :width]
        if missing is not None:
            prototype_map[missing] = IGNORE_16
            shares = cv2.resize(missing.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
            seen = scores[:, torch.from_numpy(shares < 0.5).to(scores.device)][:, :, None]
        return _PhotoMaps(scores=scores, seen=seen, image=image, prototype_map=prototype_map, factor=factor)

    @property
    def reading(self) -> ReadingConfig:
        return self.scorer.config.reading

    def tiled(self, _: tuple[int, int]) -> bool:
        return False

    def segment_windows(self, windows: Windows) -> _PhotoMaps:
        image = windows.reduced(LARGEST)
        missing = windows.reduced_missing(*image.shape[:2])
        scores, covered = self.scorer.scores(image)
        return self.segmentation(image, scores, covered, missing, max(windows.size_hw) / max(image.shape[:2]))


class _Thumbnails(Mapping[str, Thumbnail]):
    """The small photos of segments, unpacked when they are asked for."""

    def __init__(self, best: Sequence[Sequence[BestSegment[_SegmentPicture]]]) -> None:
        self._packed = {found.name: found.picture.photo for segments in best for found in segments}

    def __getitem__(self, name: str) -> Thumbnail:
        return self._packed[name].thumbnail()

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def _concepts(occurrences: Occurrences[_SegmentPicture], vectors: NDArray[np.float32]) -> tuple[Concept, ...]:
    number, seen = len(vectors), max(occurrences.num_photos, 1)
    cosines = vectors @ vectors.T
    colors = palette(number)
    concepts = []
    for k, best in enumerate(occurrences.best):
        photos = int(occurrences.photos[k])
        together = occurrences.together[k] / max(photos, 1)
        concepts.append(
            Concept(
                id=k,
                name=f"prototype {k}",
                color=colors[k],
                share=float(occurrences.shares[k] / seen),
                num_photos=photos,
                confidence=float(occurrences.assigned[k, k] / photos) if photos else None,
                near=_largest(cosines[k], k),
                together=_largest(together, k),
                segments=tuple(
                    Segment(photo=f.name, score=f.score, pixels=f.picture.pixels, box_xyxy=f.picture.box_xyxy)
                    for f in best
                ),
            )
        )
    return tuple(concepts)


def _largest(values: NDArray[Any], but: int) -> tuple[Related, ...]:
    order = [int(k) for k in np.argsort(-values, kind="stable") if k != but and values[k] > 0]
    return tuple((k, float(values[k])) for k in order[:RELATED])


def _small(picture: NDArray[Any]) -> NDArray[Any]:
    """A photo or map as large as the page may show it."""
    scale = THUMBNAIL_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    how = cv2.INTER_AREA if picture.ndim == 3 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=how))


def _encoded(picture: NDArray[Any], form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()
