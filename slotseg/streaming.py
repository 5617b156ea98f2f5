"""Many photos one after another: reading, computing and painting overlap, and photos of one size are batched.

Three stages pass photos on: threads read files ahead, the caller's thread runs the network on batches, and
threads upsample and paint. Results come in the order of the photos, and no more than a few batches are held.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slotseg.data.images import image_size
from slotseg.data.photos import open_photo
from slotseg.errors import DataError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

READERS = 2
"""Threads that read files, and as many that paint."""
AHEAD = 2
"""Batches that are read ahead of the one that is computed."""
PIXELS_AHEAD = 1 << 26
"""Pixels of photos that are held at once, or one photo where that is larger."""

Pixels = NDArray[np.uint8]


class Computing(Protocol[T_co]):
    """What a segmenter does with photos; see ``slotseg.segmenter.Segmenter``."""

    def batch_scores(self, images: Sequence[Pixels], /) -> tuple[Tensor, tuple[float, float]]:
        """Scores ``(B, K, h, w)`` of images of one size, and how many cells each covers."""

    def segmentation(self, image: Pixels, scores: Tensor, covered: tuple[float, float], /) -> T_co:
        """The maps of an image from its own scores."""


@dataclass(frozen=True, kw_only=True)
class Streamed(Generic[T]):
    """What became of one photo: either ``image`` and ``segmentation``, or ``error``."""

    photo: Path
    """Its file."""
    image: Pixels | None = None
    """RGB, ``(H, W, 3)``, upright."""
    segmentation: T | None = None
    """Of every pixel of it."""
    error: str | None = None
    """Why it could not be read, a sentence."""


@dataclass(frozen=True)
class _Job(Generic[T]):
    """A photo on its way."""

    photo: Path
    size: int
    """Pixels, by the header of its file; 0 where that cannot be read."""
    read: Future[Pixels]
    done: list[Future[T]] = field(default_factory=list)
    """The painting, once the network has seen it."""

    def error(self) -> str | None:
        """What is wrong with the file; waits until it is read."""
        error = self.read.exception()
        if error is not None and not isinstance(error, DataError):
            raise error
        return None if error is None else str(error)


def stream(segmenter: Computing[T], photos: Iterable[str | Path], batch_size: int) -> Iterator[Streamed[T]]:
    """As ``Segmenter.stream``."""
    waiting = map(Path, photos)
    jobs: deque[_Job[T]] = deque()
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(READERS) as painters:
        try:
            while True:
                while len(jobs) < (1 + AHEAD) * batch_size and sum(job.size for job in jobs) < PIXELS_AHEAD:
                    photo = next(waiting, None)
                    if photo is None:
                        break
                    jobs.append(_Job(photo, _size(photo), readers.submit(_read, photo)))
                if not jobs:
                    return
                if jobs[0].error() is None and not jobs[0].done:
                    _compute(segmenter, jobs, batch_size, painters)
                yield _result(jobs.popleft())
        finally:
            for job in jobs:
                job.read.cancel()


def _size(photo: Path) -> int:
    try:
        height, width = image_size(photo)
    except DataError:  # is said when it is read
        return 0
    return height * width


def _read(photo: Path) -> Pixels:
    return open_photo(photo).pixels()


def _compute(segmenter: Computing[T], jobs: deque[_Job[T]], batch_size: int, painters: ThreadPoolExecutor) -> None:
    """Run the network on the first photo and those soon after it that are of its size, and have them painted."""
    shape, batch = jobs[0].read.result().shape, list[_Job[T]]()
    for job in islice(jobs, AHEAD * batch_size):  # those behind are still being read
        if len(batch) < batch_size and not job.done and job.error() is None and job.read.result().shape == shape:
            batch.append(job)
    scores, covered = segmenter.batch_scores([job.read.result() for job in batch])
    for job, its_scores in zip(batch, scores, strict=True):
        job.done.append(painters.submit(segmenter.segmentation, job.read.result(), its_scores, covered))


def _result(job: _Job[T]) -> Streamed[T]:
    error = job.error()
    if error is not None:
        return Streamed(photo=job.photo, error=error)
    return Streamed(photo=job.photo, image=job.read.result(), segmentation=job.done[0].result())
