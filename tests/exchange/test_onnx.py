"""ONNX files, run by onnxruntime: the same labels as torch at every size, and a page that is right."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import slotseg
from slotseg.cli import main
from slotseg.config import BackboneConfig, ModelConfig, TrainConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange.onnx_export import KEY, TOLERANCE, Network, export_onnx, members
from slotseg.files import write_json
from slotseg.labels.label_map import LabelMap, palette
from slotseg.method.building import add_decoder
from slotseg.method.model import Encoder
from slotseg.networks.backbones import Backbone
from slotseg.runs import checkpoint
from slotseg.segment_config import SegmentConfig
from slotseg.segmenting.segmenter import Segmenter
from slotseg.values import to_dict

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("exporting")

PAGE = Path(__file__).parent.parent.parent / "docs" / "exports.md"
SMALL = {"channels": [8, 16, 16, 16], "layers": [1, 1, 1, 1]}
BACKBONES = {
    "resnet": BackboneConfig(name="resnet18", options=SMALL),
    "dilated resnet": BackboneConfig(name="resnet18", options=SMALL, output_stride=8),
    "resnet that repeats edges": BackboneConfig(name="resnet18", options=SMALL, stride=8, padding="replicate"),
    "bottlenecks": BackboneConfig(name="resnet50", options={"layers": [1, 1, 1, 1]}, stride=16),
    "mobilenet": BackboneConfig(name="mobilenetv3_small_050", stride=16, mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.3)),
    "mobilenet that repeats edges": BackboneConfig(name="tf_mobilenetv3_small_minimal_100", padding="replicate"),
    "ViT": BackboneConfig(name="vit_tiny_patch16_224", options={"depth": 2}),
    "ViT of an oblong": BackboneConfig(name="vit_tiny_patch16_224", options={"depth": 1, "img_size": [96, 64]}),
    "DINOv2": BackboneConfig(name="vit_small_patch14_dinov2", options={"depth": 1, "img_size": 56}),
    "DINOv3": BackboneConfig(name="vit_small_patch16_dinov3", options={"depth": 1}),
}
SHAPES = [(1, 64, 64), (3, 64, 96), (1, 37, 131), (3, 90, 50), (1, 1, 1), (1, 224, 224)]


def make(
    backbone: BackboneConfig = BACKBONES["resnet"],
    *,
    labels: LabelMap | None = None,
    segment: SegmentConfig | None = None,
    num_prototypes: int = 12,
    trained: int | None = None,
    decoded: bool = False,
) -> Segmenter:
    """A segmenter whose random network gives maps of several prototypes: they are cells of its own maps."""
    torch.manual_seed(0)
    config = TrainConfig(
        backbone=backbone,
        model=ModelConfig(num_prototypes=num_prototypes, trained_prototypes=trained, hidden_dim=32, projection_dim=16),
        segment=segment or SegmentConfig(),
    )
    network = Backbone(backbone)
    encoder = Encoder(network, network.channels, config.model)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    drawn = images(4, 8 * network.stride, 8 * network.stride)
    with torch.no_grad():
        encoder.train()(drawn)
        cells = encoder.projector(encoder.backbone(drawn)).movedim(1, 3).flatten(0, 2)
        number = config.model.num_trained
        encoder.prototypes.weight.copy_(cells[torch.arange(number) * len(cells) // number])
        encoder.prototypes.weight.add_(0.01 * torch.randn(encoder.prototypes.weight.shape))
    if trained:
        assert encoder.concepts is not None
        encoder.concepts.copy_(torch.cat([torch.arange(num_prototypes), torch.zeros(trained - num_prototypes)]))
    if decoded:
        torch.nn.init.normal_(add_decoder(encoder, torch.arange(1, number, 2)).head.weight, std=0.5)
    return Segmenter(encoder, config, labels=labels, size=96, device="cpu")


def images(batch: int, height: int, width: int) -> Tensor:
    """Blocks of random colours in 8 bits, as floats."""
    drawn = torch.randint(256, (batch, 3, height // 8 + 1, width // 8 + 1), generator=torch.Generator().manual_seed(1))
    return (drawn / 255).repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :height, :width]


def named(num_prototypes: int) -> LabelMap:
    classes = tuple(255 if k == 0 else k % 3 for k in range(num_prototypes))
    return LabelMap(classes=classes, names=("sky", "tree", "café"), colors=palette(3), origin="hungarian")


def exported(segmenter: Segmenter) -> Any:
    export_onnx(segmenter, Path("m.onnx"), overwrite=True)
    return onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])


def run(session: Any, image: Tensor) -> tuple[NDArray[np.float32], NDArray[Any]]:
    scores, classes = session.run(["scores", "classes"], {"image": image.numpy()})
    return scores, classes


def assert_same(segmenter: Segmenter, session: Any, image: Tensor) -> None:
    """Scores and labels are those of the segmenter, but where two classes are within 1e-4 of each other."""
    scores, classes = run(session, image)
    assert (scores.dtype, classes.dtype) == (np.float32, np.uint8)
    height, width = image.shape[2:]
    table = torch.tensor(segmenter.labels.classes)
    for pixels, its_scores, its_classes in zip(image, scores, classes, strict=True):
        photo = (pixels.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        segmenter.scorer.size = min(height, width)  # this photo is at its working size
        expected, _ = segmenter.scores(photo)
        assert its_scores.shape == expected.shape
        assert np.abs(its_scores - expected.numpy()).max() < TOLERANCE
        prototypes = segmenter.prototype_map(photo)
        truth = segmenter.labels.class_map(prototypes)
        assert its_classes.shape == truth.shape == (height, width)
        wrong = torch.from_numpy(its_classes != truth)
        assert wrong.float().mean() <= 1e-4 or wrong.sum() <= 1
        factor = segmenter.stride / segmenter.encoder.points
        upsampled = F.interpolate(expected[None], scale_factor=factor, mode="bilinear")[0]
        upsampled = upsampled[:, :height, :width]
        allowed = table[:, None, None] == torch.from_numpy(its_classes)[None]
        best = upsampled.masked_fill(~allowed, -2).amax(0)
        assert (upsampled.amax(0) - best)[wrong].le(1e-4).all()


# What the file computes


@pytest.mark.parametrize("name", ["resnet", "resnet that repeats edges", "ViT", "DINOv2"])
@pytest.mark.parametrize("trained", [None, 20])
def test_with_a_decoder_the_file_gives_what_is_painted(name: str, trained: int | None) -> None:
    segmenter = make(BACKBONES[name], trained=trained, decoded=True)
    session = exported(segmenter)
    for shape in SHAPES:
        assert_same(segmenter, session, images(*shape))


@pytest.mark.parametrize("name", BACKBONES)
def test_labels_are_torchs_at_every_size(name: str) -> None:
    segmenter = make(BACKBONES[name])
    session = exported(segmenter)
    for batch, height, width in SHAPES:
        assert_same(segmenter, session, images(batch, height, width))
    _, classes = run(session, images(1, 128, 160))
    assert len(np.unique(classes)) > 1


@pytest.mark.parametrize("labels", [None, named(12)], ids=["unnamed", "named"])
@pytest.mark.parametrize("trained", [None, 20], ids=["all", "merged"])
def test_concepts_and_classes_are_in_the_graph(labels: LabelMap | None, trained: int | None) -> None:
    segmenter = make(labels=labels, trained=trained)
    session = exported(segmenter)
    for shape in SHAPES[:4]:
        assert_same(segmenter, session, images(*shape))
    scores, classes = run(session, images(1, 192, 160))
    assert scores.shape == (1, 12, 6, 5)
    assert 1 < len(np.unique(classes)) <= (12 if labels is None else 4)


def test_more_than_255_classes() -> None:
    segmenter = make(num_prototypes=300)
    _, classes = run(exported(segmenter), images(1, 192, 160))
    assert classes.dtype == np.int32
    assert classes.max() > 255
    photo = (images(1, 192, 160)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    segmenter.scorer.size = 160
    assert (classes[0] == segmenter(photo).class_map).mean() > 0.9999


def test_members_of_concepts() -> None:
    assert members(torch.tensor([0, 1, 1, 2, 0, 1])).tolist() == [[0, 4, 0], [1, 2, 5], [3, 3, 3]]


# What is in the file


def test_the_file_says_what_it_holds() -> None:
    segmenter = make(BACKBONES["mobilenet"], labels=named(12))
    session = exported(segmenter)
    model = onnx.load("m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {(o.domain, o.version) for o in model.opset_import} == {("", 18)}
    assert {node.domain for node in model.graph.node} == {""}, "operators that every runtime knows"
    assert [(i.name, i.shape, i.type) for i in (*session.get_inputs(), *session.get_outputs())] == [
        ("image", ["batch", 3, "height", "width"], "tensor(float)"),
        ("scores", ["batch", 12, "cells_down", "cells_across"], "tensor(float)"),
        ("classes", ["batch", "height", "width"], "tensor(uint8)"),
    ]
    found = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    assert LabelMap.from_dict(found, "m.onnx") == segmenter.labels
    assert {key: found[key] for key in ("version", "size", "stride", "mean", "prototypes", "ignore")} == {
        "version": slotseg.__version__,
        "size": 96,
        "stride": 16,
        "mean": [0.5, 0.4, 0.3],
        "prototypes": 12,
        "ignore": 255,
    }
    assert found.keys() == set(re.findall(r"^\| `(\w+)` \|", section(), re.M)), "the page's table"


# The command line, and the page


def section() -> str:
    return re.findall(r"^## ONNX\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)[0]


def make_run(folder: Path, segmenter: Segmenter) -> None:
    tensors = {f"teacher.{key}": tensor for key, tensor in segmenter.encoder.state_dict().items()}
    info = {"kind": "run", "step": 1, "config": to_dict(segmenter.config)}
    checkpoint.save(folder / "checkpoints" / "last.safetensors", tensors, info)
    write_json(folder / "config.json", {})
    write_json(folder / "labels.json", segmenter.labels.to_dict())


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", "onnx", *map(str, arguments)])


def test_the_page_is_right() -> None:
    make_run(Path("runs/coco-1"), make(labels=named(12)))
    result = command()
    assert (result.exit_code, result.stdout) == (0, "coco-1.onnx\n"), result.output
    assert "To run it: onnxruntime.InferenceSession('coco-1.onnx') takes float32 RGB" in result.stderr
    photo = (images(1, 300, 400)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(photo).save("photo.png")
    snippet = re.findall(r"^```python\n(.*?)^```", section(), re.M | re.S)[0].replace("photo.jpg", "photo.png")
    assert "torch" not in snippet
    names: dict[str, Any] = {}
    exec(snippet, names)
    mask = Image.open("mask.png")
    assert (mask.mode, mask.size) == ("P", (400, 300))
    expected = Segmenter.load("runs/coco-1", device="cpu")("photo.png").class_map
    assert (np.asarray(mask) == expected).mean() > 0.95  # edges are of whole working pixels
    same = Segmenter.load("runs/coco-1", device="cpu")(np.asarray(names["small"]))
    assert (names["classes"][0] == same.class_map).mean() > 0.9999
    palette_of_mask = mask.getpalette()
    assert palette_of_mask is not None
    assert palette_of_mask[3:6] == list(palette(3)[1])


def test_a_file_is_replaced_only_if_asked() -> None:
    make_run(Path("runs/one"), make())
    assert command("-o", "here/w.onnx").stdout == "here/w.onnx\n"
    assert "here/w.onnx exists; expected a new --output, or --overwrite" in command("-o", "here/w.onnx").stderr
    assert command("-o", "here/w.onnx", "--overwrite").exit_code == 0
    assert [path.name for path in Path("here").iterdir()] == ["w.onnx"]
    result = command("-o", "w.pt")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        "Error: w.pt has another suffix than files for onnx; expected .onnx",
    )


def test_a_disk_that_is_full(small_disk: Path) -> None:
    output = small_disk / "w.onnx"
    output.write_text("older")
    with pytest.raises(CheckpointError, match=r"w\.onnx cannot be written: .* make room for"):
        export_onnx(make(BackboneConfig(name="resnet18", stride=16)), output, overwrite=True)
    assert output.read_text() == "older"
    assert [p.name for p in small_disk.iterdir()] == ["w.onnx"]


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_extra_one_sentence(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(Path("runs/one"), make())
    monkeypatch.setitem(sys.modules, missing, None)
    result = command()
    assert result.exit_code == 1
    assert f"Error: {missing} cannot be imported" in result.stderr
    assert "pip install 'slotseg[onnx]'" in result.stderr
    assert not Path("one.onnx").exists()


def test_looks_and_refinement_are_said_to_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    export_onnx(make(), Path("plain.onnx"))
    export_onnx(make(segment=SegmentConfig(field_strength=5.0)), Path("of-no-field.onnx"))
    assert "looks once" not in caplog.text
    for name, segment in {"mirrored": SegmentConfig(mirror=True), "refined": SegmentConfig(edges="field")}.items():
        caplog.clear()
        export_onnx(make(segment=segment), Path(f"{name}.onnx"))
        assert "looks once" in caplog.text


# What is refused


def test_a_network_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one would whose trace holds a number that depends on the size."""
    segmenter = make()
    forward = Network.forward

    def traced(self: Network, image: Tensor) -> tuple[Tensor, Tensor]:
        scores, classes = forward(self, image)
        return scores + 0.001 * float(image.shape[3]), classes

    monkeypatch.setattr(Network, "forward", traced)
    with pytest.raises(ConfigError, match=r"resnet18 has other scores in onnxruntime .* expected 0\.0001 at most"):
        export_onnx(segmenter, Path("w.onnx"))
    assert not Path("w.onnx").exists()


def test_what_torch_cannot_export_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = make()
    monkeypatch.setattr(Network, "forward", lambda self, image: (torch.linalg.eigvals(image).real, image))
    with pytest.raises(ConfigError, match=r"torch .* cannot export backbone resnet18 to ONNX"):
        export_onnx(segmenter, Path("w.onnx"))


def test_a_model_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slotseg.exchange.onnx_export.LIMIT", 1000)
    with pytest.raises(ConfigError, match=r"the model takes .* kB; expected at most 1\.0 kB"):
        export_onnx(make(), Path("w.onnx"))
