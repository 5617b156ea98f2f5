"""A run: resumption, interruption, bad photos, skipped steps, metrics, files."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from slotseg.config import TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.views.sources import Scenes
from slotseg.errors import ConfigError, DataError, SlotSegError
from slotseg.exchange.twins import read_backbone
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder, new_run
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.trainer import Trainer

Build = Callable[..., Trainer]
BATCH = 4
CTRL_C = partial(signal.raise_signal, signal.SIGINT)
PHOTOS_LIKE = {"model.trained_prototypes": 12, "model.prototype_init": "kmeans", "model.num_prototypes": 3}
CLUSTERED = 8
"""Photos that are opened for the k-means start."""


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


def interrupted(trainer: Trainer, step: int) -> None:
    """Train until a Ctrl-C that comes before ``step`` is done."""
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert checkpoint.load(trainer.run.last).info["step"] == step


def ctrl_c_in(step: int, clustered: int = 0) -> dict[int, Callable[[], object]]:
    """For ``eventful_scenes``: Ctrl-C while the photos of a step are read, the third of them."""
    return {clustered + BATCH * (step - 1) + 3: CTRL_C}


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    trainer: Build, optimizer: str, eventful_scenes: Callable[..., Scenes]
) -> None:
    values = {"optimizer.name": optimizer, "backbone.options": {"channels": [8] * 4, "drop_path_rate": 0.2}}
    whole = trainer("whole", values=values)
    whole.train()

    part = trainer("part", values=values, source=eventful_scenes(ctrl_c_in(3)))
    interrupted(part, 3)  # in the middle of the second epoch of two steps
    resumed = trainer("part", values=values, resume=checkpoint.load(part.run.last))
    resumed.train()

    assert resumed.learner.step == 6
    ours, theirs = weights(resumed), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [m["loss"] for m in metrics(resumed)] == [m["loss"] for m in metrics(whole)]


def test_metrics_hold_losses_schedules_and_collapse_measures(trainer: Build) -> None:
    run = trainer()
    run.train()
    lines = metrics(run)
    assert [line["step"] for line in lines] == [2, 4, 6]
    last = lines[-1]
    assert last["epoch"] == 3.0
    assert last["learning_rate"] == run.learner.learning_rate(5)
    assert last["teacher_momentum"] == run.learner.teacher_momentum(5)
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
    """Let the student's backbone give infinite features, or get infinite gradients, in some steps (1-based)."""

    def spoiled(_: nn.Module, __: object, features: Tensor) -> Tensor:
        if trainer.learner.step + 1 not in steps:
            return features
        if gradient:
            features.register_hook(lambda values: values * float("inf"))
            return features
        return features * float("inf")

    trainer.learner.model.student.backbone.register_forward_hook(spoiled)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("kind", [{}, {"model.trained_prototypes": 12}, {"optimizer.name": "lars"}])
def test_a_step_without_a_finite_loss_is_skipped_counted_and_leaves_no_trace(
    trainer: Build, kind: dict[str, object], gradient: bool, caplog: pytest.LogCaptureFixture
) -> None:
    values = {**kind, "teacher_momentum": 1.0, "log_every": 1, "keep_every": 1}  # momentum 1: the teacher rests
    run = trainer(values=values)
    spoil(run, {3, 5}, gradient=gradient)
    run.train()
    kept = [checkpoint.load(run.run.numbered(step)) for step in range(1, 7)]
    saved = [content.tensors for content in kept]
    assert all(torch.equal(saved[2][name], tensor) for name, tensor in saved[1].items())
    assert not torch.equal(saved[3]["student.prototypes.weight"], saved[2]["student.prototypes.weight"])
    assert not torch.equal(saved[3]["center.value"], saved[2]["center.value"])
    assert all(tensor.isfinite().all() for tensor in saved[-1].values())
    assert [(line["step"], line["skipped_steps"]) for line in metrics(run)] == [(1, 0), (2, 0), (4, 1), (6, 2)]
    assert [content.info["skipped_steps"] for content in kept] == [0, 0, 1, 1, 2, 2]
    assert sum("Skipped a step" in message for message in caplog.messages) == 2


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_a_first_step_that_is_skipped_leaves_no_trace(trainer: Build, optimizer: str) -> None:
    values = {"optimizer.name": optimizer, "teacher_momentum": 1.0, "keep_every": 1, "log_every": 100}
    run = trainer(values=values)
    start = {name: tensor.clone() for name, tensor in run.learner.model.state_dict().items()}
    spoil(run, {1})
    run.train()
    first = checkpoint.load(run.run.numbered(1))
    assert first.info["skipped_steps"] == 1
    assert all(torch.equal(first.tensors[name], tensor) for name, tensor in start.items())
    assert not any(tensor.any() for tensor in first.part("optimizer.").values())


