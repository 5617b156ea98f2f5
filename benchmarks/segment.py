"""Time `slotseg segment` from files to files against its network alone and against the plain way, in one process.

The network alone computes ready batches in memory. The plain way takes one photo at a time: Pillow decodes, the
network sees it at the same working size, all K score maps are upsampled bilinearly, argmax, Pillow saves. Network,
ours and plain alternate. The weights are random, but the scores are like those of a trained network: BatchNorm's
statistics are those of the photos, and the prototypes are k-means of their projected features.

``--start`` compares the wall time of `slotseg segment one.jpg -o mask.png` with that of ``import torch, timm``.
``--network`` compares ways to compute the network alone. See benchmarks/README.md.
"""

import argparse
import copy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from slotseg.config import BackboneConfig, ModelConfig, TrainConfig
from slotseg.data.finding.inputs import Inputs
from slotseg.data.finding.listing import list_images
from slotseg.data.reading.images import read_image
from slotseg.data.scenes import draw_scene
from slotseg.data.views.augment import normalize
from slotseg.eval.report import text_table
from slotseg.exchange.onnx_export import export_onnx
from slotseg.method.model import Encoder
from slotseg.networks.backbones import Backbone
from slotseg.painting.outputs import OutputOptions, Outputs
from slotseg.painting.paint import paint
from slotseg.presets import PRESETS
from slotseg.segmenting.looks import working_size
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.prototypes import kmeans_prototypes

HEIGHT, WIDTH = 480, 640
NUM_PROTOTYPES = 256
CALIBRATION = 32
"""Number of photos that give BatchNorm's statistics and the prototypes."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", action="append", help="timm's name; by default resnet18 and resnet50")
    parser.add_argument("--photos", type=Path, help="folder; by default scenes are drawn")
    parser.add_argument("--limit", type=int, default=200, help="photos")
    parser.add_argument("--rounds", type=int, default=5, help="among which the photos are divided")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--without-plain", action="store_true", help="leave out the plain way, the slowest")
    parser.add_argument("--start", action="store_true", help="measure the start of the command instead")
    parser.add_argument("--network", action="store_true", help="measure ways to compute the network instead")
    options = parser.parse_args()
    backbones = options.backbone or ["resnet18", "resnet50"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.start:
            print(text_table(start_times(folder, options.rounds)))
            return
        photos = list_images(options.photos)[: options.limit] if options.photos else draw(folder, options.limit)
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {len(photos)} photos")
        if options.network:
            for backbone in backbones:
                print(text_table(network_times(make(backbone, photos), photos, options.batch_size, options.rounds)))
            return
        head = "backbone,network ms,ours ms,plain ms,ours / network,lowest,highest,plain / ours,lowest,highest"
        rows = [head.split(",")]
        for backbone in backbones:
            rounds = pipeline_times(backbone, photos, folder / "out", options)
            rows.append([backbone, *summary(rounds)])
        print(text_table(rows))


def draw(folder: Path, number: int) -> list[Path]:
    """JPEG files of drawn scenes."""
    paths = []
    for i in range(number):
        paths.append(folder / "photos" / f"{i}.jpg")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(draw_scene(i, WIDTH)[0][-HEIGHT:]).save(paths[-1], quality=90)
    return paths


@torch.no_grad()
def make(backbone_name: str, photos: list[Path]) -> Segmenter:
    """Segmenter of the preset coco with another backbone. Its scores of these photos are like those after training."""
    config = TrainConfig(backbone=BackboneConfig(name=backbone_name), model=ModelConfig(num_prototypes=NUM_PROTOTYPES))
    torch.manual_seed(0)
    backbone = Backbone(config.backbone)
    encoder = Encoder(backbone, backbone.channels, config.model).train()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    segmenter = Segmenter(encoder, config, device="cpu")
    size = working_size((HEIGHT, WIDTH), segmenter.size)
    pixels = [np.asarray(Image.open(photo).convert("RGB").resize(size[::-1])) for photo in photos[:CALIBRATION]]
    images = normalize(
        torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255, config.backbone.mean, config.backbone.std
    )
    encoder.train()
    encoder.projector(encoder.backbone(images))
    encoder.eval()
    cells = encoder.projector(encoder.backbone(images)).movedim(1, 3).flatten(0, 2)
    directions = F.normalize(cells, dim=1).cpu()
    encoder.prototypes.weight.copy_(kmeans_prototypes(directions, NUM_PROTOTYPES, 0)[0])
    return segmenter


def pipeline_times(
    backbone: str, photos: list[Path], out: Path, options: argparse.Namespace
) -> list[tuple[float, float, float]]:
    """Seconds per photo of network, ours and plain, in turn, after a batch to warm up. Each round has other photos."""
    segmenter = make(backbone, photos)
    batch = ready_batch(segmenter, photos[: options.batch_size])
    contiguous = copy.deepcopy(segmenter.encoder).to(memory_format=torch.contiguous_format)

    @torch.inference_mode()
    def network(some: list[Path]) -> None:
        for start in range(0, len(some), len(batch)):
            segmenter.encoder(batch[: len(some) - start])

    def ours(some: list[Path]) -> None:
        outputs = Outputs(Inputs(some), out / "ours", OutputOptions())
        paint(segmenter, outputs, overwrite=True, batch_size=options.batch_size)

    def plain(some: list[Path]) -> None:
        for photo in some:
            save_plainly(segmenter, contiguous, photo, out / "plain" / f"{photo.stem}.png")

    (out / "plain").mkdir(parents=True, exist_ok=True)
    ways = [network, ours] if options.without_plain else [network, ours, plain]
    for way in ways:
        way(photos[: len(batch)])
    rounds = []
    for i in range(options.rounds):
        some = photos[i :: options.rounds]
        times = [timed(way, some) / len(some) for way in ways]
        rounds.append((times[0], times[1], times[2] if len(times) > 2 else float("nan")))
        print(backbone, *(f"{time:.3f}" for time in rounds[-1]), file=sys.stderr, flush=True)
    return rounds


@torch.inference_mode()
def save_plainly(segmenter: Segmenter, encoder: nn.Module, photo: Path, mask: Path) -> None:
    """Segment one photo and save it in the plain way."""
    image = Image.open(photo).convert("RGB")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous() / 255
    size = working_size((image.height, image.width), segmenter.size)
    pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    pixels = F.pad(pixels, (0, -size[1] % segmenter.stride, 0, -size[0] % segmenter.stride), mode="replicate")
    config = segmenter.config.backbone
    scores = encoder(normalize(pixels, config.mean, config.std))
    covered = (scores.shape[2] * segmenter.stride / size[0], scores.shape[3] * segmenter.stride / size[1])
    whole = (round(image.height * covered[0]), round(image.width * covered[1]))
    best = F.interpolate(scores, whole, mode="bilinear").argmax(dim=1)[0, : image.height, : image.width]
    Image.fromarray(best.numpy().astype(np.uint16)).save(mask)


def ready_batch(segmenter: Segmenter, photos: list[Path]) -> Tensor:
    """Batch that the segmenter makes of some photos for its network."""
    seen: list[Tensor] = []
    handle = segmenter.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    segmenter.batch_scores([read_image(photo) for photo in photos])
    handle.remove()
    return seen[0].contiguous(memory_format=torch.channels_last)


def network_times(segmenter: Segmenter, photos: list[Path], batch_size: int, rounds: int) -> list[list[str]]:
    """Rows of ways to compute the network: milliseconds per photo, and speed relative to channels_last."""
    batch = ready_batch(segmenter, photos[:batch_size])
    ours = segmenter.encoder
    ways: dict[str, Callable[[], object]] = {
        "channels_last": lambda: ours(batch),
        "contiguous": partial(copy.deepcopy(ours).to(memory_format=torch.contiguous_format), batch.contiguous()),
        "bf16": partial(in_bf16, ours, batch),
        "torch.compile": partial(compiled(ours), batch),
        "onnxruntime": in_onnxruntime(segmenter, batch),
    }
    with torch.inference_mode():
        for way in ways.values():
            way()
        times = [[timed(way) for way in ways.values()] for _ in range(rounds)]
    rows = [["network", "ms", "times as fast", "lowest", "highest"]]
    for i, name in enumerate(ways):
        gains = [taken[0] / taken[i] for taken in times]
        milliseconds = 1000 * statistics.median(taken[i] for taken in times) / len(batch)
        rows.append([name, f"{milliseconds:.0f}", *spread(gains)])
    return rows


def in_bf16(encoder: nn.Module, batch: Tensor) -> None:
    """Compute a batch with autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        encoder(batch)


