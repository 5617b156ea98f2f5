"""What people see of a run while it trains; nothing of it changes what is learned."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slotseg.config import TrainConfig
from slotseg.data.views.sources import Scenes
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.training.trainer import Trainer
from slotseg.watching.watch import is_due


@pytest.mark.parametrize(
    ("total", "number", "steps"),
    [(10, 2, [5, 10]), (7, 3, [3, 5, 7]), (3, 20, [1, 2, 3]), (5, 1, [5]), (4, 0, [])],
)
def test_sheets_are_evenly_spread_and_the_last_step_has_one(total: int, number: int, steps: list[int]) -> None:
    assert [step for step in range(1, total + 1) if is_due(step, total, number)] == steps


def test_a_watched_run_learns_what_an_unwatched_one_does(
    tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    pytest.importorskip("tensorboard")
    values = {"steps": 6, "log_every": 2, "optimizer.warmup_epochs": 0, "backbone.options": {"drop_path_rate": 0.2}}
    for name, watched in (("plain", {}), ("watched", {"previews": 3, "tensorboard": True})):
        run = RunFolder(tmp_path / name)
        Trainer(tiny_config({**values, **watched}), Scenes(8), run, device="cpu", workers=0).train()
    plain, watched_run = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "watched")
    one, two = (checkpoint.load(run.last).tensors for run in (plain, watched_run))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [p.name for p in sorted(watched_run.previews.iterdir())] == [f"step-{n:08d}.jpg" for n in (2, 4, 6)]
    assert not plain.previews.exists()
    assert not plain.tensorboard.exists()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(watched_run.tensorboard))
    events.Reload()
    lines = [json.loads(line) for line in watched_run.metrics.read_text().splitlines()]
    assert [(e.step, e.value) for e in events.Scalars("loss/total")] == [
        (line["step"], pytest.approx(line["loss"])) for line in lines
    ]
    assert [e.step for e in events.Images("preview")] == [2, 4, 6]


def test_a_finding_is_said_once_and_again_only_after_a_recovery(
    tmp_path: Path,
    tiny_config: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from slotseg.watching import watch as module
    from slotseg.watching.diagnosis import Finding

    ill = {2, 3, 6}

    def diagnose(lines: list[dict[str, int]], _: object) -> list[Finding]:
        if not lines or lines[-1]["step"] not in ill:
            return []
        return [Finding(kind="one", what="All is one.", advice="Try two.", since_step=2)]

    monkeypatch.setattr(module, "diagnose", diagnose)
    values = {"steps": 6, "log_every": 1, "optimizer.warmup_epochs": 0}
    with caplog.at_level(logging.WARNING, "slotseg"):
        Trainer(tiny_config(values), Scenes(8), RunFolder(tmp_path / "run"), device="cpu", workers=0).train()
    assert caplog.messages == ["All is one. Try two.", "All is one. Try two."]
