"""Learning by steps: settings that do not fit, what is trained and what rests, without any files."""

from collections.abc import Callable

import pytest
import torch
from missing_corners import Corners

from slotseg.config import TrainConfig
from slotseg.data.views.sources import Scenes
from slotseg.errors import CheckpointError, ConfigError
from slotseg.method.building import build_optimizer
from slotseg.runs.checkpoint import Checkpoint
from slotseg.training.learner import Learner, total_steps

Build = Callable[..., Learner]


@pytest.fixture
def learner(tiny_config: Callable[..., TrainConfig]) -> Build:
    def build(values: dict[str, object] | None = None, **arguments: object) -> Learner:
        config = tiny_config({"steps": 6, "optimizer.warmup_epochs": 0, **(values or {})})
        return Learner(config, **{"source": Scenes(8), "device": "cpu", "workers": 0, **arguments})  # type: ignore[arg-type]

    return build


def learn(learner: Learner, steps: int) -> None:
    for batch in learner.batches(learner.step, learner.step + steps):
        learner.train_step(batch.to(learner.device))


@pytest.mark.parametrize("source", [Scenes(8), Corners()], ids=["whole", "missing corners"])
def test_a_learner_learns_and_goes_on_from_its_state(learner: Build, source: Scenes) -> None:
    whole, part = learner(source=source), learner(source=source)
    learn(whole, 3)
    learn(part, 2)
    tensors, info = part.state()
    saved = Checkpoint(tensors={k: v.clone() for k, v in tensors.items()}, info=dict(info))
    resumed = learner(source=source, resume=saved)
    assert resumed.step == 2
    learn(resumed, 1)
    assert (resumed.step, resumed.total_steps, resumed.per_epoch) == (3, 6, 2)
    ours, theirs = resumed.state()[0], whole.state()[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_a_run_goes_on_in_the_precision_it_was_begun_in(learner: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, object] = {"precision": "auto"}
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    tensors, info = learner(values).state()
    assert info["computed_in"] == {"device": "cpu", "precision": "bf16"}
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert learner(values, resume=Checkpoint(tensors=tensors, info=info)).precision == torch.bfloat16
    for elsewhere in ({"device": "cuda", "precision": "bf16"}, {"device": "cpu"}, None):  # chosen anew
        resume = Checkpoint(tensors=tensors, info={**info, "computed_in": elsewhere})
        assert learner(values, resume=resume).precision is None


def test_a_checkpoint_of_another_network_is_refused(learner: Build) -> None:
    run = learner()
    learn(run, 1)
    tensors, info = run.state()
    key = next(key for key, value in tensors.items() if key.startswith("optimizer.") and value.numel() > 1)
    for changed, message in (
        ({k: v for k, v in tensors.items() if "layer2" not in k}, "it lacks student.backbone.model.layer2"),
        ({**tensors, "student.prototypes.weight": torch.ones(5, 8)}, r"weight has shape \(5, 8\) and not \(6, 8\);"),
        ({**tensors, key: torch.ones(1)}, "has a state of the optimiser of another shape than"),
    ):
        with pytest.raises(CheckpointError, match=message):
            learner(resume=Checkpoint(tensors=changed, info=dict(info)))


def test_frozen_backbone_stays_as_it_was(learner: Build) -> None:
    run = learner({"model.freeze_backbone": True})
    before = {k: v.clone() for k, v in run.model.student.backbone.state_dict().items()}
    learn(run, 2)
    assert all(torch.equal(before[k], v) for k, v in run.model.student.backbone.state_dict().items())
    assert all(torch.equal(before[k], v) for k, v in run.model.teacher.backbone.state_dict().items())


def test_optimizer_groups_scale_the_backbone_and_spare_one_dimensional_parameters(learner: Build) -> None:
    run = learner({"optimizer.backbone_scale": 0.1, "optimizer.weight_decay": 0.5})
    groups = build_optimizer(run.model, run.config.optimizer).param_groups
    backbone = {id(p) for p in run.model.student.backbone.parameters()}
    seen = 0
    for group in groups:
        for p in group["params"]:
            assert group["scale"] == (0.1 if id(p) in backbone else 1.0)
            assert group["weight_decay"] == (0.5 if p.ndim > 1 else 0.0)
            seen += 1
    assert seen == sum(p.requires_grad for p in run.model.parameters())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer.warmup_epochs": 3}, "warmup_epochs is 3"),
        ({"views.image_size": 16, "backbone.stride": 16}, "stride 16, at least twice it"),
        ({"views.image_size": 60}, "expected a multiple of the backbone's stride 8"),
        ({"precision": "fp16"}, "fp16"),
    ],
)
def test_settings_that_do_not_fit_are_refused(learner: Build, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        learner(values)


def test_resuming_with_other_photos_is_refused(learner: Build) -> None:
    tensors, info = learner().state()
    with pytest.raises(ConfigError, match="there are 9 photos and the run was started with 8"):
        learner(source=Scenes(9), resume=Checkpoint(tensors=dict(tensors), info=dict(info)))


def test_steps_of_a_training(tiny_config: Callable[..., TrainConfig]) -> None:
    assert total_steps(tiny_config({"steps": 7}), 100) == 7
    assert total_steps(tiny_config({"steps": None, "epochs": 3}), 10) == 6  # batches of 4
    with pytest.raises(ConfigError, match="neither epochs nor steps"):
        total_steps(tiny_config({"steps": None, "epochs": None}), 10)
