"""Maps that are kept: looked at once, drawn by every step, the same wherever a run starts and whatever stops it."""

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from missing_corners import Corners
from torch import Tensor

from slotseg.config import TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.views.augment import augment, normalize
from slotseg.data.views.sources import Scenes, Source
from slotseg.errors import DataError
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.training import kept_maps, self_training
from slotseg.training.kept_photos import keep_photos
from slotseg.training.learner import Learner
from slotseg.training.trainer import Trainer
from slotseg.training.trial import measure_cost

KEPT = {"model.freeze_backbone": True, "views.kept": 4, "steps": 12, "optimizer.warmup_epochs": 0, "log_every": 1}
LIKE_PHOTOS = {"model.trained_prototypes": 12, "model.prototype_init": "kmeans", "model.num_prototypes": 3}


def clustered(values: dict[str, Any]) -> int:
    """Photos that are opened before the first that is looked at."""
    return 8 if "model.prototype_init" in values else 0


NUM_ROUNDS = 4
"""Rounds of ``small_memory``: twice two of four photos, three steps each."""
CTRL_C = partial(signal.raise_signal, signal.SIGINT)
CPU = torch.device("cpu")

Build = Callable[..., Trainer]


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of 16 maps: MB are too coarse for the photos of a test."""
    plan = kept_maps.plan_rounds
    monkeypatch.setattr(kept_maps, "plan_rounds", lambda *args, **settings: plan(*args, **{**settings, "capacity": 16}))


@pytest.fixture
def learner(tiny_config: Callable[..., TrainConfig]) -> Callable[..., Learner]:
    def build(values: dict[str, Any] | None = None, source: Source | None = None, **arguments: Any) -> Learner:
        return Learner(
            tiny_config({**KEPT, **(values or {})}), source or Scenes(8), device="cpu", workers=0, **arguments
        )

    return build


@pytest.fixture
def trainer(tmp_path: Path, tiny_config: Callable[..., TrainConfig]) -> Build:
    def build(folder: str = "run", source: Source | None = None, values: object = None, **arguments: Any) -> Trainer:
        config = tiny_config({**KEPT, **(values or {})})  # type: ignore[dict-item]
        defaults = {"device": "cpu", "workers": 0}
        return Trainer(config, source or Scenes(8), RunFolder(tmp_path / folder), **{**defaults, **arguments})

    return build


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return checkpoint.load(trainer.run.last).tensors


def losses(trainer: Trainer) -> list[float]:
    return [json.loads(line)["loss"] for line in trainer.run.metrics.read_text().splitlines()]


def assert_equal(ours: Trainer, theirs: Trainer) -> None:
    assert ours.learner.step == theirs.learner.step == ours.learner.total_steps
    assert losses(ours) == losses(theirs)
    one, two = weights(ours), weights(theirs)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


# what is kept


def test_a_batch_has_the_maps_of_the_views_that_are_drawn(learner: Callable[..., Learner]) -> None:
    """Without colours, against a backbone that looks at each view alone."""
    plain = {"views.jitter": 0, "views.gray": 0, "views.blur": (0, 0), "views.solarize": (0, 0), "views.kept": 3}
    run = learner(plain)
    assert run.kept is not None
    (batch,) = run.batches(5, 6)
    drawn, photos = run.kept.rounds.draw(5), run.kept.rounds.photos(0)
    views = kept_maps.KeptViews(Scenes(8), run.config.views, 3, 0)
    backbone = run.config.backbone
    assert batch.mapped
    for row, pair in zip(drawn.rows, drawn.views, strict=True):
        sample = views[0, int(photos[row])]
        assert not isinstance(sample, DataError)
        place = drawn.rows.tolist().index(row)
        for view, number in enumerate(pair):
            image = normalize(sample.views.images[[number]].float() / 255, backbone.mean, backbone.std)
            with torch.no_grad():
                expected = run.model.teacher.backbone(image)[0]
            torch.testing.assert_close(batch.images[view][place].float(), expected, atol=2e-3, rtol=2e-3)
            assert batch.flips[view][place] == bool(sample.views.flips[number])


def test_each_kept_view_has_its_valid_cells(learner: Callable[..., Learner]) -> None:
    run = learner(source=Corners(corners={0, 1, 2}))
    assert run.kept is not None
    views = kept_maps.KeptViews(Corners(corners={0, 1, 2}), run.config.views, 4, 0)
    photos = run.kept.rounds.photos(0)
    missing = 0
    for step, batch in enumerate(run.batches(0, 12)):
        drawn = run.kept.rounds.draw(step)
        cells = batch.valid or [torch.ones(4, 8, 8, dtype=torch.bool)] * 2
        for view in (0, 1):
            for place, (row, number) in enumerate(zip(drawn.rows, drawn.views[:, view], strict=True)):
                sample = views[0, int(photos[row])]
                assert not isinstance(sample, DataError)
                valid = sample.views.valid
                expected = torch.ones(8, 8) if valid is None else F.avg_pool2d(valid[[number]].float(), 8)[0]
                assert torch.equal(cells[view][place], expected >= 0.5)
                missing += int((expected < 0.5).sum())
        run.train_step(batch)
    assert missing


def test_every_other_view_has_the_colours_of_the_second(
    learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def watched(views: Tensor, drawn: Any) -> Tensor:
        given.append((len(views), bool(drawn.blurred.all()), bool(drawn.solarized.all())))
        return augment(views, drawn)

    monkeypatch.setattr(kept_maps, "augment", watched)
    run = learner({"views.blur": (1.0, 0.0), "views.solarize": (0.0, 1.0), "views.kept": 3})
    next(iter(run.batches(0, 1)))
    assert given == [(4, True, False), (2, False, True)] * 4  # two photos at a time, with two and one such views


def test_the_backbone_looks_once(learner: Callable[..., Learner]) -> None:
    run = learner()
    seen = []
    run.model.student.backbone.register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    run.model.teacher.backbone.register_forward_hook(lambda _, images, __: seen.append(len(images[0])))
    for batch in run.batches(0, 12):
        run.train_step(batch)
    assert sum(seen) == 8 * 4
    for batch in run.batches(3, 5):
        run.prepare(batch, 3)
    assert sum(seen) == 8 * 4


def test_a_step_on_maps_is_a_step_on_images(learner: Callable[..., Learner]) -> None:
    """The same views as images and as maps of the frozen backbone give the same losses."""
    run = learner()
    (batch,) = learner({"views.kept": 0}).batches(0, 1)
    images = run.prepare(batch, 0)
    with torch.no_grad():
        maps = run.model.student.backbone(images[0]), run.model.student.backbone(images[1])
    by_images = run.model(images, batch.overlap_boxes, batch.flips).loss
    by_maps = run.model(maps, batch.overlap_boxes, batch.flips, mapped=True).loss
    torch.testing.assert_close(by_maps, by_images, atol=1e-6, rtol=1e-6)


def test_values_beyond_float16_are_kept_as_its_largest(learner: Callable[..., Learner]) -> None:
    run = learner()
    run.model.student.backbone.register_forward_hook(lambda _, __, dense: dense * 1e9)
    (batch,) = run.batches(0, 1)
    assert batch.images[0].isfinite().all()
    assert batch.images[0].max() == torch.finfo(torch.float16).max


@pytest.mark.usefixtures("small_memory")
def test_memory_holds_one_round(learner: Callable[..., Learner]) -> None:
    run = learner()
    assert run.kept is not None
    assert len(run.kept.rounds) == NUM_ROUNDS
    assert run.kept.num_bytes == 4 * 4 * 2 * 16 * 8 * 8
    kept = set()
    for _ in run.batches(0, 12):
        kept.add((run.kept._maps.data_ptr(), run.kept._maps.nbytes))
    assert len(kept) == 1
    assert kept.pop()[1] == run.kept.num_bytes
    assert run.kept.summary == "Looking at 8 photos twice, 4 views each, in 4 rounds: 32.8 kB of maps at a time"


def test_no_map_is_held_while_the_decoder_learns(trainer: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run, held = trainer(values={"decoder.steps": 2}), []
    kept = run.learner.kept
    assert kept is not None
    shape = kept.rounds.largest, kept.rounds.num_views, *kept.map_shape

    def counted() -> int:
        gc.collect()
        return sum(type(x) is Tensor and x.shape == shape for x in gc.get_objects())

    monkeypatch.setattr(self_training, "keep_photos", lambda *args: held.append(counted()) or keep_photos(*args))
    list(run.learner.batches(0, 1))
    assert counted() == 1
    run.train()
    assert held == [0]
    assert kept.num_bytes == 8 * 4 * 2 * 16 * 8 * 8  # it still says what it had


def test_the_log_says_what_is_looked_at(trainer: Build, caplog: pytest.LogCaptureFixture) -> None:
    run = trainer()
    with caplog.at_level("INFO", "slotseg"):
        run.train()
    assert run.run.log.read_text().count("Looking at 8 photos once, 4 views each: 65.5 kB of maps") == 1


def test_maps_are_drawn_in_bf16_too(trainer: Build) -> None:
    run = trainer(values={**LIKE_PHOTOS, "precision": "bf16"})
    run.train()
    assert run.learner.precision == torch.bfloat16
    assert losses(run)[-1] == pytest.approx(losses(run)[0], rel=1)
    assert run.learner.guard.skipped == 0


# stopped and continued


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("values", [{}, LIKE_PHOTOS], ids=["normal", "kmeans"])
@pytest.mark.parametrize("step", [1, 3, 5, 11])
def test_a_run_goes_on_from_any_step_bit_for_bit(trainer: Build, values: dict[str, Any], step: int) -> None:
    whole = trainer("whole", values=values)
    whole.train()
    part = trainer("part", values=values)
    take = part.learner.train_step

    def watched(batch: Any) -> Any:
        if part.learner.step == step - 1:
            CTRL_C()
        return take(batch)

    part.learner.train_step = watched  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        part.train()
    saved = checkpoint.load(part.run.last)
    assert saved.info["step"] == step
    resumed = trainer("part", values=values, resume=saved)
    resumed.train()
    assert_equal(resumed, whole)


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("values", [{}, LIKE_PHOTOS], ids=["normal", "kmeans"])
@pytest.mark.parametrize(("opened", "step"), [(2, 0), (6, 3), (10, 6)])
def test_ctrl_c_while_looking_keeps_the_steps_done(
    trainer: Build,
    values: dict[str, Any],
    opened: int,
    step: int,
    eventful_scenes: Callable[..., Scenes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "slotseg")
    monkeypatch.setattr(kept_maps, "MOST_AT_ONCE", 2)  # a block is one photo
    opened += clustered(values)
    whole, part = trainer("whole", values=values), trainer("part", eventful_scenes({opened: CTRL_C}), values)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        part.train()
    saved = checkpoint.load(part.run.last)
    assert saved.info["step"] == step
    assert part.learner.source.opened == opened, "it stops after the block in hand"  # type: ignore[attr-defined]
    assert f"Interrupted at step {step}; continue with --resume" in part.run.log.read_text()
    resumed = trainer("part", values=values, resume=saved)
    resumed.train()
    assert_equal(resumed, whole)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads do not survive a fork, and sums of one thread are not those of two."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(number)


@pytest.mark.usefixtures("small_memory", "one_thread")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.parametrize("opened", [2, 7, 15])
def test_a_run_killed_while_looking_goes_on(
    trainer: Build, opened: int, eventful_scenes: Callable[..., Scenes]
) -> None:
    values = {**LIKE_PHOTOS, "checkpoint_every": 1}
    whole = trainer("whole", values=values)
    whole.train()
    pid = os.fork()
    if not pid:
        kill = partial(os.kill, os.getpid(), signal.SIGKILL)
        trainer("part", eventful_scenes({clustered(values) + opened: kill}), values).train()
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    saved = checkpoint.load(RunFolder(whole.run.path.parent / "part").last)
    assert saved.info["step"] == 3 * ((opened - 1) // 4)
    resumed = trainer("part", values=values, resume=saved)
    resumed.train()
    assert_equal(resumed, whole)


def _end_all() -> None:
    """What SIGTERM to a process group does: it reaches the trainer, and ends this loader process."""
    os.kill(os.getppid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("values", [{}, LIKE_PHOTOS], ids=["normal", "kmeans"])
def test_a_signal_that_ends_the_loaders_while_looking_is_an_interruption(
    trainer: Build, values: dict[str, Any], eventful_scenes: Callable[..., Scenes]
) -> None:
    run = trainer(source=eventful_scenes({clustered(values) + 2: _end_all}), workers=1, values=values)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert checkpoint.load(run.run.last).info["step"] == run.learner.step == 0


def test_a_dead_loader_is_told(trainer: Build, eventful_scenes: Callable[..., Scenes]) -> None:
    run = trainer(source=eventful_scenes({3: lambda: os.kill(os.getpid(), signal.SIGKILL)}), workers=1)
    with pytest.raises(DataError, match=r"a loader process died \(signal SIGKILL\) with scene-\d in its hands"):
        run.train()


def test_workers_and_memory_enough_for_all_change_nothing(trainer: Build) -> None:
    runs = [trainer(f"{workers}", workers=workers, values={"steps": 4}) for workers in (0, 2)]
    for run in runs:
        run.train()
    assert_equal(*runs)


# photos that cannot be read, and what it costs


class BadPhotos(Scenes):
    def open(self, index: int) -> Photo:
        if index in (1, 6):
            raise DataError(f"photo {index} is broken")
        return super().open(index)


@pytest.mark.parametrize("values", [{}, LIKE_PHOTOS], ids=["normal", "kmeans"])
def test_unreadable_photos_are_replaced_and_listed_once(trainer: Build, values: dict[str, Any]) -> None:
    run = trainer(source=BadPhotos(8), values=values)
    run.train()
    listed = [json.loads(line)["error"] for line in run.run.failures.read_text().splitlines()]
    assert sorted(listed) == ["photo 1 is broken", "photo 6 is broken"]


@pytest.mark.parametrize("values", [{}, LIKE_PHOTOS], ids=["normal", "kmeans"])
def test_nothing_readable_is_one_sentence(trainer: Build, values: dict[str, Any]) -> None:
    class Nothing(Scenes):
        def open(self, index: int) -> Photo:
            raise DataError("broken")

    with pytest.raises(DataError, match=r"^8 photos in a row could not be read"):
        trainer(source=Nothing(8), values=values).train()


def test_a_trial_reckons_with_looking_once(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config({**KEPT, "batch_size": 12, "steps": 100})
    cost = measure_cost(config, Scenes(60), device="cpu", workers=0)
    assert (cost.num_photos, cost.num_looked) == (1200, 60)
    assert cost.kept_memory == 60 * 4 * 2 * 16 * 8 * 8
    assert cost.seconds == pytest.approx(60 * (max(cost.looking, cost.reading)) + 1200 * cost.step)
    assert min(cost.looking, cost.reading, cost.step) > 0
    assert cost.photos_per_second == pytest.approx(1200 / cost.seconds)
