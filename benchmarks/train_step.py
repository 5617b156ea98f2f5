"""Time a whole training step against its floor, in one process.

The floor is the work that no implementation can leave out, on the same batch and for both views:
forward and backward of the student's backbone and projector (from the sum of the output), and
the teacher's forward. The step adds scores, slots, alignment, both losses, the predictor, the
centre, the teacher's update and the optimiser. See benchmarks/README.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from slotseg.config import BackboneConfig, ModelConfig, OptimizerConfig, TrainConfig, ViewsConfig
from slotseg.devices import autocast, keep_freed_memory, resolve_device, resolve_precision
from slotseg.eval.report import text_table
from slotseg.method.building import build_model, build_optimizer, compile_networks

SETUPS = [("resnet18", 128, 16), ("resnet50", 224, 8)]


@dataclass(frozen=True)
class Variant:
    """A way to compute the same step."""

    layout: str
    """Memory layout, ``contiguous`` or ``channels_last``."""
    precision: str
    """Number format, ``fp32`` or ``bf16``."""
    keep_memory: bool = True
    """Whether freed memory is kept for the next step (CPU)."""
    compile: bool = False
    """Whether backbones and projectors go through ``torch.compile``."""

    def __str__(self) -> str:
        """Differences from the usual way, as text."""
        extras = [name for name, on in (("memory kept", self.keep_memory), ("compiled", self.compile)) if on]
        return ", ".join([self.layout, self.precision, *extras])


PLAIN = Variant("contiguous", "fp32", keep_memory=False)  # first: memory that is kept once stays kept
VARIANTS = (
    PLAIN,
    Variant("contiguous", "fp32"),
    Variant("channels_last", "fp32"),
    Variant("channels_last", "bf16"),
)
COMPILED = (Variant("channels_last", "fp32", compile=True), Variant("channels_last", "bf16", compile=True))


def main() -> None:
    """Print a table with a row for each setup and variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--setup", nargs=3, action="append", metavar=("BACKBONE", "PIXELS", "BATCH"))
    parser.add_argument("--variant", action="append", help="a part of a variant's name; only those are run")
    parser.add_argument("--compile", action="store_true", help="try torch.compile too")
    options = parser.parse_args()
    setups: list[tuple[str, int, int]] = [(n, int(p), int(b)) for n, p, b in options.setup] if options.setup else SETUPS
    device = resolve_device(options.device)
    rows = [["step", "floor, s", "step, s", "step / floor", "lowest", "highest", "photos/s", "times plain"]]
    measured = []
    for variant in VARIANTS + (COMPILED if options.compile else ()):
        if not options.variant or any(part in str(variant) for part in options.variant):
            if variant.keep_memory and device.type == "cpu":
                keep_freed_memory()
            measured += [(setup, variant, measure(*setup, variant, device, options.repetitions)) for setup in setups]
    plain = {setup: statistics.median(s for _, s in pairs) for setup, variant, pairs in measured if variant == PLAIN}
    for setup, variant, pairs in sorted(measured, key=lambda m: setups.index(m[0])):
        ratios = [step / floor for floor, step in pairs]
        median = statistics.median(step for _, step in pairs)
        row = [statistics.median(floor for floor, _ in pairs), median, statistics.median(ratios)]
        row += [min(ratios), max(ratios)]
        gain = f"{plain[setup] / median:.2f}" if setup in plain else ""
        name = " / ".join(map(str, setup))
        rows.append([f"{name} {variant}", *(f"{x:.3f}" for x in row), f"{setup[2] / median:.1f}", gain])
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    print(text_table(rows))


def measure(
    name: str, pixels: int, batch: int, variant: Variant, device: torch.device, repetitions: int
) -> list[tuple[float, float]]:
    """Seconds of the floor and of the step, in turn. The first two pairs warm up and are left out."""
    floor, step = build(name, pixels, batch, device, variant)
    return [(timed(floor, device), timed(step, device)) for _ in range(repetitions + 2)][2:]


def build(
    name: str, pixels: int, batch: int, device: torch.device, variant: Variant
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Floor and step as functions without arguments, on one model and one batch."""
    config = TrainConfig(
        backbone=BackboneConfig(name=name),
        model=ModelConfig(num_prototypes=256, hidden_dim=4096, projection_dim=256),
        views=ViewsConfig(image_size=pixels),
        optimizer=OptimizerConfig(name="lars", learning_rate=0.1),
        batch_size=batch,
    )
    layout = torch.channels_last if variant.layout == "channels_last" else torch.contiguous_format
    model = build_model(config).to(device).to(memory_format=layout).train()
    if variant.compile:
        compile_networks(model)
    optimizer = build_optimizer(model, config.optimizer)
    views = [torch.randn(batch, 3, pixels, pixels, device=device).to(memory_format=layout) for _ in range(2)]
    images = (views[0], views[1])
    low, high = torch.rand(2, 2, batch, 2, device=device).mul(0.4).unbind()
    boxes = torch.cat([low, 1 - high], dim=2)
    flips = torch.rand(2, batch, device=device) < 0.5
    dtype = resolve_precision(variant.precision, device)

    def floor() -> None:
        optimizer.zero_grad()
        with autocast(device, dtype):
            total = sum(model.student.projector(model.student.backbone(v)).sum() for v in images)
            with torch.no_grad():
                for v in images:
                    model.teacher.projector(model.teacher.backbone(v))
        assert isinstance(total, torch.Tensor)
        torch.autograd.backward(total)

    def step() -> None:
        model.update_teacher(0.99)
        with autocast(device, dtype):
            output = model(images, (boxes[0], boxes[1]), (flips[0], flips[1]))
        model.update_center(output)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()

    return floor, step


def timed(function: Callable[[], None], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
