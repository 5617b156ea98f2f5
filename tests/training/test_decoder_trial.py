"""What the second stage would cost: each part counted as often as it happens, and the memory that is really kept."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from slotseg.config import TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.views.sources import Scenes
from slotseg.errors import DataError
from slotseg.training import counting, decoder_trial, kept_photos, self_training
from slotseg.training.counting import SECOND_SIZE
from slotseg.training.decoder_trial import DecoderCost, measure_decoder
from slotseg.training.learner import Learner
from slotseg.training.self_training import SelfTraining

Make = Callable[..., Learner]


@pytest.fixture
def learner(tiny_config: Callable[..., TrainConfig]) -> Make:
    def build(model: Mapping[str, Any] | None = None, **values: Any) -> Learner:
        decoder = {f"decoder.{name}": value for name, value in {"steps": 4, "rounds": 2, **values}.items()}
        config = tiny_config({"optimizer.warmup_epochs": 0, **decoder, **(model or {})})
        return Learner(config, Scenes(20), device="cpu", workers=0)

    return build


def test_each_part_counts_as_often_as_it_happens(learner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    done: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)

        def count(*arguments: Any, **options: Any) -> Any:
            done[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, count)

    for module, name in (
        (kept_photos, "_keep"),
        (self_training, "refine"),
        (self_training, "logits_of"),
        (counting, "logits_of"),
        (counting, "_second_look"),
    ):
        counted(module, name)
    ours = learner({"model.num_prototypes": None, "model.trained_prototypes": 8})
    stage = SelfTraining.begin(ours, stop=lambda: False)
    assert stage is not None
    while stage.step < stage.total_steps:
        assert stage.ready()
        stage.train_step()

    parts = dict.fromkeys(("looking", "assigning", "deciding", "stepping"), 0.0)
    whole = DecoderCost(**parts, num_photos=20, steps=4, rounds=2, merging=True, photo_bytes=0)
    smaller = SECOND_SIZE**2 * done["_second_look"]
    assert done["_keep"] == done["_second_look"] == 20
    assert replace(whole, looking=1).seconds == pytest.approx(done["_keep"] + smaller)
    assert replace(whole, assigning=1).seconds == done["refine"] == 40
    assert replace(whole, deciding=1).seconds == pytest.approx(done["logits_of"] - done["refine"] + smaller)
    assert replace(whole, stepping=1).seconds == stage.step


def test_the_memory_is_that_of_the_photos_that_are_kept(learner: Make) -> None:
    stage = SelfTraining.begin(learner(), stop=lambda: False)
    assert stage is not None
    assert stage.ready()
    kept = [tensor for photo in stage.photos for tensor in (photo.pixels, photo.scores, *photo.levels)]
    tensors = [*kept, *stage.targets, *stage.held_out_targets]
    num_bytes = sum(photo.image.nbytes for photo in stage.photos) + sum(tensor.nbytes for tensor in tensors)

    measured = measure_decoder(learner(), Scenes(20))

    assert measured is not None
    assert measured.memory == num_bytes
    assert (measured.num_photos, measured.steps, measured.rounds) == (20, 4, 2)
    assert min(measured.looking, measured.assigning, measured.deciding, measured.stepping) > 0
    few = measure_decoder(learner(photos=7, rounds=9), Scenes(20))
    assert few is not None
    assert (few.num_photos, few.memory, few.rounds) == (7, num_bytes * 7 // 20, 4)


def test_many_prototypes_are_not_all_reckoned_with(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config({"model.num_prototypes": 300, "decoder.steps": 1, "optimizer.warmup_epochs": 0})
    ours = Learner(config, Scenes(8), device="cpu", workers=0)
    assert measure_decoder(ours, Scenes(8)) is not None
    assert ours.model.teacher.decoder is not None
    assert len(ours.model.teacher.decoder.used) == decoder_trial.TYPICAL_IN_USE


def test_photos_that_cannot_be_read_are_passed_over(learner: Make) -> None:
    class Broken(Scenes):
        readable: tuple[int, ...] = (17,)

        def open(self, index: int) -> Photo:
            if index not in self.readable:
                raise DataError("broken")
            return super().open(index)

    measured = measure_decoder(learner(photos=2), Broken(20))
    assert measured is not None
    assert measured.num_photos == 2
    Broken.readable = ()
    assert measure_decoder(learner(photos=2), Broken(20)) is None


def test_without_a_second_stage_nothing_is_measured(learner: Make) -> None:
    assert measure_decoder(learner(steps=0), Scenes(20)) is None
