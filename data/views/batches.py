"""The stream of view pairs that training draws from a source of photos.

Every random choice is a pure function of seed, epoch and photo. So neither the number of workers nor an interruption
changes the batches of a run. Letters: B photos of a batch, S side of a view in pixels.
"""

import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from slotseg.config import ViewsConfig
from slotseg.data.views.crops import ViewPair, make_views
from slotseg.data.views.sources import Source
from slotseg.errors import DataError

MAX_UNREADABLE_IN_A_ROW = 100
WHOLE = slice(None)


@dataclass(frozen=True, kw_only=True)
class ViewBatch:
    """A batch of view pairs. Index 0 is view 1."""

    images: tuple[Tensor, Tensor]
    """RGB views, uint8, each ``(B, 3, S, S)``."""
    overlap_boxes: tuple[Tensor, Tensor]
    """Overlap boxes, xyxy in [0, 1] of the view, each ``(B, 4)``."""
    flips: tuple[Tensor, Tensor]
    """Whether the view is mirrored left-right, boolean, each ``(B,)``."""
    unreadable: tuple[str, ...] = ()
    """Messages of unreadable photos, which other photos replaced."""

    def pin_memory(self) -> "ViewBatch":
        """Copy of the batch in pinned memory. The loader calls this."""
        return self._map(Tensor.pin_memory)

    def to(self, device: torch.device) -> "ViewBatch":
        """Copy of the batch on a device."""
        return self._map(lambda t: t.to(device, non_blocking=True))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "ViewBatch":
        def both(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return function(pair[0]), function(pair[1])

        return replace(
            self,
            images=both(self.images),
            overlap_boxes=both(self.overlap_boxes),
            flips=both(self.flips),
        )


@dataclass(frozen=True, kw_only=True)
class _Sample:
    views: ViewPair
    unreadable: tuple[str, ...]


class ViewPairs(Dataset[_Sample | DataError]):
    """View pairs of a source, by keys (epoch, photo)."""

    def __init__(self, source: Source, config: ViewsConfig, seed: int, workers: int = 0) -> None:
        self.source, self.config, self.seed = source, config, seed
        self.in_hand = torch.zeros(workers, 2, dtype=torch.int64)  # process id and photo of each
        self.in_hand.share_memory_()  # type: ignore[no-untyped-call]

    def __getitem__(self, key: tuple[int, int]) -> _Sample | DataError:
        """View pair of a photo in an epoch. The next readable photo replaces an unreadable one.

        Photos are counted round and round: ``index`` and ``index + len(source)`` are different crops of one photo.
        If no photo can be read, the error is returned. Raised in a worker, it would reach the user as a traceback.
        """
        epoch, index = key
        errors: list[str] = []
        worker = get_worker_info()
        for offset in range(min(len(self.source), MAX_UNREADABLE_IN_A_ROW)):
            if worker is not None:
                self.in_hand[worker.id] = torch.tensor((os.getpid(), (index + offset) % len(self.source)))
            rng = np.random.default_rng([self.seed, epoch, index])
            try:
                views = make_views(self.source.open((index + offset) % len(self.source)), self.config, rng)
            except DataError as error:
                errors.append(str(error))
            else:
                return _Sample(views=views, unreadable=tuple(errors))
        return DataError(
            f"{len(errors)} photos in a row could not be read; expected readable ones: check the folder. "
            f"The first: {errors[0]}"
        )


class Batches(Sampler[list[tuple[int, int]]]):
    """Keys (epoch, photo) of every batch from ``first_step`` to ``total_steps``.

    Each epoch is a permutation that depends on seed and epoch only. Photos that do not fill a batch are left out. If
    there are fewer photos than a batch holds, photos repeat: they are counted on from ``num_photos``, so that each
    time they are cropped differently.

    ``part`` is the slice of every batch that this process takes. Several processes together draw the batches of one.
    """

    def __init__(
        self,
        num_photos: int,
        batch_size: int,
        seed: int,
        first_step: int,
        total_steps: int,
        part: slice = WHOLE,
    ) -> None:
        self.num_photos, self.batch_size, self.seed, self.part = num_photos, batch_size, seed, part
        self.first_step, self.total_steps = first_step, total_steps

    def __len__(self) -> int:
        return self.total_steps - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = steps_per_epoch(self.num_photos, self.batch_size)
        order, ordered_epoch = np.empty(0, np.int64), -1
        for step in range(self.first_step, self.total_steps):
            epoch, batch = divmod(step, per_epoch)
            if epoch != ordered_epoch:
                order, ordered_epoch = self._order(epoch), epoch
            start = batch * self.batch_size
            yield [(epoch, int(i)) for i in order[start : start + self.batch_size][self.part]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, epoch])
        rounds = -(-self.batch_size // self.num_photos)
        return np.concatenate([rng.permutation(self.num_photos) + r * self.num_photos for r in range(rounds)])


def steps_per_epoch(num_photos: int, batch_size: int) -> int:
    """Number of whole batches in a pass over the photos, at least one."""
    return max(1, num_photos // batch_size)


def view_batches(
    source: Source,
    config: ViewsConfig,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    total_steps: int,
    workers: int,
    part: slice = WHOLE,
    pin_memory: bool = False,
) -> Iterator[ViewBatch]:
    """Stream the batches of a run from ``first_step`` on, or the slice ``part`` of each.

    Raises:
        DataError: If none of many photos in a row can be read, or a loader process dies.
    """
    pairs = ViewPairs(source, config, seed, workers)
    batches: DataLoader[Any] = DataLoader(
        pairs,
        batch_sampler=Batches(len(source), batch_size, seed, first_step, total_steps, part),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_quiet_worker,
        pin_memory=pin_memory,
    )
    with _deaths_told_by_next():
        stream = iter(batches)
    processes = multiprocessing.active_children()
    while True:
        try:
            batch = next(stream, None)
        except (RuntimeError, OSError, EOFError) as error:  # OSError: what a process has sent died with it
            raise _death(pairs, processes) or error from error
        if batch is None:
            return
        if isinstance(batch, DataError):
            raise batch
        yield batch


@contextmanager
def _deaths_told_by_next() -> Iterator[None]:
    """Remove torch's signal handler for loader processes: it would raise in the middle of any step."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)


def _death(pairs: ViewPairs, processes: list[multiprocessing.process.BaseProcess]) -> DataError | None:
    """Error for a loader process that has died; None if all of them live."""
    connection.wait([process.sentinel for process in processes], timeout=1)  # one that dies closes its sockets first
    dead = {process.pid: process.exitcode or 0 for process in processes if not process.is_alive()}
    if not dead:
        return None
    held = {
        pid: f" with {pairs.source.name(index)} in its hands" for pid, index in pairs.in_hand.tolist() if pid in dead
    }
    pid = next(iter(held or dead))
    how = f"signal {signal.Signals(-dead[pid]).name}" if dead[pid] < 0 else f"exit code {dead[pid]}"
    return DataError(
        f"a loader process died ({how}){held.get(pid, '')}; expected it to live: "
        "take the file out if it breaks the decoder, or use fewer --workers if memory (or /dev/shm) ran out"
    )


def _collate(results: list[_Sample | DataError]) -> ViewBatch | DataError:
    errors = [r for r in results if isinstance(r, DataError)]
    if errors:
        return errors[0]
    samples = [r for r in results if isinstance(r, _Sample)]

    def both(name: str) -> tuple[Tensor, Tensor]:
        stacked = torch.stack([getattr(s.views, name) for s in samples], dim=1)
        return stacked[0], stacked[1]

    return ViewBatch(
        images=both("images"),
        overlap_boxes=both("overlap_boxes"),
        flips=both("flips"),
        unreadable=tuple(message for s in samples for message in s.unreadable),
    )


def _quiet_worker(_: int) -> None:
    """Set up a worker: the main process handles Ctrl-C, OpenCV gets one thread, and libjpeg's messages are dropped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    if sys.stderr is not None:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)  # Python's own messages still go where they went
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
