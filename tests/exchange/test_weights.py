"""Pretrained weights: what travels with a file, and what is refused."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from slotseg.config import BackboneConfig, TrainConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange import hub
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.method.model import SlotCon
from slotseg.networks.backbones import Backbone
from slotseg.presets import photos
from slotseg.runs import checkpoint
from slotseg.values import to_dict

NAME = "mobilenetv3_small_050"
OPTIONS = {"bn_eps": 1e-3, "pad_type": "same"}
METADATA = {
    "architecture": NAME,
    "timm_kwargs": json.dumps(OPTIONS),
    "mean": "[0.5, 0.4, 0.3]",
    "std": "[0.1, 0.2, 0.3]",
}

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    contents: State = timm.create_model(NAME, **OPTIONS).state_dict()
    return contents


def written(path: Path, state: State, **changes: str) -> Path:
    save_file(state, path, metadata={**METADATA, **changes})
    return path


def loaded(config: BackboneConfig, state: State, source: Path) -> Backbone:
    backbone = Backbone(config)
    load_into(backbone, read_weights(str(source)))
    kept = backbone.model.state_dict()
    assert all(torch.equal(kept[k], state[k]) for k in kept)
    return backbone.eval()


def test_settings_travel_with_a_safetensors_file(tmp_path: Path, state: State) -> None:
    path = written(tmp_path / "w.safetensors", state)
    config = adopt(BackboneConfig(stride=16), read_weights(str(path)), named=False)
    assert config == BackboneConfig(
        name=NAME, stride=16, options=OPTIONS, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3), init=str(path)
    )
    ours = loaded(config, state, path)
    images = torch.randn(1, 3, 64, 64)
    for left_out in OPTIONS:
        without = BackboneConfig(name=NAME, stride=16, options={k: v for k, v in OPTIONS.items() if k != left_out})
        difference = ours(images) - loaded(without, state, path)(images)
        assert difference.norm() > 1e-3 * ours(images).norm(), left_out


def test_half_precision_weights_become_float32(tmp_path: Path, state: State) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    path = written(tmp_path / "w.safetensors", halves)
    backbone = loaded(BackboneConfig(name=NAME), {k: v.to(state[k].dtype) for k, v in halves.items()}, path)
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "args": {"lr": 0.1}},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    ],
    ids=["bare", "state_dict", "model", "module. prefix"],
)
def test_torch_files(tmp_path: Path, state: State, wrap: Callable[[State], dict[str, Any]]) -> None:
    path = tmp_path / "w.pth"
    torch.save(wrap(state), path)
    weights = read_weights(str(path))
    config = adopt(BackboneConfig(name=NAME, stride=16), weights, named=True)
    assert (config.name, config.options) == (NAME, {})
    assert config.mean == timm.get_pretrained_cfg(NAME).mean  # nothing better is known
    loaded(config, state, path)


def test_a_file_that_says_nothing_is_taken_for_the_default_weights(tmp_path: Path, state: State) -> None:
    """Those of timm for the bare name of the network may be others, with another preprocessing."""
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    default = BackboneConfig(name=NAME, stride=16, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    weights = read_weights(str(tmp_path / "model.safetensors"))
    adopted = adopt(default, weights, named=False)
    assert (adopted.name, adopted.mean, adopted.std) == (NAME, default.mean, default.std)
    known = timm.get_pretrained_cfg(NAME)
    assert adopt(default, weights, named=True).mean == known.mean != default.mean


def test_the_default_network_is_configured_as_its_weights_were_trained() -> None:
    default = photos().backbone
    assert default.init is not None
    dino = timm.get_pretrained_cfg(default.init)
    assert (default.mean, default.std) == (dino.mean, dino.std)
    assert timm.get_pretrained_cfg(default.name).mean != dino.mean


def test_layers_left_out_may_be_missing_or_present(tmp_path: Path, state: State) -> None:
    config = BackboneConfig(name=NAME, stride=16)
    needed = Backbone(config).model.state_dict()
    fewer = {k: v for k, v in state.items() if k in needed and not k.endswith("num_batches_tracked")}
    backbone = Backbone(config)
    load_into(backbone, read_weights(str(written(tmp_path / "w.safetensors", fewer))))
    assert all(torch.equal(backbone.model.state_dict()[k], v) for k, v in fewer.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv_stem.weight"), "lack conv_stem.weight;"),
        (lambda s: [s.pop(f"bn1.{k}") for k in ("weight", "bias")], "lack bn1.weight and 1 more;"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "hold unknown extra.weight;"),
        (
            lambda s: s.update({"conv_stem.weight": torch.zeros(8, 3, 3, 3)}),
            r"conv_stem.weight has shape \(8, 3, 3, 3\), expected \(16, 3, 3, 3\)",
        ),
    ],
    ids=["missing", "two missing", "unknown", "shape"],
)
def test_weights_that_do_not_fit_change_nothing(
    tmp_path: Path, state: State, change: Callable[[State], object], message: str
) -> None:
    changed = dict(state)
    change(changed)
    backbone = Backbone(BackboneConfig(name=NAME))
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_into(backbone, read_weights(str(written(tmp_path / "w.safetensors", changed))))
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("asked", "changes", "message"),
    [
        (BackboneConfig(name="resnet18"), {}, f"belong to {NAME}; expected resnet18"),
        (BackboneConfig(name=NAME, options={"pad_type": ""}), {}, "need pad_type='same'; expected no other, got ''"),
        (BackboneConfig(name=NAME), {"mean": "[0.5, 0.5]"}, "unreadable metadata"),
        (BackboneConfig(name=NAME), {"std": "half"}, "unreadable metadata"),
        (BackboneConfig(name=NAME), {"timm_kwargs": "[1]"}, "unreadable metadata"),
        (BackboneConfig(name=NAME), {"timm_kwargs": '{"checkpoint_path": "x.pth"}'}, "options is"),
    ],
)
def test_conflicts_with_a_file_are_refused(
    tmp_path: Path, state: State, asked: BackboneConfig, changes: dict[str, str], message: str
) -> None:
    path = written(tmp_path / "w.safetensors", state, **changes)
    with pytest.raises((CheckpointError, ConfigError), match=message):
        adopt(asked, read_weights(str(path)), named=True)


def test_a_tag_is_no_conflict(tmp_path: Path, state: State) -> None:
    weights = read_weights(str(written(tmp_path / "w.safetensors", state)))
    assert adopt(BackboneConfig(name=f"{NAME}.lamb_in1k"), weights, named=True).name == f"{NAME}.lamb_in1k"


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy", "nested"])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, form: str) -> None:
    path, trace = tmp_path / "w.pth", tmp_path / "ran"
    content: dict[str, Any] = {"conv_stem.weight": Evil(trace)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        content = {"state_dict": content} if form == "nested" else content
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(CheckpointError, match="hold more than tensors"):
        read_weights(str(path))
    assert not trace.exists()
    pickle.loads(pickle.dumps(content))
    assert trace.exists(), "the attack itself must work"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world", bytes(1000), b"\x80\x02}q\x00(X\x05", b"PK\x03\x04" + bytes(60), bytes(range(256)) * 8],
    ids=["empty", "text", "zeros", "cut pickle", "cut zip", "noise"],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights(str(path))


def test_a_cut_safetensors_file_is_refused(tmp_path: Path, state: State) -> None:
    path = written(tmp_path / "w.safetensors", state)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights(str(path))


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"lr": 0.1}, {"model": {"a": torch.zeros(1), "b": 1}}])
def test_tensors_without_keys_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="hold no state dict"):
        read_weights(str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("missing.pth", "neither a file, nor a run, nor a timm model"),
        ("nobody/nothing", "neither a file"),
        ("resnet18.bogus", "timm has no pretrained weights for 'resnet18.bogus'"),
        ("resnet19", "neither a file"),
    ],
)
def test_names_of_nothing_are_refused(init: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_weights(init)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected the folder of a training run"):
        read_weights(str(tmp_path))


def test_a_run_gives_its_teachers_backbone(
    tmp_path: Path, tiny_config: Callable[..., TrainConfig], tiny_model: Callable[..., SlotCon]
) -> None:
    config, model = tiny_config({"backbone.mean": (0.5, 0.5, 0.5)}), tiny_model()
    with torch.no_grad():
        for p in model.teacher.parameters():
            p.add_(1)
    checkpoint.save(
        tmp_path / "checkpoints" / "last.safetensors", model.state_dict(), {"config": to_dict(config), "step": 0}
    )
    weights = read_weights(str(tmp_path))
    adopted = adopt(BackboneConfig(stride=8), weights, named=False)
    assert (adopted.name, adopted.options, adopted.mean) == ("resnet18", config.backbone.options, (0.5, 0.5, 0.5))
    backbone = Backbone(adopted)
    load_into(backbone, weights)
    teacher = model.teacher.backbone.state_dict()
    assert all(torch.equal(v, teacher[k]) for k, v in backbone.state_dict().items())


@pytest.fixture
def hub_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub answers, and what timm would download from it are random weights."""
    create = timm.create_model
    monkeypatch.setattr(hub, "unreachable", lambda repo, seconds: None)
    monkeypatch.setattr(hub, "fetch", lambda repo: None)
    monkeypatch.setattr(timm, "create_model", lambda name, **k: create(name, **{**k, "pretrained": False}))


