"""When checkpoints are written, and what a full disk does to a run: nothing, once there is room again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slotseg.config import TrainConfig
from slotseg.data.views.sources import Scenes
from slotseg.errors import CheckpointError
from slotseg.files import read_json_lines
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.training import checkpoints as checkpointing
from slotseg.training.checkpoints import Checkpoints
from slotseg.training.trainer import Trainer

Config = Callable[..., TrainConfig]
Fill = Callable[[Path, int], None]


def written(run: RunFolder) -> dict[str, int]:
    """Step of every checkpoint there is."""
    return {p.name: checkpoint.read_header(p)["step"] for p in sorted(run.last.parent.glob("*.safetensors"))}


@pytest.fixture
def checkpoints(tmp_path: Path, tiny_config: Config) -> Checkpoints:
    config = tiny_config({"checkpoint_every": 10, "keep_every": 20, "checkpoint_minutes": 3})
    steps = iter(range(1, 1000))
    return Checkpoints(RunFolder(tmp_path), config, lambda: ({"a": torch.zeros(3)}, {"step": next(steps)}))


def test_checkpoints_are_written_by_steps_and_by_time(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = checkpoints.due_at - 180
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now)
    writes = []
    monkeypatch.setattr(checkpoints, "write", writes.append)
    last, run = checkpoints.run.last, checkpoints.run
    for step, minutes, expected in [
        (1, 0.1, []),
        (2, 3, [last]),  # time has passed
        (3, 1, []),
        (10, 1, [last]),
        (11, 2.9, []),  # counted from the write before
        (12, 0.2, [last]),
        (20, 0.1, [run.numbered(20), last]),
    ]:
        now += minutes * 60
        writes.clear()
        checkpoints.after_step(step, final=False)
        assert writes == expected, step
    writes.clear()
    checkpoints.after_step(21, final=True)
    assert writes == [last]


def test_a_checkpoint_that_cannot_be_written_is_tried_again_soon(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = checkpoints.due_at - 180
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now)
    tries = []

    def full(path: Path) -> None:
        tries.append(path)
        raise CheckpointError("full")

    monkeypatch.setattr(checkpoints, "write", full)
    for step, seconds, number in [(10, 1, 1), (11, 1, 1), (12, 57, 1), (13, 3, 2), (14, 1, 2)]:
        now += seconds
        checkpoints.after_step(step, final=False)
        assert len(tries) == number, step
    assert caplog.messages == ["full; the one before it stays"] * 2
    with pytest.raises(CheckpointError):
        checkpoints.after_step(15, final=True)


def build(disk: Path, tiny_config: Config, **arguments: object) -> Trainer:
    config = tiny_config(
        {"steps": 8, "checkpoint_every": 2, "log_every": 1, "previews": 0, "optimizer.warmup_epochs": 0}
    )
    defaults = {"source": Scenes(8), "device": "cpu", "workers": 0}
    return Trainer(config, run=RunFolder(disk / "run"), **{**defaults, **arguments})  # type: ignore[arg-type]


def first_photo_of(step: int) -> int:
    """For ``eventful_scenes``: when a step begins, batches being of four."""
    return 4 * (step - 1) + 1


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    small_disk: Path,
    fill_disk: Fill,
    tmp_path: Path,
    tiny_config: Config,
    caplog: pytest.LogCaptureFixture,
    eventful_scenes: Callable[..., Scenes],
) -> None:
    whole = build(tmp_path, tiny_config)
    whole.train()
    events = {
        first_photo_of(4): lambda: fill_disk(small_disk, 0),
        first_photo_of(6): lambda: (small_disk / "ballast").unlink(),
    }
    trainer = build(small_disk, tiny_config, source=eventful_scenes(events))
    trainer.train()
    assert written(trainer.run) == {"last.safetensors": 8}
    assert read_json_lines(trainer.run.metrics) == [
        {**line, "photos_per_second": ours["photos_per_second"]}
        for line, ours in zip(read_json_lines(whole.run.metrics), read_json_lines(trainer.run.metrics), strict=True)
    ]
    (told,) = (m for m in caplog.messages if "cannot be written" in m)
    assert "last.safetensors" in told
    assert "make room for" in told
    assert "the one before it stays" in told
    ours, theirs = (checkpoint.load(t.run.last).tensors for t in (trainer, whole))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_a_disk_that_stays_full_keeps_the_checkpoint_before_and_says_how_much_is_missing(
    small_disk: Path,
    fill_disk: Fill,
    tiny_config: Config,
    eventful_scenes: Callable[..., Scenes],
) -> None:
    events = {first_photo_of(6): lambda: fill_disk(small_disk, 10_000)}
    trainer = build(small_disk, tiny_config, source=eventful_scenes(events))
    with pytest.raises(
        CheckpointError,
        match=r"last.safetensors cannot be written: it takes .* kB .* has .* free: make room for",
    ):
        trainer.train()
    size = trainer.run.last.stat().st_size
    assert written(trainer.run) == {"last.safetensors": 4}
    assert sorted(p.name for p in trainer.run.last.parent.iterdir()) == ["last.json", "last.safetensors"]
    (small_disk / "ballast").unlink()
    resumed = build(small_disk, tiny_config, resume=checkpoint.load(trainer.run.last))
    resumed.train()
    assert written(trainer.run) == {"last.safetensors": 8}
    assert trainer.run.last.stat().st_size == size


def test_a_disk_without_room_for_one_checkpoint_is_told_before_anything_is_trained(
    small_disk: Path, fill_disk: Fill, tiny_config: Config
) -> None:
    fill_disk(small_disk, 50_000)
    trainer = build(small_disk, tiny_config)
    with pytest.raises(CheckpointError, match="make room for"):
        trainer.train()
    assert trainer.learner.step == 0
