"""Loader processes: they read photos ahead, replace the unreadable ones, and their deaths are told in one sentence."""

import copy
import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from typing import Any, Generic, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from slotseg.data.reading.photos import Photo
from slotseg.data.views.sources import Source
from slotseg.data.views.validity import NoPictureError
from slotseg.errors import DataError

T = TypeVar("T")
B = TypeVar("B")

MAX_UNREADABLE_IN_A_ROW = 100


@dataclass(frozen=True, kw_only=True)
class Sample(Generic[T]):
    """What was made of a photo."""

    views: T
    """Views of the photo, or of the one that stands in for it."""
    unreadable: tuple[str, ...]
    """Messages of the photos that it stands in for."""


class Readings(Dataset[Any]):
    """Views of the photos of a source, made where they are read: in loader processes.

    Args:
        source: The photos.
        workers: Loader processes.
    """

    def __init__(self, source: Source, workers: int = 0) -> None:
        self.source = source
        self.in_hand = torch.zeros(workers, 2, dtype=torch.int64)  # process id and photo of each
        self.in_hand.share_memory_()  # type: ignore[no-untyped-call]

    def read(self, index: int, make: Callable[[Photo], T]) -> Sample[T] | DataError:
        """What a function makes of a photo, or of the next one that can be read.

        Photos are counted round and round. One of missing pixels alone cannot be read either. If no photo can be read,
        the error is returned. Raised in a worker, it would reach the user as a traceback.
        """
        errors: list[str] = []
        worker = get_worker_info()
        for offset in range(min(len(self.source), MAX_UNREADABLE_IN_A_ROW)):
            photo = (index + offset) % len(self.source)
            if worker is not None:
                self.in_hand[worker.id] = torch.tensor((os.getpid(), photo))
            try:
                views = make(self.source.open(photo))
            except NoPictureError as error:
                errors.append(f"{self.source.name(photo)} {error}")
            except DataError as error:
                errors.append(str(error))
            else:
                return Sample(views=views, unreadable=tuple(errors))
        return DataError(
            f"{len(errors)} photos in a row could not be read; expected readable ones: check the folder. "
            f"The first: {errors[0]}"
        )


def load(
    readings: Readings,
    keys: Sampler[list[Any]],
    collate: Callable[[Sequence[Sample[T]]], B],
    *,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[B]:
    """Stream what a function makes of the samples of each list of keys.

    Raises:
        DataError: If none of many photos in a row can be read, or a loader process dies.
    """
    loader: DataLoader[Any] = DataLoader(
        readings,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=partial(_unless_error, collate),
        worker_init_fn=_quiet_worker,
        pin_memory=pin_memory,
        multiprocessing_context=_context() if workers else None,
    )
    others = multiprocessing.active_children()
    with _deaths_told_by_next():
        stream = iter(loader)
    processes = [process for process in multiprocessing.active_children() if process not in others]
    while True:
        try:
            batch = next(stream, None)
        except (RuntimeError, OSError, EOFError) as error:  # OSError: what a process has sent died with it
            raise _death(readings, processes) or error from error
        if batch is None:
            return
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Flag:
    """An event without a lock, for ``DataLoader``.

    A loader process asks the event before each batch. If it is killed at that moment, it dies with the lock of a usual
    event, and the main process waits for that lock without end.
    """

    def __init__(self) -> None:
        self._value = torch.zeros(1, dtype=torch.bool)
        self._value.share_memory_()  # type: ignore[no-untyped-call]

    def set(self) -> None:
        self._value.fill_(True)

    def is_set(self) -> bool:
        return bool(self._value)


def _context() -> multiprocessing.context.BaseContext:
    """The usual way to start processes, but with events that have no lock."""
    context = copy.copy(multiprocessing.get_context())
    vars(context)["Event"] = _Flag
    return context


def _unless_error(collate: Callable[[Sequence[Sample[T]]], B], results: list[Sample[T] | DataError]) -> B | DataError:
    errors = [r for r in results if isinstance(r, DataError)]
    return errors[0] if errors else collate([r for r in results if isinstance(r, Sample)])


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


def _death(readings: Readings, processes: list[multiprocessing.process.BaseProcess]) -> DataError | None:
    """Error for a loader process that has died; None if all of them live."""
    ended = connection.wait([process.sentinel for process in processes], timeout=1)  # its sockets were closed first
    for process in processes:
        if process.sentinel in ended:
            process.join(1)  # its exit code follows a moment after
    dead = {process.pid: process.exitcode or 0 for process in processes if not process.is_alive()}
    if not dead:
        return None
    held = {
        pid: f" with {readings.source.name(index)} in its hands"
        for pid, index in readings.in_hand.tolist()
        if pid in dead
    }
    pid = next(iter(held or dead))
    how = f"signal {signal.Signals(-dead[pid]).name}" if dead[pid] < 0 else f"exit code {dead[pid]}"
    return DataError(
        f"a loader process died ({how}){held.get(pid, '')}; expected it to live: "
        "take the file out if it breaks the decoder, or use fewer --workers if memory (or /dev/shm) ran out"
    )


def _quiet_worker(_: int) -> None:
    """Set up a worker: the main process handles Ctrl-C, OpenCV gets one thread, and libjpeg's messages are dropped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    if sys.stderr is not None:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)  # Python's own messages still go where they went
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
