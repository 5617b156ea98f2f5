"""Exports, loaded back by the library they are for: the same features, not just the same keys."""

import json
import pickle
import pickletools
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from click.testing import CliRunner, Result
from torch import Tensor, nn

from slotseg.cli import export_command, main
from slotseg.config import BackboneConfig, TrainConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange.exports import FORMATS, default_output, detectron2_name, export
from slotseg.exchange.twins import read_backbone
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.networks.backbones import Backbone
from slotseg.runs import checkpoint
from slotseg.values import to_dict

pytestmark = pytest.mark.usefixtures("exporting")

PAGE = Path(__file__).parent.parent.parent / "docs" / "exports.md"
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)

foreign = pytest.mark.filterwarnings("ignore")
"""The other libraries warn of much that is not ours."""


def make_run(folder: Path, config: BackboneConfig) -> Backbone:
    """A run with a backbone of that kind, random down to its running statistics; returns the backbone."""
    torch.manual_seed(0)
    backbone = Backbone(config).eval()
    with torch.no_grad():
        for name, tensor in backbone.state_dict().items():
            if name.endswith("running_var") or re.search(r"(bn\d|downsample\.1)\.weight", name):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.2)
    tensors = {f"teacher.backbone.{key}": tensor for key, tensor in backbone.state_dict().items()}
    tensors["teacher.prototypes.weight"] = torch.zeros(2, 2)
    info = {"kind": "run", "step": 1, "config": to_dict(TrainConfig(backbone=config))}
    checkpoint.save(folder / "checkpoints" / "last.safetensors", tensors, info)
    (folder / "config.json").write_text("{}")
    return backbone


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def coco(module_path: Path) -> tuple[Path, Backbone]:
    """The run of the page, and its backbone."""
    run = module_path / "coco-1"
    return run, make_run(run, BackboneConfig(name="resnet50"))


def slotseg(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def exported(form: str, config: BackboneConfig, output: str | None = None) -> tuple[Backbone, str]:
    """Ours, and the line that loads the file."""
    ours = make_run(Path("runs/one"), config)
    result = slotseg(form, *(["-o", output] if output else []))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{output or f'one-{form}{FORMATS[form][0]}'}\n"
    return ours, re.findall("^To load it: (.*)$", result.stderr, re.M)[0]


def same(ours: Tensor, theirs: Tensor) -> bool:
    assert ours.shape == theirs.shape
    assert ours.std() > 1e-3
    return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(ours.abs().max()))


def last_map(model: Any, images: Tensor) -> Tensor:
    """The deepest feature map of a timm model."""
    dense: Tensor = model.eval().forward_intermediates(images, intermediates_only=True)[-1]
    return dense


def snippet(title: str) -> str:
    """The first Python block below a title of the page."""
    found = re.search(rf"^## {title}\n.*?^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert found
    return found[1]


# What the libraries read


@pytest.mark.parametrize(
    "config",
    [
        BackboneConfig(name="resnet18", options={"channels": [8, 16, 16, 16], "layers": [1, 1, 1, 1]}),
        BackboneConfig(name="resnet18", output_stride=8),
        BackboneConfig(name="vit_tiny_patch16_224", options={"img_size": [96, 64]}),
    ],
    ids=["options", "dilated", "ViT"],
)
def test_timm_takes_the_line_on_the_log(config: BackboneConfig, images: Tensor) -> None:
    ours, line = exported("timm", config)
    if config.name.startswith("vit"):
        ours.norm = False  # forward_intermediates leaves out the norm unless asked
    model = eval(line, {"timm": timm})
    assert same(ours(images), last_map(model, images))


def test_timm_takes_a_part_of_a_model(images: Tensor) -> None:
    options = {"bn_eps": 1e-3, "pad_type": "same"}
    ours, line = exported("timm", BackboneConfig(name="mobilenetv3_small_050", stride=16, options=options))
    creation, reading = re.fullmatch(r"(.*)\.(load_state_dict\(.*\))", line).groups()  # type: ignore[union-attr]
    model = eval(creation, {"timm": timm})
    lacking = eval(f"model.{reading}", {"model": model, "safetensors": safetensors})
    assert not lacking.unexpected_keys
    assert {key.split(".")[0] for key in lacking.missing_keys} == {"blocks", "conv_head"}
    theirs = model.eval().forward_intermediates(images, intermediates_only=True)[ours.stage]
    assert same(ours(images), theirs)


@pytest.mark.parametrize("form", ["timm", "torchvision"])
def test_a_file_starts_another_run(form: str, images: Tensor) -> None:
    config = BackboneConfig(name="resnet18", mean=MEAN, std=STD)
    ours, _ = exported(form, config, "here/w.safetensors")
    weights = read_weights("here/w.safetensors")
    adopted = adopt(BackboneConfig(), weights, named=False)
    assert (adopted.name, adopted.options, adopted.mean, adopted.std) == ("resnet18", {}, MEAN, STD)
    again = Backbone(adopted).eval()
    load_into(again, weights)
    assert torch.equal(again(images), ours(images))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("resnet18", "pth"), ("resnet18", "pt"), ("resnet18", "safetensors"), ("resnext50_32x4d.tv2_in1k", "pth")],
)
def test_torchvision_takes_the_line_on_the_log(name: str, suffix: str, images: Tensor) -> None:
    ours, line = exported("torchvision", BackboneConfig(name=name), f"w.{suffix}")
    creation, reading = re.fullmatch(r"(.*)\.(load_state_dict\(.*\))", line).groups()  # type: ignore[union-attr]
    model = eval(creation, {"torchvision": torchvision})
    lacking = eval(f"model.{reading}", {"model": model, "torch": torch, "safetensors": safetensors})
    assert set(lacking.missing_keys) == {"fc.weight", "fc.bias"}
    assert not lacking.unexpected_keys
    model.avgpool = model.fc = nn.Identity()
    assert same(ours(images).flatten(1), model.eval()(images))