def compiled(encoder: Encoder) -> nn.Module:
    """Copy whose backbone and projector go through ``torch.compile``."""
    encoder = copy.deepcopy(encoder)
    encoder.backbone.compile()
    encoder.projector.compile()
    return encoder


def in_onnxruntime(segmenter: Segmenter, batch: Tensor) -> Callable[[], object]:
    """Scores of the exported network in onnxruntime, with as many threads as torch has."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        export_onnx(segmenter, Path(folder) / "model.onnx")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(Path(folder) / "model.onnx", settings, ["CPUExecutionProvider"])
    image = batch.contiguous().numpy()
    return lambda: session.run(["scores"], {"image": image})


def start_times(folder: Path, rounds: int) -> list[list[str]]:
    """Rows of seconds and ratios of commands in fresh processes, in turn. The first round is not counted."""
    config = PRESETS["tiny"]()
    backbone = Backbone(config.backbone)
    Segmenter(Encoder(backbone, backbone.channels, config.model), config, device="cpu").save(
        folder / "small.safetensors"
    )
    photo = draw(folder, 1)[0]
    segment = ["segment", str(photo), "-o", str(folder / "mask.png"), "--checkpoint", str(folder / "small.safetensors")]
    commands = {
        "import torch, timm": ["-c", "import torch, timm"],
        "slotseg segment one.jpg -o mask.png": ["-m", "slotseg.cli", *segment, "--overwrite"],
    }
    times = []
    for _ in range(rounds + 1):
        times.append([timed(partial(run, command)) for command in commands.values()])
        print(*(f"{time:.2f}" for time in times[-1]), file=sys.stderr, flush=True)
    rows = [["command", "s", "times import torch, timm", "lowest", "highest"]]
    for i, name in enumerate(commands):
        ratios = [taken[i] / taken[0] for taken in times[1:]]
        rows.append([name, f"{statistics.median(taken[i] for taken in times[1:]):.2f}", *spread(ratios)])
    return rows


def run(command: list[str]) -> None:
    """Run Python with arguments in a process of its own."""
    subprocess.run([sys.executable, *command], check=True, capture_output=True)


def summary(rounds: list[tuple[float, float, float]]) -> list[str]:
    """Milliseconds per photo and ratios of a round, as text."""
    times = [f"{1000 * statistics.median(way):.0f}" for way in zip(*rounds, strict=True)]
    return [*times, *spread([o / n for n, o, _ in rounds]), *spread([p / o for _, o, p in rounds])]


def spread(ratios: list[float]) -> list[str]:
    """Median, lowest and highest value, as text."""
    return [f"{ratio:.2f}" for ratio in (statistics.median(ratios), min(ratios), max(ratios))]


def timed(function: Callable[..., object], *arguments: object) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