@pytest.mark.parametrize("log_every", [2, 100])
def test_many_skipped_steps_in_a_row_end_the_run_with_advice_and_a_checkpoint_of_numbers(
    trainer: Build, log_every: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"steps": 20, "checkpoint_every": 3, "log_every": log_every}
    run = trainer(values=values)
    spoil(run, set(range(4, 9)))
    with pytest.raises(
        SlotSegError, match=r"5 steps in a row, the last of them step 8, .* nan\); .* --resume .*run and"
    ):
        run.train()
    assert run.learner.guard.skipped == 5
    assert sum("Skipped a step" in message for message in caplog.messages) == 3
    kept = checkpoint.load(run.run.last)
    assert (kept.info["step"], kept.info["skipped_steps"]) == (6, 3)
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values())
    resumed = trainer(values=values, resume=kept)
    resumed.train()
    assert resumed.learner.step == 20


def test_a_run_does_not_end_with_many_skipped_steps(trainer: Build) -> None:
    run = trainer()
    spoil(run, {2, 3, 4, 5, 6})
    with pytest.raises(SlotSegError, match="the last of them step 6"):
        run.train()
    assert checkpoint.read_header(run.run.last)["step"] == 4


def test_skipped_steps_are_counted_on_after_a_resumption(
    trainer: Build, eventful_scenes: Callable[..., Scenes]
) -> None:
    run = trainer(source=eventful_scenes(ctrl_c_in(3)))
    spoil(run, {3})
    interrupted(run, 3)
    resumed = trainer(resume=checkpoint.load(run.run.last))
    resumed.train()
    assert metrics(resumed)[-1]["skipped_steps"] == 1


def test_to_ask_for_the_state_changes_nothing(trainer: Build) -> None:
    run = trainer(values=PHOTOS_LIKE)
    for batch in run.learner.batches(0, 2):
        run.learner.train_step(batch)
    before = {name: tensor.clone() for name, tensor in run.learner.model.state_dict().items()}
    one, two = run.state(), run.state()
    assert one[1] == two[1]
    assert all(torch.equal(two[0][name], tensor) for name, tensor in one[0].items())
    assert all(torch.equal(before[name], tensor) for name, tensor in run.learner.model.state_dict().items())
    assert one[0]["teacher.concepts"].unique().tolist() == [0, 1, 2], "what is saved is merged all the same"
    assert before["teacher.concepts"].tolist() == list(range(12))


@pytest.mark.parametrize("error", [DataError("no photo"), RuntimeError("a fault")])
def test_a_training_that_fails_before_its_first_step_leaves_no_checkpoint(
    trainer: Build, eventful_scenes: Callable[..., Scenes], error: Exception
) -> None:
    def fail() -> None:
        raise error

    failing = trainer(source=eventful_scenes(dict.fromkeys(range(1, 100), fail)))
    with pytest.raises(type(error), match=str(error)):
        failing.train()
    assert not list(failing.run.last.parent.iterdir())
    assert new_run(failing.run.path, "x").path == failing.run.path  # it is free for another
    later = trainer("later", source=eventful_scenes(dict.fromkeys(range(1 + 3 * BATCH, 100), fail)))
    with pytest.raises(type(error)):
        later.train()
    assert checkpoint.load(later.run.last).info["step"] == (3 if isinstance(error, DataError) else 2)


def test_an_interrupted_start_is_resumed_and_a_failure_then_takes_nothing(
    trainer: Build, eventful_scenes: Callable[..., Scenes]
) -> None:
    interrupted(trainer(source=eventful_scenes({1: CTRL_C}), values=PHOTOS_LIKE), step=0)
    saved = checkpoint.load(trainer().run.last)

    def fail() -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        trainer(source=eventful_scenes({1: fail}), values=PHOTOS_LIKE, resume=saved).train()
    assert checkpoint.load(trainer().run.last).info["step"] == 0


def test_an_untrained_run_says_so_where_it_is_loaded(trainer: Build, caplog: pytest.LogCaptureFixture) -> None:
    run = trainer()
    for step, said in ((0, True), (1, False)):
        caplog.clear()
        tensors, info = run.state()
        checkpoint.save(run.run.last, tensors, {**info, "step": step})
        for load in (lambda: Segmenter.load(run.run.path, device="cpu"), lambda: read_backbone(run.run.path)):
            caplog.clear()
            load()
            assert ("last.safetensors has not learned anything: it is at step 0 of 6" in caplog.text) == said


