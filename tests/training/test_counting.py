"""Counting a decoder's looks at whole photos: what is used, and what two looks confuse."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slotseg.config import TrainConfig
from slotseg.data.views.sources import Scenes
from slotseg.method.model import Encoder
from slotseg.runs.folder import RunFolder
from slotseg.segmenting.looks import resample
from slotseg.training import counting, self_training
from slotseg.training.counting import count_looks
from slotseg.training.kept_photos import KeptPhoto, keep_photos, logits_of
from slotseg.training.trainer import Trainer

SCENES = Scenes(5)
SETTINGS = {
    "steps": 2,
    "previews": 0,
    "optimizer.warmup_epochs": 0,
    "model.num_prototypes": None,
    "model.trained_prototypes": 8,
    "decoder.steps": 6,
    "decoder.photos": 5,
}


@pytest.fixture
def trained(tmp_path: Path, tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """A run whose decoder has an output for each prototype, with its counts before the last merging."""
    monkeypatch.setattr(self_training, "IN_USE", -1.0)
    run = Trainer(tiny_config(SETTINGS), SCENES, RunFolder(tmp_path / "run"), device="cpu", workers=0)
    run.train()
    return run


@pytest.fixture
def photos(trained: Trainer) -> list[KeptPhoto]:
    teacher = trained.learner.model.teacher
    assert teacher.decoder is not None
    kept = keep_photos(teacher, SCENES, trained.config, torch.device("cpu"), lambda: False)
    return [photo.of(teacher.decoder.used) for photo in kept]


def winners(teacher: Encoder, photos: list[KeptPhoto], config: TrainConfig) -> list[Tensor]:
    assert teacher.decoder is not None
    return [logits_of(teacher.decoder, photo, config.backbone).argmax(dim=0) for photo in photos]


def test_shares_sum_to_one_and_are_of_the_prototypes_that_win(trained: Trainer, photos: list[KeptPhoto]) -> None:
    teacher = trained.learner.model.teacher
    wins, confusion = count_looks(teacher, photos, trained.config)
    expected = [torch.bincount(w.flatten(), minlength=8) / w.numel() for w in winners(teacher, photos, trained.config)]
    torch.testing.assert_close(wins, torch.stack(expected).mean(dim=0))
    assert confusion.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(confusion, confusion.T)
    assert (confusion >= 0).all()


def test_what_the_second_look_takes_for_another_is_confused_with_it(
    trained: Trainer, photos: list[KeptPhoto], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = trained.learner.model.teacher
    assert teacher.confusion is not None
    found = iter(winners(teacher, photos, trained.config))
    wins = count_looks(teacher, photos, trained.config)[0]
    one, two = wins.argsort(descending=True)[:2].tolist()

    def swapped(*_: object, **__: object) -> Tensor:
        """The first look again, but for two prototypes that have changed places."""
        best = next(found)
        other = torch.where(best == one, two, torch.where(best == two, one, best))
        return torch.nn.functional.one_hot(other, 8).movedim(2, 0).float()

    monkeypatch.setattr(counting, "resample", swapped)
    _, confusion = count_looks(teacher, photos, trained.config)
    others = confusion[one].clone()
    others[one] = 0
    assert others[two] > 0.9 * others.sum()
    assert others[two] > confusion[one, one]


def test_the_second_look_is_smaller_and_mirrored_and_lies_over_the_first(
    trained: Trainer, photos: list[KeptPhoto], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = trained.learner.model.teacher
    seen: list[tuple[tuple[int, ...], bool]] = []

    def noted(scores: Tensor, covered: tuple[float, float], *rest: object, mirrored: bool = False) -> Tensor:
        seen.append((tuple(scores.shape[1:]), mirrored))
        return resample(scores, covered, *rest, mirrored=mirrored)  # type: ignore[arg-type]

    monkeypatch.setattr(counting, "resample", noted)
    count_looks(teacher, photos[:1], trained.config)
    ((shape, mirrored),) = seen
    first = logits_of(teacher.decoder, photos[0], trained.config.backbone).shape[1:]  # type: ignore[arg-type]
    assert mirrored
    assert [s / f for s, f in zip(shape, first, strict=True)] == pytest.approx([0.85, 0.85], rel=0.1)
