"""A run's backbone in files that timm, torchvision, detectron2 and mmsegmentation read themselves.

detectron2's names and file are those of its ``tools/convert-torchvision-to-d2.py``. mmsegmentation's plain ResNet has
torchvision's names.
"""

import json
import logging
import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor

import slotseg
from slotseg.config import BackboneConfig
from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange.twins import TrainedBackbone, torchvision_twin
from slotseg.files import missing_space, replacing
from slotseg.networks.backbones import Backbone
from slotseg.runs.folder import name_of

log = logging.getLogger(__name__)

FORMATS = {
    "timm": (".safetensors",),
    "torchvision": (".pth", ".pt", ".safetensors"),
    "detectron2": (".pkl",),
    "mmseg": (".pth",),
}
"""Formats that can be written, with the suffixes of each. The first suffix is the default."""
OLD_NUMPY = (b"cnumpy._core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\n_reconstruct\n")
"""Names of arrays in pickles, NumPy 2's and NumPy 1's. NumPy 2 reads both, NumPy 1 only its own."""

Loading = tuple[str, list[str]]
"""Text on how a file is loaded, and the keys of the other library's model that the file lacks."""


def default_output(source: Path, form: str) -> Path:
    """File ``<run>-<format>`` and a suffix, in the current folder. Numbered checkpoints of a run keep their number."""
    return Path(f"{name_of(source)}-{form}{FORMATS[form][0]}")


def export(backbone: TrainedBackbone, form: str, output: Path, *, overwrite: bool = False) -> None:
    """Write a backbone for another library. How it is loaded there and what differs is logged.

    Args:
        backbone: Backbone. timm takes any, the others a ResNet, ResNeXt or Wide ResNet with torchvision's keys.
        form: Format, one of ``FORMATS``.
        output: File with one of the format's suffixes.
        overwrite: Whether a file that exists is replaced.

    Raises:
        ConfigError: If the library has no such backbone, the suffix is another format's, or the file exists.
        CheckpointError: If the file cannot be written. An older one stays as it was.
    """
    if output.suffix not in FORMATS[form]:
        raise ConfigError(f"{output} has another suffix than files for {form}; expected {' or '.join(FORMATS[form])}")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; expected a new --output, or --overwrite to replace it")
    loading, missing = WRITERS[form](backbone, output)
    for sentence in _differences(backbone.config, form, missing):
        log.warning("%s", sentence)
    log.info("To load it: %s", loading)


def _write_timm(backbone: TrainedBackbone, output: Path) -> Loading:
    config = backbone.config
    Backbone(config)  # an error of ours where this version of timm lacks the model
    whole = timm.create_model(config.name, num_classes=0, **config.options).state_dict()
    missing = [key for key in whole if key not in backbone.state]
    _write(output, backbone, lambda file: file.write_bytes(_safetensors(backbone)))
    used = dict(config.options)
    if config.output_stride is not None:
        used["output_stride"] = config.output_stride
    arguments = "".join(f", {key}={value!r}" for key, value in used.items())
    model = f"timm.create_model({config.name!r}, num_classes=0{arguments}"
    if not missing:
        return f"{model}, checkpoint_path={str(output)!r})", missing
    return f"{model}).load_state_dict(safetensors.torch.load_file({str(output)!r}), strict=False)", missing


def _write_torchvision(backbone: TrainedBackbone, output: Path) -> Loading:
    twin = torchvision_twin(backbone)
    if output.suffix == ".safetensors":
        _write(output, backbone, lambda file: file.write_bytes(_safetensors(backbone)))
        reading = f"safetensors.torch.load_file({str(output)!r})"
    else:
        _write(output, backbone, lambda file: torch.save(_contiguous(backbone), file))
        reading = f"torch.load({str(output)!r}, weights_only=True)"
    return f"torchvision.models.{twin.name}().load_state_dict({reading}, strict=False)", twin.missing


