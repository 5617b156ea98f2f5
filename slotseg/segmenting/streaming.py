"""Many photos one after another: reading, computing and painting overlap, and photos of one size are batched.

Three stages pass photos on: threads read files ahead, the caller's thread runs the network on batches, and
threads upsample and paint. On a CPU of few cores the network and painting take turns. Results come in the
order of the photos, and no more than a few batches are held.
A photo that is huge or seen in tiles is not held: it is read in windows, between the others.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slotseg.data.finding.inputs import Input
from slotseg.data.reading.images import MAX_PIXELS, split_missing
from slotseg.data.reading.notes import shown
from slotseg.data.reading.windows import Windows
from slotseg.errors import DataError
from slotseg.segment_config import ReadingConfig

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

READERS = 2
"""Number of threads that read files; as many paint."""
AHEAD = 2
"""Batches that are read ahead of the one that is computed."""
PIXELS_AHEAD = 1 << 26
"""Pixels of photos that are held at once; a larger photo is read in windows."""

Pixels = NDArray[np.uint8]
Missing = NDArray[np.bool_] | None
"""Pixels of a photo that are no picture, ``(H, W)``; None: all are picture."""


class BatchSegmenter(Protocol[T_co]):
    """Interface of a segmenter for photos; see ``slotseg.segmenting.segmenter.Segmenter``."""

    @property
    def reading(self) -> ReadingConfig:
        """Bands and range that photos are read with."""

    def batch_scores(self, images: Sequence[Pixels], /) -> tuple[Tensor, tuple[float, float]]:
        """Scores ``(B, K, h, w)`` of images of one size, and the number of cells that each covers."""

    def segmentation(self, image: Pixels, scores: Tensor, covered: tuple[float, float], missing: Missing, /) -> T_co:
        """The maps of an image from its own scores, and its pixels that are no picture."""

    def tiled(self, size_hw: tuple[int, int], /) -> bool:
        """Whether a photo of that size is seen in tiles, and so read in windows."""

    def segment_windows(self, windows: Windows, /) -> T_co:
        """The maps of a photo that is read in windows."""


@dataclass(frozen=True, kw_only=True)
class StreamResult(Generic[T]):
    """Result for one photo: ``segmentation`` and ``image`` or ``windows``, or an ``error``."""

    photo: str | Path | Input
    """The photo as it was given."""
    image: Pixels | None = None
    """RGB, ``(H, W, 3)``, upright."""
    windows: Windows | None = None
    """The photo in windows, in place of ``image`` where that would be huge."""
    segmentation: T | None = None
    """Maps of the whole photo."""
    notes: tuple[str, ...] = ()
    """Notes on what was left out of the file or changed, such as ``the first of 5 pages``."""
    error: str | None = None
    """Sentence that says why the photo could not be read."""


@dataclass(frozen=True)
class _Content:
    """Content of a file that was read."""

    pixels: Pixels | None
    missing: Missing
    windows: Windows | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Job(Generic[T]):
    """A photo on its way."""

    photo: str | Path | Input
    size: int
    """Number of pixels, by the header of its file; 0 where that cannot be read."""
    read: Future[_Content]
    done: list[Future[T]] = field(default_factory=list)
    """Painting of the photo; empty until the network has seen it."""

    def error(self) -> str | None:
        """Sentence on what is wrong with the file, or None; waits for what was begun."""
        steps: tuple[Future[Any], ...] = (self.read, *self.done)
        for step in steps:
            error = step.exception()
            if error is not None and not isinstance(error, DataError):
                raise error
            if error is not None:
                return str(error)
        return None

    def shape(self) -> tuple[int, ...] | None:
        """Shape of the pixels, ``(H, W, 3)``; None for a huge photo."""
        pixels = self.read.result().pixels
        return None if pixels is None else pixels.shape

    def pixels(self) -> Pixels:
        """Pixels of a photo that is not huge, ``(H, W, 3)``."""
        pixels = self.read.result().pixels
        assert pixels is not None
        return pixels

    def missing(self) -> Missing:
        """Pixels that are no picture."""
        return self.read.result().missing


def stream(
    segmenter: BatchSegmenter[T], photos: Iterable[str | Path | Input], batch_size: int, max_pixels: int = MAX_PIXELS
) -> Iterator[StreamResult[T]]:
    """Segment photos one after another; see ``Segmenter.stream``."""
    waiting = iter(photos)
    jobs: deque[_Job[T]] = deque()
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(READERS) as painters:
        try:
            while True:
                while len(jobs) < (1 + AHEAD) * batch_size and sum(job.size for job in jobs) < PIXELS_AHEAD:
                    photo = next(waiting, None)
                    if photo is None:
                        break
                    source = photo if isinstance(photo, Input) else _input(Path(photo))
                    height, width = source.size_hw()
                    in_windows = height * width > PIXELS_AHEAD or (height > 0 and segmenter.tiled((height, width)))
                    read = readers.submit(_read, source, max_pixels, segmenter.reading, in_windows)
                    jobs.append(_Job(photo, height * width, read))
                if not jobs:
                    return
                if jobs[0].error() is None and not jobs[0].done:
                    _compute(segmenter, jobs, batch_size, painters)
                yield _result(jobs.popleft())
        finally:
            for job in jobs:
                job.read.cancel()


def _input(photo: Path) -> Input:
    return Input(source=photo, relative=Path(photo.stem), name=shown(photo))


def _read(photo: Input, max_pixels: int, reading: ReadingConfig, in_windows: bool) -> _Content:
    if in_windows:
        windows = photo.windows(max_pixels, reading)
        return _Content(None, None, windows, windows.notes)
    pixels, notes = photo.read(max_pixels, reading)
    return _Content(*split_missing(pixels), None, notes)


def _compute(segmenter: BatchSegmenter[T], jobs: deque[_Job[T]], batch_size: int, painters: ThreadPoolExecutor) -> None:
    """Run the network on the first photo and those soon after it that are of its size, and have them painted."""
    shape, batch = jobs[0].shape(), list[_Job[T]]()
    if shape is None:
        jobs[0].done.append(_tried(segmenter.segment_windows, jobs[0].read.result().windows))
        return
    for job in islice(jobs, AHEAD * batch_size):  # those behind are still being read
        if len(batch) < batch_size and not job.done and job.error() is None and job.shape() == shape:
            batch.append(job)
    scores, covered = segmenter.batch_scores([job.pixels() for job in batch])
    for job, its_scores in zip(batch, scores, strict=True):
        job.done.append(painters.submit(segmenter.segmentation, job.pixels(), its_scores, covered, job.missing()))
    if scores.device.type == "cpu" and torch.get_num_threads() <= READERS:
        wait([job.done[0] for job in batch])  # the next batch, on all cores itself, would only wait for one of them


def _tried(function: Callable[[Windows], T], windows: Windows | None) -> Future[T]:
    """The outcome of a call that is made at once. A file that is damaged further down shows here."""
    assert windows is not None
    future = Future[T]()
    try:
        future.set_result(function(windows))
    except DataError as error:
        future.set_exception(error)
    return future


def _result(job: _Job[T]) -> StreamResult[T]:
    error = job.error()
    if error is not None:
        return StreamResult(photo=job.photo, error=error)
    content = job.read.result()
    return StreamResult(
        photo=job.photo,
        image=content.pixels,
        windows=content.windows,
        segmentation=job.done[0].result(),
        notes=content.windows.notes if content.windows else content.notes,
    )
