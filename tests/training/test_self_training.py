"""The second stage of training: exact resumption, what it changes and what not, its place in a run's files."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from missing_corners import Corners

from slotseg.config import TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.scenes import draw_scene
from slotseg.data.views.sources import Scenes, Source
from slotseg.errors import DataError
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.runs.record import read_run
from slotseg.segmenting.looks import scaled
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

    def build(
        folder: str = "run", *, values: object = None, resume: Path | None = None, source: Source | None = None
    ) -> Trainer:
        return Trainer(
            tiny_config({**SETTINGS, **(values or {})}),  # type: ignore[dict-item]
            source or Scenes(8),
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
    merging = {"teacher.concepts", "teacher.confusion.wins", "teacher.confusion.value"}
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
    first, last = record.lines[[("decoder_loss" in line) for line in record.lines].index(True)], record.lines[-1]
    assert first["decoder_agreement"] == first["untrained_agreement"], "nothing is learned in the first round yet"
    assert record.decoder_agreement == (last["untrained_agreement"], last["decoder_agreement"])


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


class Broken(Scenes):
    """Eight scenes of which some can be read."""

    def __init__(self, readable: set[int]) -> None:
        super().__init__(8)
        self.readable = readable

    def open(self, index: int) -> Photo:
        if index not in self.readable:
            raise DataError(f"photo {index} is broken")
        return super().open(index)


@pytest.mark.parametrize("readable", [4, 5], ids=["one of those that are chosen", "another one"])
@pytest.mark.parametrize("stride", [8, 32], ids=["many cells", "few cells"])
def test_one_readable_photo_is_enough(trainer: Build, readable: int, stride: int) -> None:
    values = {"decoder.photos": 2, "decoder.steps": 3, "backbone.stride": stride}  # 0 and 4 are chosen
    run = trainer(source=Broken({readable}), values=values)
    run.train()
    assert run.stage is not None
    (photo,) = run.stage.photos
    seen = scaled([Scenes(8).open(readable).pixels()], photo.image.shape[:2], torch.device("cpu"))
    assert (255 * seen[0]).round().byte().permute(1, 2, 0).equal(torch.from_numpy(photo.image))
    assert all(tensor.isfinite().all() for name, tensor in tensors(run).items() if ".decoder." in name)
    assert read_run(run.run.path).state == "finished"


def test_photos_that_are_gone_cost_no_step(trainer: Build, whole: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Broken(set(range(8)))
    run = trainer(source=source)
    look = self_training.keep_photos

    def gone(*arguments: object) -> object:
        source.readable = set()
        return look(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(self_training, "keep_photos", gone)
        with pytest.raises(DataError, match="none of the photos can be read any more"):
            run.train()
    resumed = trainer(resume=run.run.last)
    resumed.train()
    assert_equal(resumed, whole)


def test_targets_need_no_prototype_that_stands_out(trainer: Build) -> None:
    """Among many prototypes that are all alike, no assignment is large."""
    run = trainer(values={"model.trained_prototypes": None, "model.num_prototypes": 60})
    stage = self_training.SelfTraining.begin(run.learner, stop=lambda: False)
    assert stage is not None
    photo = stage.photos[0]
    height, width = (stage.teacher.points * side for side in photo.cells)
    logits = torch.zeros(60, height, width)
    logits[7] = 1e-3
    refined = stage._refined(logits, photo)
    torch.testing.assert_close(refined[7], torch.ones(height, width))
    assert refined.sum() == refined[7].sum()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_a_compiled_run_learns_the_decoder_too_and_can_be_resumed(
    trainer: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"model.trained_prototypes": None, "model.num_prototypes": 6, "log_every": 1}
    plain, compiled = trainer("plain", values=values), trainer("compiled", values={**values, "compile": True})
    plain.train()
    ctrl_c_after(compiled, 3, monkeypatch)
    resumed = trainer("compiled", values={**values, "compile": True}, resume=compiled.run.last)
    resumed.train()
    ours, expected = ([line.get("decoder_loss") for line in run.journal.metrics] for run in (resumed, plain))
    assert ours[4:] == pytest.approx(expected[4:], rel=1e-3)
    assert tensors(resumed).keys() == tensors(plain).keys()


# missing pixels


def test_missing_pixels_win_nothing_and_teach_nothing(trainer: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever scores and targets say of them."""
    run = trainer(source=Corners(nothing={2}), values={"decoder.rounds": 1, "model.prototype_init": "kmeans"})
    run.train()
    listed = [json.loads(line)["error"] for line in run.run.failures.read_text().splitlines()]
    assert set(listed) == {"scene-2 has no picture, only missing pixels; expected some valid ones: leave it out"}
    assert all(t.isfinite().all() for t in tensors(run).values())
    teacher, stage = run.learner.model.teacher, run.stage
    assert stage is not None
    assert teacher.decoder is not None
    kept = self_training.keep_photos(teacher, run.learner.source, run.config, torch.device("cpu"), lambda: False)
    assert len(kept) == 5
    for photo in kept:
        missing = ~photo.valid_at(photo.cells)
        assert 0.1 < missing.float().mean() < 0.5
        photo.scores[3, missing] = 10.0
    expected = [torch.bincount(p.scores.argmax(dim=0)[p.valid_at(p.cells)], minlength=8).float() for p in kept]
    torch.testing.assert_close(self_training._wins(kept), torch.stack([e / e.sum() for e in expected]).mean(dim=0))

    stage.photos = stage.learned = [photo.of(teacher.decoder.used) for photo in kept]
    found = []
    for spoiled in (0.0, 100.0):
        stage.step, stage.optimizer = 0, torch.optim.SGD(stage.student.parameters())
        generator, stage.targets = torch.Generator().manual_seed(0), []
        for photo in stage.learned:
            height, width = (teacher.decoder.points * side for side in photo.cells)
            target = torch.rand(len(teacher.decoder.used), height, width, generator=generator)
            target[:, ~photo.valid_at((height, width))] += spoiled
            stage.targets.append(target)
        monkeypatch.setattr(stage, "_learning_rate", lambda *_: 0.0)
        loss = stage.train_step()
        found.append([loss, *(p.grad.clone() for p in stage.student.parameters() if p.grad is not None)])
    assert found[0][0] > 0
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
