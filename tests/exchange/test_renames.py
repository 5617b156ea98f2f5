"""Weights under the names of other libraries give the features of these, or those of timm's own."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torchvision.models import VisionTransformer

from slotseg.config import BackboneConfig
from slotseg.errors import ConfigError
from slotseg.exchange import misfits
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.networks.backbones import Backbone

State = dict[str, Tensor]

VIT = BackboneConfig(name="vit_tiny_patch16_224", options={"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 64})
DINOV2 = BackboneConfig(
    name="vit_small_patch14_dinov2", options={"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": 56}
)
CONVNEXT = BackboneConfig(name="convnext_atto", options={"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]})


def state_of(config: BackboneConfig) -> State:
    torch.manual_seed(0)
    state = timm.create_model(config.name, num_classes=0, **config.options).state_dict()
    return {key: torch.randn_like(value) for key, value in state.items()}


def loaded(content: object, config: BackboneConfig, folder: Path) -> tuple[Backbone, str]:
    torch.save(content, folder / "w.pth")
    backbone = Backbone(config).eval()
    return backbone, load_into(backbone, read_weights(str(folder / "w.pth")))


def by(rules: dict[str, Any], state: State) -> State:
    """A state with each rule's pattern replaced in its keys, one rule after the other."""
    theirs = {}
    for key, tensor in state.items():
        name = key
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        theirs[name] = tensor
    return theirs


def hugging_face(state: State) -> State:
    """timm's ViT under the names that transformers gives it, DINOv2's where it has layer scales."""
    v2 = any(".ls1." in key for key in state)
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "blocks": "encoder.layer",
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        **({} if v2 else {".norm1": ".layernorm_before", ".norm2": ".layernorm_after"}),
        **({} if v2 else {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}),
    }
    theirs: State = {}
    for key, tensor in state.items():
        name = re.sub("^norm", "layernorm", key)
        for ours, other in names.items():
            name = name.replace(ours, other)
        if "attn.qkv" in name:
            for part, each in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                theirs[name.replace("attn.qkv", f"attention.attention.{part}")] = each
        else:
            theirs[name] = tensor
    return theirs


def of_the_authors(state: State) -> State:
    """timm's ConvNeXt under the names of its authors' code."""
    rules = {
        r"^head\.norm": "norm",
        r"^stem\.": "downsample_layers.0.",
        r"^stages\.(\d)\.downsample": r"downsample_layers.\1",
        r"\.blocks\.": ".",
        r"conv_dw": "dwconv",
        r"mlp\.fc": "pwconv",
    }
    return by(rules, state)


def of_transformers(state: State) -> State:
    """timm's ConvNeXt under the names that transformers gives it."""
    rules = {
        r"^head\.norm": "layernorm",
        r"^stem\.0": "embeddings.patch_embeddings",
        r"^stem\.1": "embeddings.layernorm",
        r"^stages\.(\d)\.downsample": r"encoder.stages.\1.downsampling_layer",
        r"^stages\.(\d)\.blocks": r"encoder.stages.\1.layers",
        r"conv_dw": "dwconv",
        r"(layers\.\d)\.norm": r"\1.layernorm",
        r"mlp\.fc": "pwconv",
        r"gamma": "layer_scale_parameter",
    }
    return by(rules, state)


def in_memory(state: State) -> State:
    """timm's ViT under the names that modules of transformers 5 have, and files do not."""
    rules = {
        r"encoder\.layer": "layers",
        r"attention\.attention\.(query|key|value)": lambda found: f"attention.{found[1][0]}_proj",
        r"attention\.output\.dense": "attention.o_proj",
        r"intermediate\.dense": "mlp.fc1",
        r"\.output\.dense": ".mlp.fc2",
    }
    return by(rules, hugging_face(state))


BESIDE = {"pooler.dense.weight": torch.ones(2, 2), "embeddings.mask_token": torch.zeros(1, 24)}


@pytest.mark.parametrize(
    ("config", "rename", "a_name", "words"),
    [
        (VIT, hugging_face, "encoder.layer.1.attention.attention.value.bias", "transformers"),
        (DINOV2, hugging_face, "encoder.layer.1.layer_scale2.lambda1", "transformers"),
        (VIT, in_memory, "layers.1.attention.v_proj.bias", "transformers"),
        (CONVNEXT, of_transformers, "encoder.stages.2.layers.1.layer_scale_parameter", "transformers"),
        (CONVNEXT, of_the_authors, "stages.2.1.pwconv1.weight", "ConvNeXt's authors"),
    ],
    ids=["ViT", "DINOv2", "ViT in memory", "ConvNeXt", "ConvNeXt of its authors"],
)
@pytest.mark.parametrize("prefix", ["", "vit."])
def test_renamed_weights_are_timms_own(
    config: BackboneConfig, rename: Callable[[State], State], a_name: str, words: str, prefix: str, tmp_path: Path
) -> None:
    right = state_of(config)
    theirs = rename(right) | (BESIDE if rename is hugging_face else {"head.weight": torch.ones(2, 2)})
    assert a_name in theirs
    backbone, said = loaded({prefix + key: value for key, value in theirs.items()}, config, tmp_path)
    assert all(torch.equal(value, right[key]) for key, value in backbone.model.state_dict().items())
    assert said.startswith("keys renamed from those of ")
    assert words in said


def test_torchvisions_vit_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = VisionTransformer(64, 16, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=96, num_classes=5).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    backbone, said = loaded(theirs.state_dict(), VIT, tmp_path)
    assert said == "keys renamed from torchvision's"
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens = theirs.encoder(torch.cat([theirs.class_token.expand(2, -1, -1), theirs._process_input(images)], dim=1))
        torch.testing.assert_close(backbone(images).flatten(2).mT, tokens[:, 1:], rtol=1e-4, atol=1e-5)


def test_a_model_is_known_by_the_names_of_others_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misfits, "USUAL", {"attn.qkv.weight": ("vit_tiny_patch16_224",)})
    with torch.device("meta"):
        shapes = timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()
    theirs = hugging_face({key: torch.zeros(value.shape) for key, value in shapes.items()})
    torch.save(theirs, tmp_path / "w.pth")
    weights = read_weights(str(tmp_path / "w.pth"))
    with pytest.raises(ConfigError, match="their keys are those of vit_tiny_patch16_224; expected --backbone vit_tiny"):
        adopt(BackboneConfig(name="vit_small_patch16_224", stride=16), weights, named=False)
    incomplete = {key: value for key, value in theirs.items() if "attention.key.weight" not in key}
    torch.save(incomplete, tmp_path / "w.pth")
    weights = read_weights(str(tmp_path / "w.pth"))
    with pytest.raises(ConfigError, match="do not fit vit_small_patch16_224: they hold cls_token"):
        adopt(BackboneConfig(name="vit_small_patch16_224", stride=16), weights, named=False)