@pytest.mark.parametrize("error", [FileNotFoundError("not in the cache"), ConnectionError(), RuntimeError("bad hash")])
@pytest.mark.usefixtures("hub_answers")
def test_a_broken_download_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(name: str, *, pretrained: bool, **options: object) -> object:
        if pretrained:
            raise error
        return create(name, pretrained=False)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", broken)
    message = rf"'resnet18.a1_in1k' could not be downloaded \({type(error).__name__}\); .* local file to --init"
    with pytest.raises(CheckpointError, match=message):
        read_weights("resnet18.a1_in1k")


@pytest.mark.usefixtures("hub_answers")
def test_a_download_is_announced_with_its_size(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "slotseg"):
        read_weights("vit_small_patch16_224.dino")
    assert "vit_small_patch16_224.dino: 86.7 MB from huggingface.co/timm/" in caplog.text
    assert "license: apache-2.0" in caplog.text


@pytest.mark.usefixtures("hub_answers")
def test_timms_name_brings_its_preprocessing() -> None:
    name = "vit_tiny_patch16_224.augreg_in21k"
    weights = read_weights(name)
    config = adopt(BackboneConfig(), weights, named=False)
    assert (config.name, config.init, config.mean, config.std) == (name, name, (0.5,) * 3, (0.5,) * 3)
    load_into(Backbone(config), weights)


def test_converted_keras_weights_at_stride_16() -> None:
    folder = os.environ.get("SLOTSEG_WEIGHTS_DIR")
    if not folder:
        pytest.skip("SLOTSEG_WEIGHTS_DIR names no folder with mobilenetv1_100_keras_imagenet.safetensors")
    path = Path(folder) / "mobilenetv1_100_keras_imagenet.safetensors"
    weights = read_weights(str(path))
    config = adopt(BackboneConfig(stride=16), weights, named=False)
    assert (config.name, config.mean, config.std) == ("mobilenetv1_100", (0.5,) * 3, (0.5,) * 3)
    assert config.options == {"bn_eps": 1e-3, "pad_type": "same"}
    backbone = Backbone(config).eval()
    load_into(backbone, weights)
    dense = backbone(torch.zeros(1, 3, 64, 96))
    assert dense.shape == (1, 512, 4, 6)
    assert dense.std() > 0.01
    with pytest.raises(CheckpointError, match=r"lack blocks\.4\.1"):  # its last stage is not complete
        load_into(Backbone(adopt(BackboneConfig(), weights, named=False)), weights)
