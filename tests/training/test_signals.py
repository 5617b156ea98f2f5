"""Ctrl-C is what leaves a block, whatever a library makes of it."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch

from slotseg.runs import checkpoint
from slotseg.training.signals import deferred_signals, no_interrupt_lost

Handler = signal.Handlers | Callable[[int, FrameType | None], None]


def test_an_error_a_library_makes_of_ctrl_c_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), no_interrupt_lost():
        swallow()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def swallow() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("could not determine the shape") from None


def test_ctrl_c_while_torch_reads_a_checkpoint_is_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the block, torch makes a ValueError of it."""
    file = tmp_path / "last.safetensors"
    checkpoint.save(file, {"weights": torch.zeros(3)}, {"step": 1, "config": {}})
    monkeypatch.setattr(torch.UntypedStorage, "__len__", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), no_interrupt_lost():
        checkpoint.load(file)


def test_other_errors_and_ends_stay_what_they_are() -> None:
    with pytest.raises(ValueError, match="mine"), no_interrupt_lost():
        raise ValueError("mine")
    with pytest.raises(SystemExit), no_interrupt_lost():
        raise SystemExit(3)
    with pytest.raises(KeyboardInterrupt), no_interrupt_lost():
        signal.raise_signal(signal.SIGINT)


def test_blocks_nest() -> None:
    with pytest.raises(KeyboardInterrupt), no_interrupt_lost(), no_interrupt_lost():
        swallow()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_deferred_work_inside_is_finished_first() -> None:
    with no_interrupt_lost(), deferred_signals() as received:
        signal.raise_signal(signal.SIGINT)
        done = True
    assert done
    assert received == [signal.SIGINT]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "another's"])
def test_who_decided_otherwise_on_ctrl_c_is_left_alone(handler: Handler) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with no_interrupt_lost():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
