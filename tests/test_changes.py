"""What may change in the middle of a run, and what is said of it."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from slotseg.config import TrainConfig
from slotseg.data.views.unlabelled import Photos
from slotseg.errors import CheckpointError, ConfigError, DataError
from slotseg.presets import MAY_CHANGE, changed
from slotseg.runs import checkpoint
from slotseg.training.checkpoints import optimizer_tensors
from slotseg.training.launch import new_training, resumed_training
from slotseg.training.trainer import Trainer
from slotseg.values import flatten, to_dict

Config = Callable[..., TrainConfig]

SMALL = {"steps": 3, "model.hidden_dim": 16, "optimizer.warmup_epochs": 0, "batch_size": 4, "log_every": 1}
SMALL |= {"backbone.options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}, "previews": 0}


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Path:
    new_training(Photos([photos]), SMALL, preset="tiny", out=tmp_path / "run", device="cpu", workers=0).train()
    return tmp_path / "run"


def resumed(run: Path, photos: tuple[Path, ...] = (), values: Mapping[str, Any] | None = None, **more: Any) -> Trainer:
    return resumed_training(run, Photos(photos), values, device="cpu", workers=0, **more)


def test_settings_that_may_change_exist_and_are_told(tiny_config: Config) -> None:
    assert flatten(to_dict(TrainConfig())).keys() >= set(MAY_CHANGE)
    config = tiny_config({"steps": 5})
    new, differences = changed(config, {"epochs": 7, "log_every": config.log_every, "segment.scales": [1.0, 2.0]})
    assert (new.epochs, new.steps, new.segment.scales) == (7, None, (1.0, 2.0))
    assert differences == {"steps": (5, None), "epochs": (None, 7), "segment.scales": ((1.0,), (1.0, 2.0))}
    assert changed(config, {}) == (config, {})
    _, differences = changed(config, {"segment.edges": "field", "segment.field_strength": 4.0})
    assert differences == {"segment.edges": ("none", "field"), "segment.field_strength": (3.0, 4.0)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.num_prototypes": 9}, r"num_prototypes was 6 when the run was started and is to be 9; .* leave it out"),
        ({"views.image_size": 32}, "views.image_size was 64"),
        ({"batch_size": 8}, "batch_size was 4"),
        ({"seed": 3}, "seed was 0"),
        ({"optimizer.name": "adamw"}, "optimizer.name was 'lars'"),
        ({"backbone.options": {"layers": [2, 1, 1, 1]}}, r"options.layers was \[1, 1, 1, 1\]"),
        ({"views.flop": 1}, "flop"),
        ({"log_every": 0}, "log_every is 0"),
    ],
)
def test_what_cannot_change_is_refused(tiny_config: Config, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(tiny_config(), values)


def test_a_run_goes_on_longer_and_slower_and_says_so(run: Path, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = {**SMALL, "steps": 5, "optimizer.learning_rate": 0.5}  # the command of the start, with two changes
    with caplog.at_level(logging.INFO, "slotseg"):
        trainer = resumed(run, (photos,), values, preset="tiny")
        trainer.train()
    assert [m.strip() for m in caplog.messages if "before" in m] == [
        "optimizer.learning_rate: 0.5, before 0.001",
        "steps: 5, before 3",
    ]
    kept = json.loads((run / "config.json").read_text())
    assert kept["config"]["optimizer"]["learning_rate"] == 0.5
    assert kept["sources"]["optimizer.learning_rate"] == kept["sources"]["steps"] == "option, from step 3"
    assert kept["sources"]["batch_size"] == "option"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[3]["learning_rate"] == trainer.learner.learning_rate(3) > 0.05
    again = resumed(run)  # and keeps what has changed
    assert (again.config, again.learner.step) == (trainer.config, 5)


def test_momenta_stay_with_their_parameters_where_groups_change(run: Path) -> None:
    file = run / "checkpoints" / "last.safetensors"
    before = checkpoint.load(file).part("optimizer.")
    trainer = resumed(run, values={"optimizer.backbone_scale": 0.5, "optimizer.weight_decay": 0.0, "steps": 4})
    after = optimizer_tensors(trainer.learner.model, trainer.learner.optimizer)
    assert {key for key in after if key.startswith("optimizer.")} == {f"optimizer.{key}" for key in before}
    assert all(torch.equal(after[f"optimizer.{key}"], value) for key, value in before.items())


def test_a_state_of_another_optimiser_is_refused(run: Path) -> None:
    file = run / "checkpoints" / "last.safetensors"
    content = checkpoint.load(file)
    tensors = {**content.tensors, "optimizer.7.momentum_buffer": torch.zeros(3)}
    checkpoint.save(file, tensors, content.info)
    with pytest.raises(CheckpointError, match="state of the optimiser for 7, which is not trained; expected"):
        resumed(run, values={"steps": 4})


def test_fewer_steps_than_were_done_are_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="has done 3 steps already and 2 are asked for; expected more"):
        resumed(run, values={"steps": 2})


def test_another_preset_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match="preset is tiny and not photos"):
        resumed(run, preset="photos")


def test_moved_photos_may_be_given_again_and_others_are_refused(
    run: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = photos.rename(photos.with_name("moved"))
    with pytest.raises(DataError, match="photos"):
        resumed(run)
    with caplog.at_level(logging.INFO, "slotseg"):
        resumed(run, (moved,), {"steps": 4}).train()
    assert f"photos: {moved}, before {photos}" in caplog.text
    assert resumed(run).notes["photos"] == [str(moved)]
    (moved / "0.png").unlink()
    with pytest.raises(ConfigError, match="there are 7 photos and the run was started with 8"):
        resumed(run)


def test_a_run_goes_back_to_a_numbered_checkpoint(photos: Path, tmp_path: Path) -> None:
    values = {**SMALL, "steps": 6, "keep_every": 2}
    whole = new_training(Photos([photos]), values, preset="tiny", out=tmp_path / "run", device="cpu", workers=0)
    whole.train()
    end = checkpoint.load(whole.run.last).tensors
    back = resumed(whole.run.numbered(2))
    assert back.learner.step == 2
    back.train()
    assert [line["step"] for line in back.journal.metrics] == [1, 2, 3, 4, 5, 6]
    again = checkpoint.load(whole.run.last).tensors
    assert all((again[name] == tensor).all() for name, tensor in end.items())
    stray = tmp_path / "stray.safetensors"
    whole.run.numbered(2).rename(stray)
    with pytest.raises(CheckpointError, match="lies in no run"):
        resumed(stray)


def test_an_imported_run_needs_its_photos(run: Path, photos: Path) -> None:
    content = checkpoint.load(run / "checkpoints" / "last.safetensors")
    info = {**content.info, "num_photos": None, "photos": None, "steps_per_epoch": 2, "official": {"arch": "resnet18"}}
    checkpoint.save(run / "checkpoints" / "last.safetensors", content.tensors, info)
    with pytest.raises(ConfigError, match=r"imported without photos; expected them: slotseg train PHOTOS --resume"):
        resumed(run)
    trainer = resumed(run, (photos,), {"steps": 4})
    trainer.train()
    last = checkpoint.read_header(run / "checkpoints" / "last.safetensors")
    assert (last["num_photos"], last["photos"], last["official"]) == (8, [str(photos)], {"arch": "resnet18"})
    info["steps_per_epoch"] = 3
    checkpoint.save(run / "checkpoints" / "last.safetensors", content.tensors, info)
    with pytest.raises(
        ConfigError, match="8 photos are 2 steps an epoch and the run had 3; expected 12 photos or a few"
    ):
        resumed(run, (photos,))
