"""Time a whole training step against its floor, in one process.

The floor is what no implementation can leave out: on the same batch, for both views, forward and
backward of the student's backbone and projector (from the sum of the output), and the teacher's
forward of the same. The step adds scores, slots, alignment, both losses, the predictor, the
centre, the teacher's update and the optimiser. See benchmarks/README.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from slotseg.config import BackboneConfig, ModelConfig, OptimizerConfig, TrainConfig, ViewsConfig
from slotseg.devices import resolve_device, resolve_precision
from slotseg.eval.report import text_table
from slotseg.trainer import build_model, build_optimizer

SETUPS = (("resnet18", 128, 16), ("resnet50", 224, 8))


def main() -> None:
    """Print a table with a row for each setup."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--setup", nargs=3, action="append", metavar=("BACKBONE", "PIXELS", "BATCH"))
    options = parser.parse_args()
    setups = [(n, int(p), int(b)) for n, p, b in options.setup] if options.setup else SETUPS
    device = resolve_device(options.device)
    rows = [["backbone / pixels / batch", "floor, s", "step, s", "ratio", "lowest", "highest", "photos/s"]]
    for name, pixels, batch in setups:
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        floor, step = build(name, pixels, batch, device, options.precision, layout)
        pairs = [(timed(floor, device), timed(step, device)) for _ in range(options.repetitions + 1)][1:]
        ratios = [s / f for f, s in pairs]
        median_step = statistics.median(s for _, s in pairs)
        rows.append(
            [
                f"{name} / {pixels} / {batch}",
                f"{statistics.median(f for f, _ in pairs):.3f}",
                f"{median_step:.3f}",
                f"{statistics.median(ratios):.3f}",
                f"{min(ratios):.3f}",
                f"{max(ratios):.3f}",
                f"{batch / median_step:.1f}",
            ]
        )
    print(f"torch {torch.__version__}, {device}, {options.precision}, {torch.get_num_threads()} threads")
    print(text_table(rows))


def build(
    name: str, pixels: int, batch: int, device: torch.device, precision: str, layout: torch.memory_format
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The floor and the step as functions of nothing, on one model and one batch."""
    config = TrainConfig(
        backbone=BackboneConfig(name=name),
        model=ModelConfig(num_prototypes=256, hidden_dim=4096, projection_dim=256),
        views=ViewsConfig(image_size=pixels),
        optimizer=OptimizerConfig(name="lars", learning_rate=0.1),
        batch_size=batch,
    )
    model = build_model(config).to(device).to(memory_format=layout).train()
    optimizer = build_optimizer(model, config.optimizer)
    views = [torch.randn(batch, 3, pixels, pixels, device=device).to(memory_format=layout) for _ in range(2)]
    images = (views[0], views[1])
    low, high = torch.rand(2, 2, batch, 2, device=device).mul(0.4).unbind()
    boxes = torch.cat([low, 1 - high], dim=2)
    flips = torch.rand(2, batch, device=device) < 0.5
    dtype = resolve_precision(precision, device)

    def autocast() -> AbstractContextManager[object]:
        return torch.autocast(device.type, dtype) if dtype else nullcontext()

    def floor() -> None:
        optimizer.zero_grad()
        with autocast():
            total = sum(model.student.projector(model.student.backbone(v)).sum() for v in images)
            with torch.no_grad():
                for v in images:
                    model.teacher.projector(model.teacher.backbone(v))
        assert isinstance(total, torch.Tensor)
        total.backward()

    def step() -> None:
        model.update_teacher(0.99)
        with autocast():
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
