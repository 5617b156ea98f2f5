"""What TensorBoard reads back of what a run has written for it."""

import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slotseg.errors import ConfigError
from slotseg.painting.render import save_picture
from slotseg.watching.tensorboard import TAGS, Board


def line(step: int, **values: float) -> dict[str, Any]:
    return {"step": step, "loss": 2.0 / step, "grouping_loss": 1.5, "slot_loss": 0.5, "epoch": 0.1, **values}


def accumulated(folder: Path) -> Any:
    """Everything in a folder, as ``tensorboard --logdir`` sees it."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in accumulated(folder).Scalars(tag)]


needs_tensorboard = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('tensorboard')")


@needs_tensorboard
def test_metrics_are_read_back_by_name(tmp_path: Path) -> None:
    board = Board(tmp_path / "tensorboard", 0)
    for step in (5, 10):
        board.add(line(step, active_prototypes=7, unheard_of=3.0))
    assert scalars(tmp_path / "tensorboard", "loss/total") == [(5, pytest.approx(0.4)), (10, pytest.approx(0.2))]
    assert scalars(tmp_path / "tensorboard", "prototypes/active") == [(5, 7.0), (10, 7.0)]
    tags = accumulated(tmp_path / "tensorboard").Tags()["scalars"]
    assert set(tags) == {TAGS[key] for key in ("loss", "grouping_loss", "slot_loss", "active_prototypes")}


def test_tags_are_one_each_and_without_spaces() -> None:
    assert len(set(TAGS.values())) == len(TAGS)
    assert not any(" " in tag for tag in TAGS.values())


@needs_tensorboard
def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    board = Board(tmp_path, 0)
    board.add(line(1, loss=math.nan, slot_loss=math.inf))
    assert accumulated(tmp_path).Tags()["scalars"] == ["loss/grouping"]


@needs_tensorboard
def test_a_resumed_run_takes_back_the_steps_that_it_does_again(tmp_path: Path) -> None:
    first = Board(tmp_path, 0)
    for step in range(1, 9):
        first.add(line(step))
    second = Board(tmp_path, 4)
    for step in (5, 6):
        second.add(line(step, loss=9.0))
    assert second.path != first.path
    assert scalars(tmp_path, "loss/total") == [(s, pytest.approx(2 / s)) for s in (1, 2, 3, 4)] + [(5, 9.0), (6, 9.0)]


@needs_tensorboard
def test_a_sheet_is_read_back_byte_for_byte(tmp_path: Path) -> None:
    sheet = tmp_path / "step-00000020.jpg"
    save_picture(sheet, np.zeros((30, 50, 3), np.uint8))
    Board(tmp_path / "tensorboard", 0).add_picture(sheet, 20)
    (image,) = accumulated(tmp_path / "tensorboard").Images("preview")
    assert (image.step, image.width, image.height) == (20, 50, 30)
    assert image.encoded_image_string == sheet.read_bytes()


@needs_tensorboard
def test_a_full_disk_costs_what_it_has_no_room_for_and_is_logged_once(
    small_disk: Path, fill_disk: Callable[[Path, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    board = Board(small_disk, 0)
    board.add(line(1))
    fill_disk(small_disk, 0)
    with caplog.at_level(logging.WARNING, "slotseg"):
        for step in range(2, 100):
            board.add(line(step))
    assert len(caplog.messages) == 1
    (small_disk / "ballast").unlink()
    board.add(line(100))
    steps = [step for step, _ in scalars(small_disk, "loss/total")]
    assert (steps[0], steps[-1]) == (1, 100)
    assert len(steps) < 100


@needs_tensorboard
def test_an_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").touch()
    with pytest.raises(ConfigError, match=r"tensorboard cannot be written \(.*\); make room on its disk$"):
        Board(tmp_path / "tensorboard", 0)


def test_without_tensorboard_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorboard", "tensorboard.compat", "tensorboard.compat.proto"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"is not installed; expected it: pip install 'slotseg\[tensorboard\]'"):
        Board(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
