"""Devices and precisions: auto resolved, the impossible refused."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from slotseg.devices import (
    precision_name,
    resolve_device,
    resolve_precision,
    resolve_workers,
)
from slotseg.errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_is_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device() == CUDA
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cpu") == CPU
    with pytest.raises(ConfigError, match="'cuda:2' is not available here"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "device is 'gpu'; expected auto, cpu"),
        ("", "expected auto, cpu"),
        ("cuda:x", "expected auto, cpu"),
        ("cuda", "'cuda' is not available here"),
        ("mps", "'mps' is not available here"),
        ("meta", "'meta' is not available here"),
    ],
)
def test_the_impossible_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=message):
        resolve_device(name)


@pytest.mark.parametrize(
    ("name", "device", "has_bf16", "expected"),
    [
        ("auto", CPU, True, None),
        ("auto", CUDA, True, torch.bfloat16),
        ("auto", CUDA, False, None),
        ("fp32", CUDA, True, None),
        ("bf16", CPU, True, torch.bfloat16),
        ("fp16", CUDA, True, torch.float16),
    ],
)
def test_precisions(
    monkeypatch: pytest.MonkeyPatch, name: str, device: torch.device, has_bf16: bool, expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert resolve_precision(name, device) == expected


def test_half_precision_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is 'fp16' on a CPU; expected fp32 or bf16"):
        resolve_precision("fp16", CPU)


def test_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert resolve_workers(0) == 0
    assert resolve_workers(5) == 5
    assert resolve_workers(None) == 11
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # torchrun's processes share the cores
    assert resolve_workers(None) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "40")
    assert resolve_workers(None) == 1


def test_each_of_torchrun_s_processes_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert resolve_device() == CUDA  # alone, whatever the variable says
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert resolve_device() == resolve_device("cuda") == torch.device("cuda:3")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_names_of_precisions_go_both_ways(name: str) -> None:
    assert precision_name(resolve_precision(name, CUDA)) == name


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_is_freed_and_needed_again_costs_no_page_faults() -> None:
    """In a process of its own, as it can't be taken back."""
    code = """
import resource, torch
from slotseg.devices import keep_freed_memory
keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): torch.ones(16 << 20)
before = faults()
for _ in range(5): torch.ones(16 << 20)
print(faults() - before)
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", c], stdout=subprocess.PIPE, text=True)
        for c in (code, code.replace("keep_freed_memory()", ""))
    ]
    kept, given_back = (run.communicate(timeout=120)[0] for run in runs)
    assert int(kept) < 1000 < 10_000 < int(given_back)


@pytest.mark.parametrize(
    ("name", "tiles", "expected"),
    [("auto", True, torch.bfloat16), ("auto", False, None), ("fp32", True, None), ("bf16", False, torch.bfloat16)],
)
def test_a_cpu_takes_bf16_where_there_are_tiles_for_it(
    name: str, tiles: bool, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles, raising=False)
    assert resolve_precision(name, CPU) == expected


def test_a_torch_that_cannot_tell_of_tiles_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert resolve_precision("auto", CPU) is None


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is 'int8'; expected auto, fp32, bf16, fp16"):
        resolve_precision("int8", CPU)
