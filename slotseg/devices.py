"""Devices and precisions by name: ``auto`` resolved, the impossible refused."""

import ctypes
import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch

from slotseg import distributed
from slotseg.errors import ConfigError

T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Where torchrun has started several processes on a machine, ``cuda`` is the GPU of this one.

    Raises:
        ConfigError: If the name is unknown or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and distributed.local_world_size() > 1:
        name = f"cuda:{distributed.local_rank()}"
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

    ``auto`` is bf16 on GPUs that compute in it and on CPUs with matrix tiles for it (AMX), else fp32. A CPU without
    them is slower in bf16. Nothing is timed, so the answer is the same each time, however busy the machine is.

    Args:
        name: Name of the precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        device: Device to compute on.

    Raises:
        ConfigError: If there is no such precision, or fp16 is asked for on a CPU, which has no fast fp16.
    """
    if name == "auto":
        name = "bf16" if _has_fast_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise ConfigError("precision is 'fp16' on a CPU; expected fp32 or bf16 there")
    precisions = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name not in precisions:
        raise ConfigError(f"precision is {name!r}; expected auto, {', '.join(precisions)}")
    return precisions[name]


def autocast(device: torch.device, precision: torch.dtype | None) -> AbstractContextManager[Any]:
    """Compute in a precision within the block; None: plain float32."""
    return torch.autocast(device.type, precision) if precision else nullcontext()


def precision_name(precision: torch.dtype | None) -> str:
    """Name of a precision on the command line: ``fp32``, ``bf16`` or ``fp16``."""
    return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[precision]


def timed(function: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds of a call, the device's work included, and its result."""
    start = time.perf_counter()
    result = function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def keep_freed_memory() -> None:
    """Let this process keep memory that a step frees, for the next step, instead of giving it back to the system.

    A training step allocates the same large blocks again and again; getting each anew from the system, page by page,
    takes a tenth of the step on a CPU. Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt and platform.libc_ver()[0] == "glibc":
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def resolve_workers(workers: int | None) -> int:
    """Number of loader processes; by default one fewer than this process's share of the cores, from 1 to 16."""
    if workers is not None:
        return workers
    return min(16, max(1, num_cores() // distributed.local_world_size() - 1))


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _has_fast_bf16(device: torch.device) -> bool:
    """Whether a device computes faster in bf16, as far as this version of torch can tell."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and tiles is not None and bool(tiles())