def test_unwritable_run_folder_is_one_sentence(trainer: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        trainer("file/run").train()


def test_kmeans_start_and_merging_are_resumed_bit_for_bit(
    trainer: Build, eventful_scenes: Callable[..., Scenes]
) -> None:
    whole = trainer("whole", values=PHOTOS_LIKE)
    whole.train()
    part = trainer("part", values=PHOTOS_LIKE, source=eventful_scenes(ctrl_c_in(3, CLUSTERED)))
    interrupted(part, 3)
    assert checkpoint.load(part.run.last).tensors["teacher.concepts"].unique().tolist() == [0, 1, 2]
    resumed = trainer("part", values=PHOTOS_LIKE, resume=checkpoint.load(part.run.last))
    resumed.train()
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert ours["teacher.concepts"].unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize("photo", [1, 5, 8])
def test_a_ctrl_c_while_photos_are_clustered_loses_nothing(
    trainer: Build, eventful_scenes: Callable[..., Scenes], photo: int
) -> None:
    whole = trainer("whole", values=PHOTOS_LIKE)
    whole.train()
    part = trainer("part", values=PHOTOS_LIKE, source=eventful_scenes({photo: CTRL_C}))
    interrupted(part, 0)
    resumed = trainer("part", values=PHOTOS_LIKE, resume=checkpoint.load(part.run.last))
    resumed.train()
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_whole_photos_say_which_prototypes_are_in_use(trainer: Build, eventful_scenes: Callable[..., Scenes]) -> None:
    class WithoutOne(Scenes):
        def open(self, index: int) -> Photo:
            if index == 3:
                raise DataError("scene-3 is gone")
            return super().open(index)

    run = trainer(values=PHOTOS_LIKE, source=eventful_scenes(ctrl_c_in(5, CLUSTERED)))
    interrupted(run, 5)
    before = weights(run)["teacher.confusion.wins"]
    last = trainer(values=PHOTOS_LIKE, source=WithoutOne(8), resume=checkpoint.load(run.run.last))
    last.train()
    wins = weights(last)["teacher.confusion.wins"]
    every = Segmenter.load(last.run.path, num_prototypes=12, device="cpu")
    counts = torch.zeros(12)
    for index in (0, 1, 2, 4, 5, 6, 7):
        counts += torch.bincount(every.scores(Scenes(8).open(index).pixels())[0].argmax(dim=0).flatten(), minlength=12)
    torch.testing.assert_close(wins, counts / counts.sum())
    assert not torch.allclose(wins, before)
    assert last.learner.model.teacher.training
    assert last.learner.model.teacher.concepts is not None
    assert last.learner.model.teacher.concepts.tolist() == weights(last)["teacher.concepts"].tolist()


def test_a_numbered_checkpoint_of_the_last_step_is_the_last_one(trainer: Build) -> None:
    run = trainer(values={**PHOTOS_LIKE, "keep_every": 3})
    run.train()
    kept, last = checkpoint.load(run.run.numbered(6)).tensors, weights(run)
    assert all(torch.equal(kept[name], last[name]) for name in last)


@pytest.mark.parametrize("decoder", [{}, {"decoder.steps": 2, "decoder.rounds": 1, "decoder.photos": 4}])
def test_without_a_number_of_concepts_there_are_as_many_as_stay_distinct(
    trainer: Build, caplog: pytest.LogCaptureFixture, decoder: dict[str, object]
) -> None:
    run = trainer(values={**PHOTOS_LIKE, "model.num_prototypes": None, **decoder})
    with caplog.at_level("INFO", "slotseg"):
        run.train()
    concepts = Segmenter.load(run.run.path, device="cpu").encoder.num_concepts
    assert 2 <= concepts < 12
    assert [m for m in caplog.messages if "merged" in m] == [f"12 prototypes were merged to {concepts} concepts"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
@pytest.mark.parametrize("kept", [{}, {"model.freeze_backbone": True, "views.kept": 4}], ids=["views", "kept maps"])
def test_compiled_run_learns_what_the_plain_one_does(trainer: Build, kept: dict[str, object]) -> None:
    values = {**PHOTOS_LIKE, "steps": 3, "log_every": 1, **kept}
    plain, compiled = trainer("plain", values=values), trainer("compiled", values={**values, "compile": True})
    for run in (plain, compiled):
        run.train()
    assert [m["loss"] for m in metrics(compiled)] == pytest.approx([m["loss"] for m in metrics(plain)], rel=1e-3)
    assert weights(compiled).keys() == weights(plain).keys()
    assert hasattr(compiled.learner.model.student.backbone, "_compiled_call_impl")
    assert compiled.learner.model.student.backbone._compiled_call_impl is not None
    assert plain.learner.model.student.backbone._compiled_call_impl is None


def test_ctrl_c_in_the_last_step_is_heard_and_costs_nothing(
    trainer: Build, eventful_scenes: Callable[..., Scenes]
) -> None:
    whole, last = trainer("whole"), trainer("last", source=eventful_scenes(ctrl_c_in(6)))
    whole.train()
    interrupted(last, 6)
    assert all(torch.equal(tensor, weights(last)[name]) for name, tensor in weights(whole).items())


def _end_all() -> None:
    """What SIGTERM to a process group does: it reaches the trainer, and ends this loader process."""
    os.kill(os.getppid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="made of signals")
def test_a_signal_that_ends_the_loaders_too_is_an_interruption(
    trainer: Build, eventful_scenes: Callable[..., Scenes]
) -> None:
    run = trainer(source=eventful_scenes({3 * BATCH + 1: _end_all}), workers=1)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert checkpoint.load(run.run.last).info["step"] == run.learner.step > 0