def _write_detectron2(backbone: TrainedBackbone, output: Path) -> Loading:
    twin = torchvision_twin(backbone)
    model = {
        detectron2_name(key): tensor.numpy()
        for key, tensor in _contiguous(backbone).items()
        if not key.endswith("num_batches_tracked")  # its frozen batch norm has none
    }
    content = {"model": model, "__author__": "slotseg", "matching_heuristics": True}
    written = pickle.dumps(content, protocol=3).replace(*OLD_NUMPY, 1)
    _write(output, backbone, lambda file: file.write_bytes(written))
    settings: dict[str, object] = {"MODEL.WEIGHTS": output, "MODEL.RESNETS.DEPTH": twin.depth}
    if twin.depth < 50:
        settings["MODEL.RESNETS.RES2_OUT_CHANNELS"] = 64
    if (twin.groups, twin.width) != (1, 64):
        settings |= {"MODEL.RESNETS.NUM_GROUPS": twin.groups, "MODEL.RESNETS.WIDTH_PER_GROUP": twin.width}
    settings |= {"MODEL.RESNETS.STRIDE_IN_1X1": False, "INPUT.FORMAT": "RGB"}
    settings |= {"MODEL.PIXEL_MEAN": _bytes(twin.config.mean), "MODEL.PIXEL_STD": _bytes(twin.config.std)}
    return shlex.join(str(word) for pair in settings.items() for word in pair), twin.missing


def _write_mmseg(backbone: TrainedBackbone, output: Path) -> Loading:
    twin = torchvision_twin(backbone)
    if twin.groups == 1 and twin.width != 64:
        raise ConfigError(f"mmsegmentation has no {twin.name}; expected a ResNet or ResNeXt, or another format")
    mean, std = _bytes(twin.config.mean), _bytes(twin.config.std)
    meta = {"architecture": twin.name, "slotseg": slotseg.__version__, "mean": mean, "std": std, "bgr_to_rgb": True}
    _write(output, backbone, lambda file: torch.save({"state_dict": _contiguous(backbone), "meta": meta}, file))
    kind = f"'ResNet', depth={twin.depth}"
    if twin.groups > 1:
        kind = f"'ResNeXt', depth={twin.depth}, groups={twin.groups}, base_width={twin.width}"
    settings = (
        f"backbone=dict(type={kind}, init_cfg=dict(type='Pretrained', checkpoint={str(output)!r})), "
        f"data_preprocessor=dict(type='SegDataPreProcessor', mean={mean}, std={std}, bgr_to_rgb=True)"
    )
    return settings, twin.missing


WRITERS: dict[str, Callable[[TrainedBackbone, Path], Loading]] = {
    "timm": _write_timm,
    "torchvision": _write_torchvision,
    "detectron2": _write_detectron2,
    "mmseg": _write_mmseg,
}


def detectron2_name(key: str) -> str:
    """detectron2's name of one of torchvision's keys, as its converter derives it."""
    name = key if key.startswith("layer") else f"stem.{key}"
    name = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    name = re.sub(r"\bbn(\d)", r"conv\1.norm", name)
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def _differences(config: BackboneConfig, form: str, missing: list[str]) -> list[str]:
    """Sentences on what the run does with its weights and the other library does not do by itself."""
    found = []
    if missing:
        found.append(
            f"The run ends with the level it uses: {missing[0]} is not in the file, and so on to the end of the model "
            f"({len(missing)} keys stay as {form} makes them)."
        )
    if config.padding != "zeros":
        found.append(
            f"The run repeats the edges of maps where {form} pads them with zeros: "
            "features near the edges of a photo differ there."
        )
    if config.output_stride is not None and form != "timm":  # the line that loads it there says so
        found.append(
            f"The run dilates its last stages to {config.output_stride} pixels a cell: "
            f"features are the same in {form} only where it is told to, too."
        )
    return found


def _safetensors(backbone: TrainedBackbone) -> bytes:
    """Content of a file with the metadata that ``read_weights`` reads.

    ``save_file`` is not used, as only its owner could read the file.
    """
    config = backbone.config
    metadata = {
        "format": "pt",
        "architecture": config.name,
        "timm_kwargs": json.dumps(dict(config.options)),
        "mean": json.dumps(config.mean),
        "std": json.dumps(config.std),
    }
    return safetensors.torch.save(_contiguous(backbone), metadata=metadata)


def _bytes(values: tuple[float, float, float]) -> list[float]:
    """Mean or std for pixels from 0 to 255."""
    return [round(255 * value, 3) for value in values]


def _contiguous(backbone: TrainedBackbone) -> dict[str, Tensor]:
    return {key: tensor.contiguous() for key, tensor in backbone.state.items()}


def _write(output: Path, backbone: TrainedBackbone, save: Callable[[Path], object]) -> None:
    try:
        with replacing(output) as temporary:
            save(temporary)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError for a full disk
        size = sum(tensor.numel() * tensor.element_size() for tensor in backbone.state.values())
        raise CheckpointError(f"{output} cannot be written: {missing_space(output, size) or error}") from error
