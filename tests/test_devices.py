"""Devices and precisions: auto resolved, the impossible refused."""

import pytest
import torch

from slotseg.devices import resolve_device, resolve_precision, resolve_workers
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
    assert resolve_precision(name, device) == expected


def test_half_precision_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is 'fp16' on a CPU; expected fp32 or bf16"):
        resolve_precision("fp16", CPU)


def test_workers() -> None:
    assert resolve_workers(0) == 0
    assert resolve_workers(5) == 5
    assert 1 <= resolve_workers(None) <= 16
