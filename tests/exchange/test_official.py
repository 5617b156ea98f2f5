"""Checkpoints of the published code: files made from their names and shapes become runs of ours."""

import json
import logging
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from slotseg.cli import main
from slotseg.config import BackboneConfig, TrainConfig
from slotseg.data.views.unlabelled import Photos
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange.importing import import_run
from slotseg.exchange.official import converted
from slotseg.exchange.official_settings import SOURCE
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.method import schedules
from slotseg.method.building import build_model, build_optimizer, trained_names
from slotseg.networks.backbones import Backbone
from slotseg.runs import checkpoint
from slotseg.training.doctor import check_checkpoint
from slotseg.training.launch import plan_training, resumed_training
from slotseg.values import flatten, from_dict

FACTS = json.loads((Path(__file__).parent.parent / "golden" / "official_checkpoint.json").read_text())
SMALL = {"4096": 24, "256": 10}
"""The sizes of the heads in small files; a layer of the backbone keeps its own."""
HEADS = ("projector_q", "projector_k", "grouping_q", "grouping_k", "predictor_slot", "center")
STEPS = 2  # an epoch

Content = dict[str, Any]


def shapes(arch: str, *, small: bool) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of each tensor of the model, by the published code's names and in its order."""
    found = {}
    for key, (shape, dtype) in FACTS["model"][arch].items():
        head = key.split(".")[1] in HEADS
        sizes = [SMALL.get(str(n), n) if small and head else n for n in shape]
        found[key] = (tuple(sizes), getattr(torch, dtype))
    return found


def is_parameter(key: str) -> bool:
    return not key.endswith(("center", "running_mean", "running_var", "num_batches_tracked"))


def is_trained(key: str) -> bool:
    return is_parameter(key) and "_k." not in key