def test_torchvision_dilates_as_the_page_says(images: Tensor) -> None:
    arguments = re.findall(r"`(replace_stride_with_dilation=.*?)`", PAGE.read_text())[0]
    ours, _ = exported("torchvision", BackboneConfig(name="resnet50", output_stride=16))
    model = eval(f"torchvision.models.resnet50({arguments})", {"torchvision": torchvision})
    model.load_state_dict(torch.load("one-torchvision.pth", weights_only=True), strict=False)
    model.avgpool = model.fc = nn.Identity()
    assert same(ours(images).flatten(1), model.eval()(images))


@foreign
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "wide_resnet50_2"])
def test_detectron2_takes_the_line_on_the_log(name: str, images: Tensor) -> None:
    modeling = pytest.importorskip("detectron2.modeling", exc_type=ImportError)
    from detectron2.checkpoint import DetectionCheckpointer  # type: ignore[import-not-found]
    from detectron2.config import get_cfg  # type: ignore[import-not-found]
    from detectron2.layers import ShapeSpec  # type: ignore[import-not-found]

    ours, line = exported("detectron2", BackboneConfig(name=name, mean=MEAN, std=STD))
    cfg = get_cfg()
    cfg.merge_from_list(shlex.split(line))
    assert cfg.MODEL.PIXEL_MEAN == [127.5, 102.0, 76.5]
    assert cfg.MODEL.PIXEL_STD == [63.75, 51.0, 76.5]
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    backbone = modeling.build_resnet_backbone(cfg, ShapeSpec(channels=3))
    incompatible = DetectionCheckpointer(nn.ModuleDict({"backbone": backbone})).load(cfg.MODEL.WEIGHTS)
    assert incompatible["__author__"] == "slotseg"
    assert same(ours(images), backbone.eval()(images)["res5"])


