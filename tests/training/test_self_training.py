"""The second stage of training: exact resumption, what it changes and what not, its place in a run's files."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.data.views.sources import Scenes
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.runs.record import read_run
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training import self_training
from slotseg.training.trainer import Trainer

Build = Callable[..., Trainer]
SETTINGS = {
    "steps": 4,
    "log_every": 2,
    "checkpoint_every": 3,
    "previews": 2,
    "optimizer.warmup_epochs": 0,
    "model.num_prototypes": None,
    "model.trained_prototypes": 8,
    "decoder.steps": 7,
    "decoder.rounds": 2,
    "decoder.photos": 6,
}


@pytest.fixture
def trainer(tmp_path: Path, tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch) -> Build:
    monkeypatch.setattr(self_training, "HELD_OUT", 3)

    def build(folder: str = "run", *, values: object = None, resume: Path | None = None) -> Trainer:
        return Trainer(
            tiny_config({**SETTINGS, **(values or {})}),  # type: ignore[dict-item]
            Scenes(8),
            RunFolder(tmp_path / folder),
            device="cpu",
            workers=0,
            resume=checkpoint.load(resume) if resume else None,
        )

    return build


@pytest.fixture
def whole(trainer: Build) -> Trainer:
    """A run that was not interrupted."""
    whole = trainer("whole")
    whole.train()
    return whole


def tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    return checkpoint.load(trainer.run.last).tensors


def assert_equal(one: Trainer, other: Trainer) -> None:
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def ctrl_c_after(trainer: Trainer, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a Ctrl-C that comes in a step of the decoder."""
    take = self_training.SelfTraining.train_step

    def train_step(stage: self_training.SelfTraining) -> torch.Tensor:
        if stage.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return take(stage)

    with monkeypatch.context() as patch:
        patch.setattr(self_training.SelfTraining, "train_step", train_step)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()


@pytest.mark.parametrize("step", [1, 3, 4, 6], ids=["first", "within a round", "last of a round", "second round"])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    trainer: Build, whole: Trainer, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = trainer("part")
    ctrl_c_after(part, step, monkeypatch)
    header = checkpoint.read_header(part.run.last)
    assert (header["step"], header["decoder_step"], header["total_steps"]) == (4 + step, step, 11)

    resumed = trainer("part", resume=part.run.last)
    resumed.train()

    assert_equal(resumed, whole)


def test_a_ctrl_c_between_the_stages_loses_nothing(
    trainer: Build, whole: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while photos are looked at for the decoder."""
    part = trainer("part")
    look = self_training.keep_photos

    def interrupted_look(*arguments: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return look(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(self_training, "keep_photos", interrupted_look)
        with pytest.raises(KeyboardInterrupt):
            part.train()
    assert checkpoint.read_header(part.run.last)["step"] == 4
    resumed = trainer("part", resume=part.run.last)
    resumed.train()
    assert_equal(resumed, whole)


def test_a_ctrl_c_while_targets_are_made_keeps_every_step(
    trainer: Build, whole: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = trainer("part", values={"checkpoint_every": 100})
    make = self_training.SelfTraining._targets

    def targets(stage: self_training.SelfTraining, photos: object) -> object:
        if stage.step == 4 and photos is stage.held_out:  # the first of the second round's
            signal.raise_signal(signal.SIGINT)
        return make(stage, photos)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(self_training.SelfTraining, "_targets", targets)
        with pytest.raises(KeyboardInterrupt):
            part.train()
    assert checkpoint.read_header(part.run.last)["step"] == 8
    resumed = trainer("part", resume=part.run.last)
    resumed.train()
    assert_equal(resumed, whole)


def test_the_second_stage_changes_the_decoder_and_the_merging_alone(trainer: Build, whole: Trainer) -> None:
    first_stage = trainer("without", values={"decoder.steps": 0})
    first_stage.train()
    before, after = tensors(first_stage), tensors(whole)
    merging = {"teacher.concepts", "teacher.confusion.wins"}
    added = {name for name in after if ".decoder." in name}
    assert before.keys() == after.keys() - added
    assert [name for name in before.keys() - merging if not torch.equal(before[name], after[name])] == []
    assert torch.equal(after["student.decoder.head.weight"], after["teacher.decoder.head.weight"])
    assert after["teacher.decoder.head.weight"].any()


def test_a_finished_run_gets_a_decoder_afterwards(trainer: Build, whole: Trainer) -> None:
    run = trainer("run", values={"decoder.steps": 0})
    run.train()
    later = trainer("run", resume=run.run.last)
    later.train()
    assert_equal(later, whole)


def test_a_run_that_is_trained_longer_learns_its_decoder_anew(trainer: Build, whole: Trainer) -> None:
    longer = trainer("whole", values={"steps": 6}, resume=whole.run.last)
    longer.train()
    header = checkpoint.read_header(longer.run.last)
    assert (header["step"], header["decoder_step"]) == (13, 7)
    lines = [json.loads(line) for line in longer.run.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12, 13]
    assert ["decoder_loss" in line for line in lines] == [False] * 3 + [True] * 4


def test_the_record_of_a_run_knows_both_stages(whole: Trainer) -> None:
    record = read_run(whole.run.path)
    assert (record.step, record.total_steps, record.state) == (11, 11, "finished")
    assert record.epochs_done == record.epochs == 2
    assert record.decoder_agreement is not None
    assert all(0 <= share <= 1 for share in record.decoder_agreement)


def test_a_segmenter_paints_by_the_decoder(whole: Trainer, tmp_path: Path) -> None:
    image = draw_scene(0)[0]
    segmenter = Segmenter.load(whole.run.path)
    assert segmenter.encoder.decoder is not None
    scores, covered = segmenter.scores(image)
    assert segmenter.size != "full"
    assert segmenter.encoder.points == round(min(covered) * segmenter.stride / segmenter.size)
    torch.testing.assert_close(scores.sum(dim=0), torch.ones(scores.shape[1:]))
    segmenter.save(tmp_path / "alone.safetensors")
    again = Segmenter.load(tmp_path / "alone.safetensors")
    assert (again(image).class_map == segmenter(image).class_map).all()
    merged = Segmenter.load(whole.run.path, num_prototypes=2)
    assert set(merged(image).class_map.flatten().tolist()) <= {0, 1}
