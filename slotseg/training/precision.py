"""The precision of a run: the one asked for, or the faster one in a short measurement."""

import copy
import logging
from functools import partial

import torch

from slotseg import distributed
from slotseg.devices import autocast, resolve_precision, shortest_times
from slotseg.method.model import SlotCon

log = logging.getLogger(__name__)

TRIED_PHOTOS = 8
"""Most photos of the batch on which precisions are compared."""
BF16_GAIN = 1.2
"""Factor by which bf16 has to be faster than fp32 on a CPU to be chosen; less may be noise."""


def choose_precision(
    name: str, model: SlotCon, batch: int, image_size: int, device: torch.device, mapped: bool = False
) -> torch.dtype | None:
    """The autocast type to train in, the same in all processes; None for plain float32.

    On a CPU with instructions for bf16, ``auto`` measures a step of ``model`` in both. bf16 is far faster than float32
    where there are AMX tiles, and slower where there are none.

    Args:
        name: Name of the precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        model: Model on its device; it is left as it is.
        batch: Photos of this process in a step.
        image_size: Side of a view in pixels.
        device: Device of the model.
        mapped: Whether steps are taken on kept maps.

    Raises:
        ConfigError: As ``resolve_precision``.
    """
    if name == "auto" and device.type == "cpu" and _has_bf16():
        times = time_precisions(model, min(batch, TRIED_PHOTOS), image_size, device, mapped)
        fp32, bf16 = distributed.once(lambda: times)  # all processes measure, as a step needs all of them
        name = "bf16" if bf16 * BF16_GAIN < fp32 else "fp32"
        log.info("A step in bf16 takes %.2f times as long as in fp32 here: training in %s", bf16 / fp32, name)
    return resolve_precision(name, device)


def time_precisions(
    model: SlotCon, batch: int, image_size: int, device: torch.device, mapped: bool = False
) -> tuple[float, float]:
    """Seconds of a forward and backward in fp32 and in bf16, on a copy of the model."""
    model = copy.deepcopy(model)
    view = torch.randn(batch, 3, image_size, image_size, device=device).contiguous(memory_format=torch.channels_last)
    if mapped:
        with torch.no_grad():
            view = model.student.backbone(view)
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=device).expand(batch, 4)
    flip = torch.zeros(batch, dtype=torch.bool, device=device)

    def step(precision: torch.dtype | None) -> None:
        with autocast(device, precision):
            output = model((view, view), (box, box), (flip, flip), mapped=mapped)
        output.loss.backward()

    fp32, bf16 = shortest_times(partial(step, None), partial(step, torch.bfloat16))
    return fp32, bf16


def _has_bf16() -> bool:
    """Whether the CPU has instructions for bf16. Builds of torch without oneDNN, as for Macs, cannot tell."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