def official(
    arch: str = "resnet18",
    *,
    small: bool = True,
    flat: bool = False,
    batch_size: int = 4,
    epoch: int = 3,
    **changes: Any,
) -> Content:
    """A full checkpoint after an epoch of 10 with 2 steps each, of 2 processes that share the batch.

    A flat one takes no memory: each of its tensors is one value, expanded.
    """
    generator = torch.Generator().manual_seed(0)
    model: OrderedDict[str, Tensor] = OrderedDict()
    for key, (shape, dtype) in shapes(arch, small=small).items():
        values = torch.empty(shape).normal_(0, 0.02, generator=generator) if not flat else torch.zeros(()).expand(shape)
        if key.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")):
            values = values + 1
        model[key] = values if dtype.is_floating_point else torch.tensor(6)
    parameters = [key for key in model if is_parameter(key)]
    momenta = {
        i: {"mu": torch.full(() if flat else model[key].shape, i / 1e6).expand(model[key].shape)}
        for i, key in enumerate(parameters)
        if is_trained(key)
    }
    sizes = {} if not small else {"dim_hidden": 24, "dim_out": 10, "num_prototypes": 10}
    args = {**FACTS["args_example"], **sizes, "arch": arch, "batch_size": batch_size // 2, "epochs": 10}
    args |= {"warmup_epoch": 2, "image_size": 64, "output_dir": "./out", "amp": True, "resume": None, **changes}
    rate = args["base_lr"] * batch_size / 256
    group = {"lr": 0.9 * rate, "weight_decay": 1e-5, "momentum": 0.9, "eta": 0.001, "initial_lr": rate}
    group |= {"weight_decay_filter": None, "lars_adaptation_filter": None, "params": list(range(len(parameters)))}
    counts = {"base_lrs": [rate], "_step_count": 1, "_is_initial": False, "_last_lr": [0.9 * rate]}
    return {
        "args": Namespace(**args),
        "model": model,
        "optimizer": {"state": momenta, "param_groups": [group]},
        "scheduler": {
            "multiplier": 100,
            "warmup_epoch": 2 * STEPS,
            "finished": True,
            **counts,
            "last_epoch": 2 * STEPS + 1,
            "after_scheduler": {"T_max": 8 * STEPS, "eta_min": 1e-6, **counts, "last_epoch": (epoch - 2) * STEPS - 1},
        },
        "epoch": epoch,
        "scaler": {
            "scale": 4096.0,
            "growth_factor": 2.0,
            "backoff_factor": 0.5,
            "growth_interval": 2000,
            "_growth_tracker": 7,
        },
    }


@pytest.fixture(scope="module")
def content() -> Content:
    return official()


@pytest.fixture(scope="module")
def file(content: Content, module_path: Path) -> Path:
    path = module_path / "checkpoint.pth"
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(4 * STEPS):
        Image.fromarray(rng.integers(0, 255, (80, 96, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


# what is taken over


def test_doctor_says_that_it_can_be_imported(file: Path) -> None:
    (remark,) = check_checkpoint(file)
    assert remark.text.endswith(f"slotseg import {file} reads it")


def test_every_tensor_is_taken_over_under_its_name(content: Content) -> None:
    tensors = converted(content).tensors
    model = {k.removeprefix("module."): v for k, v in content["model"].items()}
    examples = {
        "student.backbone.model.layer1.0.bn2.weight": "encoder_q.layer1.0.bn2.weight",
        "teacher.backbone.model.bn1.running_var": "encoder_k.bn1.running_var",
        "student.projector.3.bias": "projector_q.mlp.3.bias",
        "teacher.projector.6.weight": "projector_k.mlp.6.weight",
        "student.prototypes.weight": "grouping_q.slot_embed.weight",
        "teacher.prototypes.weight": "grouping_k.slot_embed.weight",
        "predictor.4.num_batches_tracked": "predictor_slot.mlp.4.num_batches_tracked",
    }
    for ours, theirs in examples.items():
        assert torch.equal(tensors[ours], model[theirs])
    assert torch.equal(tensors["center.value"], model["center"][0])
    assert len([k for k in tensors if not k.startswith("optimizer.")]) == len(model)


@pytest.mark.parametrize(("arch", "small"), [("resnet18", True), ("resnet18", False), ("resnet50", False)])
def test_each_momentum_goes_to_its_parameter(arch: str, small: bool) -> None:
    content = official(arch, small=small, flat=not small)
    result = converted(content)
    config = from_dict(TrainConfig, result.info["config"])
    with torch.device("meta"):
        model = build_model(config)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {
        name: tensor.shape for name, tensor in result.tensors.items() if not name.startswith("optimizer.")
    }
    trained = trained_names(model, build_optimizer(model, config.optimizer))
    theirs = [key for key in content["model"] if is_parameter(key)]
    momenta = result.part("optimizer.")
    assert len(momenta) == len(trained) == len([key for key in theirs if is_trained(key)])
    for name in trained:
        start = {
            "student.backbone.model.": "module.encoder_q.",
            "student.projector.": "module.projector_q.mlp.",
            "student.prototypes.": "module.grouping_q.slot_embed.",
            "predictor.": "module.predictor_slot.mlp.",
        }
        ours, there = next((a, b) for a, b in start.items() if name.startswith(a))
        number = theirs.index(there + name[len(ours) :])
        expected = torch.tensor(number / 1e6).expand(content["model"][theirs[number]].shape)
        assert torch.equal(momenta[f"{name}.momentum_buffer"], expected), name


def test_a_parameter_without_momentum_starts_without(content: Content) -> None:
    fewer = {i: s for i, s in content["optimizer"]["state"].items() if i > 0}
    changed = {**content, "optimizer": {**content["optimizer"], "state": fewer}}
    assert len(converted(changed).part("optimizer.")) == len(fewer)
    changed["optimizer"]["state"] = {}
    assert converted(changed).part("optimizer.") == {}


def test_settings_and_where_they_came_from(content: Content) -> None:
    info = converted(content).info
    settings = flatten(info["config"])
    said = {
        "backbone.name": "resnet18",
        "model.hidden_dim": 24,
        "model.projection_dim": 10,
        "model.num_prototypes": 10,
        "model.teacher_temperature": 0.07,
        "model.assignment_temperature": 0.07,
        "model.student_temperature": 0.1,
        "model.center_momentum": 0.9,
        "model.grouping_weight": 0.5,
        "views.image_size": 64,
        "views.area": (0.08, 1.0),
        "optimizer.learning_rate": 1.0,
        "optimizer.weight_decay": 1e-5,
        "optimizer.momentum": 0.9,
        "optimizer.trust_coefficient": 0.001,
        "optimizer.warmup_epochs": 2.0,
        "optimizer.final_learning_rate": 1e-6,
        "teacher_momentum": 0.99,
        "batch_size": 4,
        "epochs": 10,
        "steps": None,
    }
    assert {name: settings[name] for name in said} == said
    assert {name for name, source in info["sources"].items() if source == SOURCE} == set(said)
    assert info["sources"]["model.slot_temperature"] == "default"
    assert settings["model.slot_temperature"] == 0.2
    assert settings.keys() == info["sources"].keys()
    assert info["official"] == vars(content["args"])
    assert (info["step"], info["total_steps"], info["steps_per_epoch"]) == (3 * STEPS, 10 * STEPS, STEPS)
    assert info["scaler"]["scale"] == 4096.0


@pytest.mark.parametrize(
    ("changes", "preset", "number"),
    [
        ({"dataset": "ImageNet", "num_prototypes": None}, "imagenet-r50", 2048),
        ({"dataset": "COCOplus", "num_prototypes": 300}, "cocoplus-r50", 300),
        ({"dataset": "elsewhere", "num_prototypes": 300}, "coco-r50", 300),
    ],
)
def test_the_data_set_gives_the_preset(changes: Content, preset: str, number: int) -> None:
    from slotseg.exchange.official_settings import our_settings, read_options, read_progress

    parts = official(**changes)
    options = read_options(parts["args"])
    config, sources = our_settings(options, read_progress(options, parts), parts)
    assert config.model.num_prototypes == number
    assert sources["model.num_prototypes"] == (SOURCE if changes["num_prototypes"] else f"preset {preset}")


def test_the_published_batch_and_rate() -> None:
    parts = official(batch_size=512)
    config = from_dict(TrainConfig, converted(parts).info["config"])
    assert config.batch_size == 512
    assert config.optimizer.peak_rate(512) == parts["optimizer"]["param_groups"][0]["initial_lr"] == 2.0


def test_without_warm_up_the_schedule_is_the_cosine_alone(content: Content, caplog: pytest.LogCaptureFixture) -> None:
    cosine = {**content["scheduler"]["after_scheduler"], "T_max": 10 * STEPS, "last_epoch": 3 * STEPS}
    info = converted({**content, "args": official(warmup_epoch=0)["args"], "scheduler": cosine}).info
    assert (info["step"], info["steps_per_epoch"], info["config"]["optimizer"]["warmup_epochs"]) == (6, STEPS, 0)
    assert caplog.text == ""


def test_a_schedule_that_counts_otherwise_is_told(content: Content, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "slotseg"):
        converted(content)
        assert caplog.text == ""
        converted({**content, "scheduler": {**content["scheduler"], "last_epoch": 40, "multiplier": 10}})
    assert "has counted 40 steps and its epochs are 6" in caplog.text
    assert "10-fold" in caplog.text


def test_conversion_leaves_random_numbers_alone(content: Content) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    converted(content)
    assert torch.equal(torch.rand(2), expected)


# what is refused


def without(name: str) -> Callable[[Content], None]:
    return lambda c: c.pop(name)


def option(name: str, value: Any) -> Callable[[Content], None]:
    return lambda c: setattr(c["args"], name, value)


def tensor(name: str, value: Any) -> Callable[[Content], None]:
    return lambda c: c["model"].update({f"module.{name}": value})


def mu(number: int, value: Any) -> Callable[[Content], None]:
    return lambda c: c["optimizer"]["state"].update({number: value})


NO_NUMBER = torch.full((10, 10), float("nan"))
WRONG: dict[str, tuple[Callable[[Content], Any], str]] = {
    "no args": (without("args"), "lacks args; expected args, model"),
    "no optimizer": (without("optimizer"), r"lacks optimizer; .* `slotseg train --init FILE`"),
    "no epoch": (without("epoch"), "lacks epoch"),
    "model is no dict": (lambda c: c.update(model=3), "model is a int; expected values by name"),
    "args is a list": (lambda c: c.update(args=[1]), "args is a list"),
    "an option is a tensor": (option("extra", torch.zeros(2)), "option 'extra' is a Tensor"),
    "an option is missing": (lambda c: delattr(c["args"], "base_lr"), "args lacks base_lr"),
    "arch": (option("arch", "vit_small"), "arch is 'vit_small'; expected one of resnet18"),
    "optimizer": (option("optimizer", "sgd"), "optimizer is 'sgd'; expected lars"),
    "epochs": (option("epochs", 1.5), "epochs is 1.5; expected a whole number"),
    "epochs without end": (option("epochs", 1 << 2000), "epochs is 1148"),
    "a rate that is none": (option("base_lr", float("nan")), "base_lr is nan"),
    "a rate that is huge": (option("base_lr", 10**400), "base_lr is 1000"),
    "warm-up": (option("warmup_epoch", 10), "warmup_epoch is 10 of 10 epochs"),
    "out of range": (option("teacher_momentum", 2), "options are out of range: teacher_momentum is 2"),
    "image size": (option("image_size", 65), "options make no model: image_size is 65"),
    "T_max": (
        lambda c: c["scheduler"]["after_scheduler"].update(T_max=17),
        "17 steps in the 8 epochs after warm-up; expected whole steps per epoch",
    ),
    "no T_max": (lambda c: c["scheduler"]["after_scheduler"].pop("T_max"), "after_scheduler.T_max is None"),
    "epoch": (lambda c: c.update(epoch=11), "epoch is 11 of 10"),
    "epoch 0": (lambda c: c.update(epoch=0), "epoch is 0; expected a whole number of at least 1"),
    "processes": (option("batch_size", 3), "batches of 4 photos, and batch_size is 3 for each process"),
    "rate": (
        lambda c: c["optimizer"]["param_groups"][0].update(initial_lr=0.017),
        "not base_lr 1 for a batch of whole photos",
    ),
    "groups": (lambda c: c["optimizer"].update(param_groups=[]), "expected a list of one group"),
    "numbers": (lambda c: c["optimizer"]["param_groups"][0]["params"].pop(), "parameters; expected the model's"),
    "missing key": (lambda c: c["model"].popitem(), r"model lacks module\.predictor_slot\.mlp\.6\.bias;"),
    "unknown key": (tensor("decoder.weight", torch.zeros(1)), r"unknown key 'module\.decoder\.weight'"),
    "a key twice": (lambda c: c["model"].update({"center": torch.zeros(1, 10)}), "unknown key 'center'"),
    "shape": (tensor("grouping_q.slot_embed.weight", torch.zeros(11, 10)), r"shape \(11, 10\); expected \(10, 10\)"),
    "center": (tensor("center", torch.zeros(2, 10)), r"module\.center has shape \(2, 10\)"),
    "type": (tensor("grouping_q.slot_embed.weight", torch.zeros(10, 10).int()), r"of type torch\.int32; expected"),
    "no tensor": (tensor("grouping_q.slot_embed.weight", 1.5), "slot_embed.weight is 1.5; expected a tensor"),
    "no numbers": (tensor("grouping_k.slot_embed.weight", NO_NUMBER), "holds values that are no numbers"),
    "momentum shape": (mu(0, {"mu": torch.zeros(2)}), r"state\.0\.mu of module\.encoder_q\.conv1\.weight has shape"),
    "momentum no numbers": (mu(0, {"mu": torch.full((64, 3, 7, 7), float("inf"))}), "no numbers"),
    "momentum of the teacher": (mu(62, {"mu": torch.zeros(64, 3, 7, 7)}), r"optimizer\.state\.62 is not what"),
    "momentum of nothing": (mu(999, {"mu": torch.zeros(1)}), r"optimizer\.state\.999"),
    "another state": (mu(0, {"exp_avg": torch.zeros(64, 3, 7, 7)}), r"expected mu of a parameter that is trained"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(content: Content, case: str) -> None:
    optimizer = content["optimizer"]
    changed = {
        **content,
        "args": Namespace(**vars(content["args"])),
        "model": OrderedDict(content["model"]),
        "optimizer": {
            "state": dict(optimizer["state"]),
            "param_groups": [{**g, "params": list(g["params"])} for g in optimizer["param_groups"]],
        },
        "scheduler": {**content["scheduler"], "after_scheduler": dict(content["scheduler"]["after_scheduler"])},
    }
    change, message = WRONG[case]
    change(changed)
    with pytest.raises(CheckpointError, match=message):
        converted(changed)


@pytest.mark.parametrize("whole", [[], torch.zeros(1), {"conv1.weight": torch.zeros(1)}, None])
def test_other_files_are_refused(whole: Any) -> None:
    with pytest.raises(CheckpointError, match="expected"):
        converted(whole)


# the run


def test_an_imported_run_goes_on(photos: Path, tmp_path: Path) -> None:
    content = official(epoch=9)
    torch.save(content, tmp_path / "checkpoint.pth")
    run = import_run(tmp_path / "checkpoint.pth", tmp_path / "run")
    before = checkpoint.load(run.last)
    with pytest.raises(ConfigError, match="was imported without photos"):
        resumed_training(run.path)
    trainer = resumed_training(run.path, Photos([photos]), {"precision": "fp32"}, device="cpu", workers=0)
    learner = trainer.learner
    assert (learner.step, learner.total_steps, learner.warmup_steps) == (18, 20, 4)
    assert learner.learning_rate(18) == schedules.learning_rate(18, base=4 / 256, total_steps=20, warmup_steps=4)
    state, _ = trainer.state()
    assert state.keys() == before.tensors.keys()
    assert all(torch.equal(value, before.tensors[name]) for name, value in state.items())
    trainer.train()
    after = checkpoint.load(run.last)
    assert after.info["step"] == after.info["total_steps"] == 20
    assert after.info["official"] == before.info["official"] == vars(content["args"])
    assert after.info["num_photos"] == 8
    assert not torch.equal(after.tensors["student.prototypes.weight"], before.tensors["student.prototypes.weight"])
    assert resumed_training(run.path, device="cpu", workers=0).learner.step == 20  # its photos are known by now


def test_other_photos_are_refused(file: Path, photos: Path, tmp_path: Path) -> None:
    run = import_run(file, tmp_path / "run")
    with pytest.raises(ConfigError, match="1 steps an epoch and the run had 2; expected 8 photos"):
        resumed_training(run.path, Photos([photos / "0.png", photos / "1.png"]), device="cpu", workers=0)


def test_the_command_line(
    file: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Content
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        done = CliRunner().invoke(main, ["import", str(file)])
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{Path('runs') / f'official-{number}'}\n"
    assert "resnet18, 10 prototypes" in done.stderr
    assert "step 6 of 20, 2 steps an epoch" in done.stderr
    assert "slotseg train PHOTOS --resume runs/official-2" in done.stderr.replace("\\", "/")
    run = tmp_path / "runs" / "official-2"
    assert {p.name for p in run.rglob("*") if p.is_file()} == {"config.json", "last.safetensors", "last.json"}
    written = json.loads((run / "config.json").read_text())
    assert written["official"] == vars(content["args"])
    assert (written["photos"], written["preset"], written["config"]["batch_size"]) == (None, "official", 4)
    for command in (
        ["segment", str(photos / "0.png"), "--checkpoint", str(run), "-o", "mask.png", "--device", "cpu"],
        ["report", str(run)],
        ["doctor", "--checkpoint", str(run)],
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (80, 96)
    assert mask.max() < 10


def test_a_folder_in_use_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = CliRunner().invoke(main, ["import", str(file), "-o", str(tmp_path)])
    assert done.exit_code == 1
    assert "not an empty folder; choose another --out" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("what", ["missing", "foreign", "backbone"])
def test_files_that_make_no_run_leave_no_run(what: str, tmp_path: Path, content: Content) -> None:
    path = tmp_path / "file.pth"
    if what == "foreign":
        path.write_bytes(b"hello")
    if what == "backbone":
        torch.save({"conv1.weight": torch.zeros(1)}, path)
    done = CliRunner().invoke(main, ["import", str(path), "-o", str(tmp_path / "runs" / "new")])
    assert done.exit_code == 1
    assert done.stderr.count(str(path)) == 1
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_cannot_be_written_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, there: bool
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    out = tmp_path / "runs" / "new"
    if there:
        out.mkdir(parents=True)
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises((CheckpointError, KeyboardInterrupt)):
        import_run(file, out)
    assert out.exists() == (tmp_path / "runs").exists() == there
    assert not there or list(out.iterdir()) == []


# a backbone alone


def backbone_only(content: Content) -> dict[str, Tensor]:
    start = "module.encoder_k."
    return {k.removeprefix(start): v for k, v in content["model"].items() if k.startswith(start)}


@pytest.mark.parametrize("form", ["full", "backbone", "wrapped"])
def test_init_takes_the_teachers_backbone(file: Path, tmp_path: Path, content: Content, form: str) -> None:
    teacher = backbone_only(content)
    path = file
    if form != "full":
        path = tmp_path / "backbone.pth"
        torch.save(teacher if form == "backbone" else {"state_dict": teacher}, path)
    weights = read_weights(str(path))
    config = adopt(BackboneConfig(name="resnet18"), weights, named=True)
    assert (weights.arch, weights.name) == ("resnet18" if form == "full" else None, None)
    backbone = Backbone(config)
    load_into(backbone, weights)
    state = backbone.model.state_dict()
    assert state.keys() == teacher.keys()
    assert all(torch.equal(value, teacher[name]) for name, value in state.items())


def test_a_training_starts_from_a_full_checkpoint(file: Path, photos: Path) -> None:
    plan = plan_training(Photos([photos]), {"backbone.init": str(file)})
    assert (plan.config.backbone.name, plan.sources["backbone.name"]) == ("resnet18", "weights")


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_the_backbone_is_torchvisions(arch: str) -> None:
    teacher = backbone_only(official(arch))
    reference = getattr(torchvision.models, arch)(weights=None)
    reference.load_state_dict(teacher, strict=False)
    children = torch.nn.Sequential(*list(reference.children())[:-2])
    backbone = Backbone(BackboneConfig(name=arch))
    backbone.model.load_state_dict(teacher)
    images = torch.randn(2, 3, 96, 70, generator=torch.Generator().manual_seed(1))
    for training in (False, True):
        children.train(training), backbone.train(training)
        with torch.no_grad():
            expected, found = children(images), backbone(images)
        assert expected.std() > 1e-4
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_file_of_the_published_size(tmp_path: Path) -> None:
    whole = official("resnet50", small=False, batch_size=512)
    torch.save(whole, tmp_path / "checkpoint.pth")
    run = import_run(tmp_path / "checkpoint.pth", tmp_path / "run")
    header = checkpoint.read_header(run.last)
    assert (header["config"]["backbone"]["name"], header["config"]["batch_size"]) == ("resnet50", 512)
    tensors = checkpoint.load(run.last).tensors
    expected = whole["model"]["module.encoder_k.layer4.2.conv3.weight"]
    assert torch.equal(tensors["teacher.backbone.model.layer4.2.conv3.weight"], expected)
    assert json.dumps(header["official"]) == json.dumps(vars(whole["args"]))