@foreign
@pytest.mark.parametrize("library", ["mmseg", "mmpretrain"])
@pytest.mark.parametrize(("name", "kind"), [("resnet18", "ResNet"), ("resnext50_32x4d", "ResNeXt")])
def test_mmseg_and_mmpretrain_take_the_line_on_the_log(library: str, name: str, kind: str, images: Tensor) -> None:
    backbones = pytest.importorskip(f"{library}.models.backbones", exc_type=ImportError)
    ours, line = exported("mmseg", BackboneConfig(name=name, mean=MEAN, std=STD))
    settings = eval(f"dict({line})")
    assert settings["backbone"].pop("type") == kind
    if library == "mmpretrain" and kind == "ResNeXt":
        settings["backbone"]["width_per_group"] = settings["backbone"].pop("base_width")
    model = getattr(backbones, kind)(**settings["backbone"], out_indices=(3,))
    model.init_weights()
    model.eval()  # returns nothing
    assert same(ours(images), model(images)[-1])
    if library == "mmseg":
        from mmseg.models import SegDataPreProcessor  # type: ignore[import-not-found]

        assert settings["data_preprocessor"].pop("type") == "SegDataPreProcessor"
        photo = torch.randint(256, (3, 8, 8), dtype=torch.uint8)
        seen = SegDataPreProcessor(**settings["data_preprocessor"])({"inputs": [photo.flip(0)]})["inputs"][0]
        expected = (photo / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        assert torch.allclose(seen, expected, atol=1e-5)


@foreign
def test_mmseg_dilates_as_the_page_says(images: Tensor) -> None:
    backbones = pytest.importorskip("mmseg.models.backbones", exc_type=ImportError)
    arguments = re.findall(r"`(strides=.*?)`", PAGE.read_text())[0]
    ours, line = exported("mmseg", BackboneConfig(name="resnet50", output_stride=16))
    settings = eval(f"dict({line})")["backbone"]
    model = backbones.ResNet(depth=settings["depth"], init_cfg=settings["init_cfg"], **eval(f"dict({arguments})"))
    model.init_weights()
    model.eval()
    assert same(ours(images), model(images)[-1])


@foreign
@pytest.mark.parametrize(
    ("title", "form", "needed"),
    [
        ("timm", "timm", "timm"),
        ("torchvision", "torchvision", "torchvision"),
        ("detectron2", "detectron2", "detectron2.modeling"),
        ("mmsegmentation", "mmseg", "mmseg.models"),
    ],
)
def test_the_page_is_right(
    title: str, form: str, needed: str, coco: tuple[Path, Backbone], images: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(needed, exc_type=ImportError)
    run, ours = coco
    assert slotseg(form, "--checkpoint", run).exit_code == 0
    names = {"images": images}
    exec(snippet(title), names)
    assert same(ours(images), names["features"])
    if title == "torchvision":
        assert "missing_keys=['fc.weight', 'fc.bias'], unexpected_keys=[]" in capsys.readouterr().out


# What is in the files, without the libraries


def names_of_detectron2(blocks: list[int], convs: int, first_has_shortcut: bool) -> set[str]:
    """Parameters and buffers of detectron2's ResNet, written down from its classes."""
    layers = ["stem.conv1"]
    for stage, number in enumerate(blocks):
        for block in range(number):
            layers += [f"res{stage + 2}.{block}.conv{i + 1}" for i in range(convs)]
            if block == 0 and (stage > 0 or first_has_shortcut):
                layers.append(f"res{stage + 2}.{block}.shortcut")
    norm = ("weight", "bias", "running_mean", "running_var")
    return {f"{x}.weight" for x in layers} | {f"{x}.norm.{key}" for x in layers for key in norm}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet18", ([2, 2, 2, 2], 2, False)), ("resnet50", ([3, 4, 6, 3], 3, True))],
)
def test_the_file_for_detectron2(name: str, expected: tuple[list[int], int, bool]) -> None:
    ours, _ = exported("detectron2", BackboneConfig(name=name))
    written = Path("one-detectron2.pkl").read_bytes()
    used = {argument for opcode, argument, _ in pickletools.genops(written) if opcode.name == "GLOBAL"}
    assert used == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}, "NumPy 1 and 2 have these"
    assert not any(op.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ") for op, _, _ in pickletools.genops(written))
    content = pickle.loads(written, encoding="latin1")
    assert (content["__author__"], content["matching_heuristics"]) == ("slotseg", True)
    assert content["model"].keys() == names_of_detectron2(*expected)
    for key, tensor in ours.model.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            array = content["model"][detectron2_name(key)]
            assert array.dtype == np.float32
            assert array.flags.writeable, "torch.from_numpy warns otherwise"
            assert np.array_equal(array, tensor.numpy())


def test_the_file_for_mmseg() -> None:
    ours, _ = exported("mmseg", BackboneConfig(name="resnet18", mean=MEAN, std=STD))
    content = torch.load("one-mmseg.pth", weights_only=True)
    state = ours.model.state_dict()
    assert (
        content["state_dict"].keys()
        == state.keys()
        == torchvision.models.resnet18().state_dict().keys()
        - {
            "fc.weight",
            "fc.bias",
        }
    )
    assert all(torch.equal(content["state_dict"][key], tensor) for key, tensor in state.items())
    assert content["meta"]["mean"] == [127.5, 102.0, 76.5]
    assert content["meta"]["bgr_to_rgb"]


def test_the_file_for_timm_says_what_it_holds() -> None:
    options = {"channels": [8, 16, 16, 16]}
    exported("timm", BackboneConfig(name="resnet18", options=options, mean=MEAN))
    with safetensors.safe_open("one-timm.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["architecture"], json.loads(metadata["timm_kwargs"])) == ("resnet18", options)
    assert json.loads(metadata["mean"]) == list(MEAN)


# What is said and refused


@pytest.mark.parametrize(
    ("form", "changes", "said"),
    [
        ("torchvision", {"padding": "replicate"}, "repeats the edges of maps where torchvision pads them with zeros"),
        ("timm", {"padding": "replicate"}, "repeats the edges of maps where timm pads them with zeros"),
        ("mmseg", {"output_stride": 8}, "dilates its last stages to 8 pixels a cell"),
        ("detectron2", {"stride": 8}, "layer3.0.conv1.weight is not in the file"),
        ("timm", {"stride": 8}, "layer3.0.conv1.weight is not in the file"),
    ],
)
def test_what_differs_there_is_said(form: str, changes: dict[str, Any], said: str) -> None:
    make_run(Path("runs/one"), BackboneConfig(name="resnet18", **changes))
    result = slotseg(form)
    assert result.exit_code == 0, result.output
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 3


def test_a_plain_run_is_only_exported() -> None:
    make_run(Path("runs/one"), BackboneConfig(name="resnet18"))
    for form in FORMATS:
        assert len(slotseg(form).stderr.splitlines()) == 2
    modes = {path.stat().st_mode for path in Path().glob("one-*")}
    Path("plain").touch()
    assert modes == {Path("plain").stat().st_mode}, "others may read what is handed to them"


@pytest.mark.parametrize(
    ("config", "form", "message"),
    [
        (BackboneConfig(name="vit_tiny_patch16_224"), "torchvision", r"no counterpart .* expected one of .*resnet18"),
        (BackboneConfig(name="resnet26"), "detectron2", "no counterpart"),
        (BackboneConfig(name="resnet18", options={"channels": [8, 8, 8, 8]}), "mmseg", r"differs in layer1.0.conv1"),
        (BackboneConfig(name="resnet18", options={"layers": [1, 1, 1, 1]}), "torchvision", r"differs in layer1.1"),
        (BackboneConfig(name="resnet18", options={"layers": [3, 2, 2, 2]}), "torchvision", r"differs in layer1.2"),
        (BackboneConfig(name="resnet18", options={"act_layer": "silu"}), "mmseg", "differs in what it computes"),
        (BackboneConfig(name="resnet18", options={"output_stride": 8}), "detectron2", "differs in what it computes"),
        (BackboneConfig(name="wide_resnet50_2", stride=4), "mmseg", "mmsegmentation has no wide_resnet50_2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_networks_are_refused(config: BackboneConfig, form: str, message: str) -> None:
    make_run(Path("runs/one"), config)
    with pytest.raises(ConfigError, match=message):
        export(read_backbone(None), form, Path(f"w{FORMATS[form][0]}"))
    assert not Path(f"w{FORMATS[form][0]}").exists()


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("timm", "w.pth", r"w.pth has another suffix than files for timm; expected \.safetensors"),
        ("torchvision", "w.pkl", r"expected \.pth or \.pt or \.safetensors"),
        ("detectron2", "w.pth", r"expected \.pkl"),
        ("mmseg", "w", r"expected \.pth"),
        ("timm", "there.safetensors", "there.safetensors exists; expected a new --output, or --overwrite"),
    ],
)
def test_wrong_outputs_are_refused(form: str, name: str, message: str) -> None:
    make_run(Path("runs/one"), BackboneConfig(name="resnet18", stride=4))
    Path("there.safetensors").write_text("mine")
    with pytest.raises(ConfigError, match=message):
        export(read_backbone(None), form, Path(name))
    assert Path("there.safetensors").read_text() == "mine"


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_is_full(form: str, small_disk: Path) -> None:
    make_run(Path("runs/one"), BackboneConfig(name="resnet18"))
    output = small_disk / f"w{FORMATS[form][0]}"
    output.write_text("older")
    with pytest.raises(CheckpointError, match=r"cannot be written: .* make room for"):
        export(read_backbone(None), form, output, overwrite=True)
    assert output.read_text() == "older"
    assert [p.name for p in small_disk.iterdir()] == [output.name]


def test_a_file_is_replaced_if_asked() -> None:
    make_run(Path("runs/one"), BackboneConfig(name="resnet18", stride=4))
    assert slotseg("timm").exit_code == 0
    assert "--overwrite" in slotseg("timm").stderr
    assert slotseg("timm", "--overwrite").exit_code == 0


def test_without_a_run_one_sentence() -> None:
    assert "there is no run under" in slotseg("timm").stderr
    result = slotseg("timm", "--checkpoint", "nowhere")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: nowhere is not a file; expected a checkpoint such as runs/NAME\n",
    )
    assert slotseg("onyx").exit_code == 2


def test_a_backbone_that_is_not_timms_is_refused() -> None:
    info = {"config": to_dict(TrainConfig())}
    checkpoint.save(Path("own.safetensors"), {"teacher.backbone.conv.weight": torch.zeros(1)}, info)
    with pytest.raises(CheckpointError, match="holds no backbone of timm's"):
        read_backbone(Path("own.safetensors"))


def test_default_names(tiny_config: Callable[..., TrainConfig]) -> None:
    make_run(Path("runs/one"), tiny_config().backbone)
    last = Path("runs/one/checkpoints/last.safetensors")
    assert default_output(last, "timm") == Path("one-timm.safetensors")
    assert default_output(last.with_name("step-00000100.safetensors"), "mmseg") == Path("one-step-00000100-mmseg.pth")
    assert default_output(Path("model.safetensors"), "detectron2") == Path("model-detectron2.pkl")


def test_the_command_knows_every_format() -> None:
    assert (*FORMATS, "onnx") == export_command.FORMATS
