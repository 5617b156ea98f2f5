"""``--precision auto`` on a CPU: decided by a measurement, said, kept when a run goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slotseg.config import TrainConfig
from slotseg.data.views.sources import Scenes
from slotseg.method.model import SlotCon
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.training import precision
from slotseg.training.precision import choose_precision, time_precisions
from slotseg.training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture
def with_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_has_bf16", lambda: True)


@pytest.mark.parametrize(("times", "expected"), [((1.0, 0.5), torch.bfloat16), ((1.0, 0.9), None), ((1.0, 1.7), None)])
@pytest.mark.usefixtures("with_instructions")
def test_bf16_where_it_is_clearly_faster(
    times: tuple[float, float],
    expected: torch.dtype | None,
    tiny_model: Callable[..., SlotCon],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(precision, "time_precisions", lambda *_: times)
    with caplog.at_level("INFO", "slotseg"):
        assert choose_precision("auto", tiny_model(), 4, 64, CPU) == expected
    assert f"bf16 takes {times[1]:.2f} times as long as in fp32 here" in caplog.text


def test_nothing_is_measured_where_there_is_nothing_to_decide(
    tiny_model: Callable[..., SlotCon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "time_precisions", None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", None)  # as in a build without it
    assert choose_precision("auto", tiny_model(), 4, 64, CPU) is None
    monkeypatch.setattr(precision, "_has_bf16", lambda: True)
    assert choose_precision("fp32", tiny_model(), 4, 64, CPU) is None
    assert choose_precision("bf16", tiny_model(), 4, 64, CPU) == torch.bfloat16


def test_measuring_leaves_the_model_as_it_was(tiny_model: Callable[..., SlotCon]) -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert all(seconds > 0 for seconds in time_precisions(model, 2, 64, CPU))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.usefixtures("with_instructions")
def test_a_run_goes_on_in_the_precision_it_was_begun_in(
    tmp_path: Path, tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config({"precision": "auto", "optimizer.warmup_epochs": 0})
    monkeypatch.setattr(precision, "time_precisions", lambda *_: (1.0, 0.5))
    run = RunFolder(tmp_path / "run")
    Trainer(config, Scenes(8), run, device="cpu", workers=0).train()
    monkeypatch.setattr(precision, "time_precisions", lambda *_: (1.0, 2.0))
    resume = checkpoint.load(run.last)
    assert resume.info["computed_in"] == {"device": "cpu", "precision": "bf16"}
    assert Trainer(config, Scenes(8), run, device="cpu", workers=0, resume=resume).learner.precision == torch.bfloat16
    resume.info["computed_in"]["device"] = "cuda"  # it was another machine: measured anew
    assert Trainer(config, Scenes(8), run, device="cpu", workers=0, resume=resume).learner.precision is None
