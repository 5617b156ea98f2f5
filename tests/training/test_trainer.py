"""The training loop: resume, interruption, bad photos, metrics, what is refused."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slotseg.config import TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.views.sources import Scenes
from slotseg.errors import ConfigError, DataError, SlotSegError
from slotseg.method.building import build_optimizer
from slotseg.method.model import SlotConOutput
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.trainer import Trainer

Build = Callable[..., Trainer]


@pytest.fixture
def trainer(tmp_path: Path, tiny_config: Callable[..., TrainConfig]) -> Build:
    def build(folder: str = "run", **arguments: object) -> Trainer:
        values = {"steps": 6, "log_every": 2, "checkpoint_every": 2, "optimizer.warmup_epochs": 0}
        values |= arguments.pop("values", {})  # type: ignore[arg-type]
        defaults = {"source": Scenes(8), "device": "cpu", "workers": 0}
        return Trainer(tiny_config(values), run=RunFolder(tmp_path / folder), **{**defaults, **arguments})

    return build


def metrics(trainer: Trainer) -> list[dict[str, float]]:
    return [json.loads(line) for line in trainer.run.metrics.read_text().splitlines()]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return checkpoint.load(trainer.run.last).tensors


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(trainer: Build, optimizer: str) -> None:
    values = {"optimizer.name": optimizer, "backbone.options": {"channels": [8] * 4, "drop_path_rate": 0.2}}
    whole = trainer("whole", values=values)
    whole.train()

    part = trainer("part", values=values)
    stop_after(part, 3)  # in the middle of the second epoch of two steps
    resumed = trainer("part", values=values, resume=checkpoint.load(part.run.last))
    resumed.train()

    assert resumed.step == 6
    ours, theirs = weights(resumed), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [m["loss"] for m in metrics(resumed)] == [m["loss"] for m in metrics(whole)]


def stop_after(trainer: Trainer, steps: int) -> None:
    """Press Ctrl-C while step number ``steps`` is computed."""
    train_step = trainer.train_step

    def interrupted_step(batch: object) -> object:
        if trainer.step == steps - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(batch)  # type: ignore[arg-type]

    trainer.train_step = interrupted_step  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert checkpoint.load(trainer.run.last).info["step"] == steps


def test_metrics_hold_losses_schedules_and_collapse_figures(trainer: Build) -> None:
    run = trainer()
    run.train()
    lines = metrics(run)
    assert [line["step"] for line in lines] == [2, 4, 6]
    last = lines[-1]
    assert last["epoch"] == 3.0
    assert last["learning_rate"] == run.learning_rate(5)
    assert last["teacher_momentum"] == run.teacher_momentum(5)
    assert last["loss"] == pytest.approx(last["grouping_loss"] + last["slot_loss"], rel=1e-5)
    assert {
        "active_prototypes",
        "common_prototypes",
        "entropy_overall",
        "agreement",
        "feature_similarity",
    } <= last.keys()
    assert last["photos_per_second"] > 0


def test_workers_do_not_change_the_result(trainer: Build) -> None:
    runs = [trainer(f"workers-{n}", workers=n, values={"steps": 3}) for n in (0, 2)]
    for run in runs:
        run.train()
    one, two = (weights(run) for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_seed_changes_the_result(trainer: Build) -> None:
    runs = [trainer(f"seed-{n}", values={"steps": 2, "seed": n}) for n in (0, 1)]
    for run in runs:
        run.train()
    name = "student.prototypes.weight"
    assert not torch.equal(weights(runs[0])[name], weights(runs[1])[name])


def test_numbered_checkpoints_are_kept(trainer: Build) -> None:
    run = trainer(values={"keep_every": 3})
    run.train()
    assert [checkpoint.load(run.run.numbered(step)).info["step"] for step in (3, 6)] == [3, 6]


def test_frozen_backbone_stays_as_it_was(trainer: Build) -> None:
    run = trainer(values={"model.freeze_backbone": True})
    before = {k: v.clone() for k, v in run.model.student.backbone.state_dict().items()}
    run.train()
    assert all(torch.equal(before[k], v) for k, v in run.model.student.backbone.state_dict().items())
    assert all(torch.equal(before[k], v) for k, v in run.model.teacher.backbone.state_dict().items())


def test_optimizer_groups_scale_the_backbone_and_spare_one_dimensional_parameters(trainer: Build) -> None:
    run = trainer(values={"optimizer.backbone_scale": 0.1, "optimizer.weight_decay": 0.5})
    groups = build_optimizer(run.model, run.config.optimizer).param_groups
    backbone = {id(p) for p in run.model.student.backbone.parameters()}
    seen = 0
    for group in groups:
        for p in group["params"]:
            assert group["scale"] == (0.1 if id(p) in backbone else 1.0)
            assert group["weight_decay"] == (0.5 if p.ndim > 1 else 0.0)
            seen += 1
    assert seen == sum(p.requires_grad for p in run.model.parameters())


class BadPhotos(Scenes):
    """Scenes of which every second cannot be read."""

    def open(self, index: int) -> Photo:
        if index % 2:
            raise DataError(f"photo {index} is empty")
        return super().open(index)


def test_unreadable_photos_are_skipped_counted_and_listed(trainer: Build, caplog: pytest.LogCaptureFixture) -> None:
    run = trainer(source=BadPhotos(10))
    run.train()
    listed = [json.loads(line)["error"] for line in run.run.failures.read_text().splitlines()]
    assert len(run.journal.unreadable) == len(listed) == len(set(listed)) >= 4
    assert sum("Skipped" in message for message in caplog.messages) == 3


def spoil(trainer: Trainer, steps: set[int], *, gradient: bool = False) -> None:
    """Make loss or gradient of some steps (1-based) infinite, the BatchNorm statistics of its forward with it."""
    model = trainer.model
    forward = model.forward

    def spoiled(*arguments: object) -> SlotConOutput:
        output = forward(*arguments)  # type: ignore[arg-type]
        if trainer.step + 1 not in steps:
            return output
        for buffer in model.buffers():
            buffer.data.fill_(float("nan") if buffer.is_floating_point() else 99)
        if gradient:
            return replace(output, loss=output.loss + ((output.student[0].projections * 0).sqrt()).sum())
        return replace(output, loss=output.loss * float("inf"))

    model.forward = spoiled  # type: ignore[method-assign]


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("kind", [{}, {"model.trained_prototypes": 12}])
def test_a_step_without_a_finite_loss_is_skipped_counted_and_leaves_no_trace(
    trainer: Build, kind: dict[str, object], gradient: bool, caplog: pytest.LogCaptureFixture
) -> None:
    values = {**kind, "teacher_momentum": 1.0, "log_every": 1, "checkpoint_every": 1}
    run = trainer(values=values)
    spoil(run, {3, 5}, gradient=gradient)
    saved: list[dict[str, torch.Tensor]] = []  # by step; momentum 1: the teacher rests
    write = run.checkpoints.write
    run.checkpoints.write = lambda path: (write(path), saved.append(weights(run)))[0]  # type: ignore[method-assign]
    run.train()
    assert all(torch.equal(saved[3][name], tensor) for name, tensor in saved[2].items())
    assert not torch.equal(saved[4]["student.prototypes.weight"], saved[3]["student.prototypes.weight"])
    assert all(tensor.isfinite().all() for tensor in saved[-1].values())
    assert [(line["step"], line["skipped_steps"]) for line in metrics(run)] == [(1, 0), (2, 0), (4, 1), (6, 2)]
    assert checkpoint.load(run.run.last).info["skipped_steps"] == 2
    assert sum("Skipped a step" in message for message in caplog.messages) == 2


def test_many_skipped_steps_in_a_row_end_the_run_with_advice_and_the_checkpoint_before_them(trainer: Build) -> None:
    run = trainer(values={"steps": 20, "checkpoint_every": 3})
    spoil(run, set(range(4, 21)))
    with pytest.raises(
        SlotSegError, match=r"5 steps in a row, the last of them step 8, .* inf\); .* --resume .*run and"
    ):
        run.train()
    assert run.guard.skipped == 5
    kept = checkpoint.load(run.run.last)
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values())
    resumed = trainer(values={"steps": 20, "checkpoint_every": 3}, resume=kept)
    resumed.train()
    assert resumed.step == 20


def test_skipped_steps_are_counted_on_after_a_resumption(trainer: Build) -> None:
    run = trainer()
    spoil(run, {2})
    stop_after(run, 3)
    resumed = trainer(resume=checkpoint.load(run.run.last))
    resumed.train()
    assert metrics(resumed)[-1]["skipped_steps"] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer.warmup_epochs": 3}, "warmup_epochs is 3"),
        ({"views.image_size": 16, "backbone.stride": 16}, "stride 16, at least twice it"),
        ({"views.image_size": 60}, "expected a multiple of the backbone's stride 8"),
        ({"precision": "fp16"}, "fp16"),
    ],
)
def test_settings_that_do_not_fit_are_refused(trainer: Build, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer(values=values)


def test_resuming_with_other_photos_is_refused(trainer: Build) -> None:
    run = trainer()
    run.train()
    with pytest.raises(ConfigError, match="there are 9 photos and the run was started with 8"):
        trainer(source=Scenes(9), resume=checkpoint.load(run.run.last))


def test_unwritable_run_folder_is_one_sentence(trainer: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        trainer("file/run").train()


PHOTOS_LIKE = {"model.trained_prototypes": 12, "model.prototype_init": "kmeans", "model.num_prototypes": 3}


def test_kmeans_start_and_merging_are_resumed_bit_for_bit(trainer: Build) -> None:
    whole = trainer("whole", values=PHOTOS_LIKE)
    whole.train()
    part = trainer("part", values=PHOTOS_LIKE)
    stop_after(part, 3)
    assert checkpoint.load(part.run.last).tensors["teacher.concepts"].unique().tolist() == [0, 1, 2]
    resumed = trainer("part", values=PHOTOS_LIKE, resume=checkpoint.load(part.run.last))
    resumed.train()
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert ours["teacher.concepts"].unique().tolist() == [0, 1, 2]


def test_whole_photos_say_which_prototypes_are_in_use(trainer: Build) -> None:
    class OneUnreadable(Scenes):
        def open(self, index: int) -> Photo:
            if index == 3 and seen:
                raise DataError("scene-3 is gone")
            return super().open(index)

    seen: list[int] = []
    run = trainer(values=PHOTOS_LIKE, source=OneUnreadable(8))
    stop_after(run, 5)
    before = weights(run)["teacher.confusion.wins"]
    seen.append(3)  # unreadable from now on, when the photos are counted
    last = trainer(values=PHOTOS_LIKE, source=run.source, resume=checkpoint.load(run.run.last))
    last.train()
    wins = weights(last)["teacher.confusion.wins"]
    every = Segmenter.load(last.run.path, num_prototypes=12, device="cpu")
    counts = torch.zeros(12)
    for index in (0, 1, 2, 4, 5, 6, 7):
        counts += torch.bincount(every.scores(Scenes(8).open(index).pixels())[0].argmax(dim=0).flatten(), minlength=12)
    torch.testing.assert_close(wins, counts / counts.sum())
    assert not torch.allclose(wins, before)
    assert last.model.teacher.training
    assert last.model.teacher.concepts is not None
    assert last.model.teacher.concepts.tolist() == weights(last)["teacher.concepts"].tolist()


def test_a_numbered_checkpoint_of_the_last_step_is_the_last_one(trainer: Build) -> None:
    run = trainer(values={**PHOTOS_LIKE, "keep_every": 3})
    run.train()
    kept, last = checkpoint.load(run.run.numbered(6)).tensors, weights(run)
    assert all(torch.equal(kept[name], last[name]) for name in last)


def test_kmeans_start_uses_more_prototypes_than_a_random_one(trainer: Build) -> None:
    active = {}
    for init in ("normal", "kmeans"):
        run = trainer(
            init, values={"model.num_prototypes": 60, "model.prototype_init": init, "steps": 1, "log_every": 1}
        )
        run.train()
        active[init] = metrics(run)[0]["active_prototypes"]
    assert active["kmeans"] > active["normal"]


def test_without_a_number_of_concepts_there_are_as_many_as_stay_distinct(
    trainer: Build, caplog: pytest.LogCaptureFixture
) -> None:
    run = trainer(values={**PHOTOS_LIKE, "model.num_prototypes": None})
    with caplog.at_level("INFO", "slotseg"):
        run.train()
    concepts = Segmenter.load(run.run.path, device="cpu").encoder.num_concepts
    assert 2 <= concepts < 12
    assert f"12 prototypes were merged to {concepts} concepts" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_compiled_run_learns_what_the_plain_one_does(trainer: Build) -> None:
    values = {**PHOTOS_LIKE, "steps": 3, "log_every": 1}
    plain, compiled = trainer("plain", values=values), trainer("compiled", values={**values, "compile": True})
    for run in (plain, compiled):
        run.train()
    assert [m["loss"] for m in metrics(compiled)] == pytest.approx([m["loss"] for m in metrics(plain)], rel=1e-3)
    assert weights(compiled).keys() == weights(plain).keys()
    assert hasattr(compiled.model.student.backbone, "_compiled_call_impl")
    assert compiled.model.student.backbone._compiled_call_impl is not None
    assert plain.model.student.backbone._compiled_call_impl is None
