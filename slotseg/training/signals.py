"""Ctrl-C and SIGTERM: kept until the work in hand is whole, and never taken for an error."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_signals(patient: bool = False) -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM instead of dying in the middle of a step.

    Args:
        patient: Whether a second signal is collected too; otherwise it raises KeyboardInterrupt at once.

    Yields:
        Numbers of the signals received so far.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received and not patient:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Interrupt:
    """Python's own answer to Ctrl-C, which also remembers it."""

    came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """Let Ctrl-C end the block as KeyboardInterrupt, even where a library turns it into an error of its own.

    torch does so when Ctrl-C comes while it asks a storage for its length: "ValueError: could not determine the shape
    of object type". Reading a checkpoint asks for that with each tensor.

    Raises:
        KeyboardInterrupt: In place of any Exception that leaves the block after Ctrl-C came.
    """
    before = signal.getsignal(signal.SIGINT)
    pythons_own = before is signal.default_int_handler or isinstance(before, _Interrupt)
    if not pythons_own or threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupt = _Interrupt()
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception as error:
        if interrupt.came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
