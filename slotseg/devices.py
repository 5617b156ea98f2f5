"""Where to compute and in which precision: ``auto`` resolved, the impossible refused."""

import os

import torch

from slotseg.errors import ConfigError


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        ConfigError: If the name is unknown or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device is {name!r}; expected auto, cpu, cuda, cuda:N or mps") from None
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise ConfigError(f"device {name!r} is not available here; expected one that is, such as cpu")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of a precision on a device, None for plain float32.

    ``auto`` is bf16 on a GPU that computes in it, else fp32.

    Raises:
        ConfigError: If fp16 is asked for on a CPU, which has no fast fp16.
    """
    if name == "auto":
        name = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("precision is 'fp16' on a CPU; expected fp32 or bf16 there")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def resolve_workers(workers: int | None) -> int:
    """Loader processes; by default one per core beside the main process, at most 16."""
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, max(1, cores - 1))
