"""timm models as dense extractors: level, stride, what is left out, what is refused."""

import copy
from typing import Any

import pytest
import timm
import torch

from slotseg.config import BackboneConfig
from slotseg.errors import ConfigError
from slotseg.networks.backbones import Backbone

LEVELS: list[tuple[dict[str, Any], tuple[int, int], str]] = [  # settings, (channels, stride), a key that is gone
    ({"name": "resnet18"}, (512, 32), "fc.weight"),
    ({"name": "resnet18", "stride": 8}, (128, 8), "layer3.0.conv1.weight"),
    ({"name": "resnet18", "stage": -2}, (256, 16), "layer4.0.conv1.weight"),
    ({"name": "resnet18", "output_stride": 16}, (512, 16), "fc.weight"),
    ({"name": "resnet18", "output_stride": 8, "stride": 8}, (512, 8), "fc.weight"),
    ({"name": "resnet18", "options": {"channels": [8, 16, 16, 24], "layers": [1, 1, 1, 1]}}, (24, 32), "fc.weight"),
    (
        {"name": "mobilenetv1_100", "stride": 16, "options": {"pad_type": "same"}},
        (512, 16),
        "blocks.4.0.conv_dw.weight",
    ),
    ({"name": "mobilenetv3_small_100"}, (576, 32), "conv_head.weight"),
    ({"name": "mobilenetv3_small_100", "stage": 2}, (24, 8), "blocks.3.0.conv_pw.weight"),
    ({"name": "convnext_atto"}, (320, 32), "head.norm.weight"),
    ({"name": "convnext_atto", "output_stride": 16}, (320, 16), "head.fc.weight"),
    ({"name": "convnext_atto", "stride": 8}, (80, 8), "stages.2.downsample.0.weight"),
    ({"name": "resnetv2_50", "options": {"layers": [1, 1, 1, 1]}}, (2048, 32), "norm.weight"),
    ({"name": "vit_tiny_patch16_224"}, (192, 16), "head.weight"),
    ({"name": "vit_tiny_patch16_224", "stage": 3}, (192, 16), "blocks.4.norm1.weight"),
]


@pytest.mark.parametrize(("settings", "expected", "gone"), LEVELS)
def test_level_shape_keys_and_gradients(settings: dict[str, Any], expected: tuple[int, int], gone: str) -> None:
    backbone = Backbone(BackboneConfig(**settings)).train()
    assert (backbone.channels, backbone.stride) == expected
    dense = backbone(torch.randn(2, 3, 64, 96))
    assert dense.shape == (2, expected[0], 64 // expected[1], 96 // expected[1])

    dense.square().mean().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []

    timms = timm.create_model(settings["name"], **settings.get("options", {})).state_dict()
    kept = backbone.model.state_dict()
    assert {k: v.shape for k, v in kept.items()} == {k: timms[k].shape for k in kept}
    assert gone not in kept
    assert backbone.known_keys == timms.keys()


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "convnext_atto"])
def test_map_equals_timms_own_features(name: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(name=name, stride=16)).eval()
    timms = timm.create_model(name, features_only=True).eval()
    flat = {f"{part}_{i}.": f"{part}.{i}." for part in ("stem", "stages") for i in range(4)}  # timm's own renaming
    keys = {
        k: next((dotted + k[len(f) :] for f, dotted in flat.items() if k.startswith(f)), k) for k in timms.state_dict()
    }
    state = backbone.model.state_dict()
    loaded = {k: state[ours] for k, ours in keys.items() if ours in state}
    assert len(loaded) == len(state)
    timms.load_state_dict(loaded, strict=False)
    images = torch.randn(1, 3, 64, 96)
    level = max(i for i, reduction in enumerate(timms.feature_info.reduction()) if reduction == 16)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), timms(images)[level])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"name": "resnet1812"}, "resnet1812"),
        ({"name": "resnet18.bogus"}, "resnet18.bogus"),
        ({"name": "../weights.pth"}, "weights.pth"),
        ({"name": "resnet18", "stride": 5}, "stride is 5; resnet18 has levels of stride 2, 4, 8, 16, 32"),
        ({"name": "resnet18", "stage": 5}, "stage is 5; resnet18 has levels 0 to 4"),
        ({"name": "resnet18", "stage": -6}, "stage is -6"),
        ({"name": "resnet18", "output_stride": 7}, 'with {"output_stride": 7}: a value is of another kind'),
        (
            {"name": "resnet18", "options": {"layers": "x"}},
            'with {"layers": "x"}: a value is of another kind or out',
        ),
        ({"name": "resnet18", "options": {"foo": 1}}, 'built with {"foo": 1}: it knows no foo; expected backbone.opt'),
        ({"name": "vit_tiny_patch16_224", "output_stride": 8}, "output_stride"),
        ({"name": "vit_tiny_patch16_224", "stride": 8}, "levels of stride 16"),
        ({"name": "resnet18", "options": {"pad_tipe": "same"}}, "pad_tipe"),
        ({"name": "resnet18", "options": {"layers": 3}}, "layers"),
        ({"name": "resnet18", "options": {"act_layer": "bogus"}}, "bogus"),
    ],
)
def test_what_timm_does_not_have_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Backbone(BackboneConfig(**settings))


PADDED = [
    {"name": "resnet18", "stride": 8},
    {"name": "mobilenetv1_100", "stride": 16, "options": {"pad_type": "same"}},
    {"name": "mobilenetv1_100", "stride": 16},
]


@pytest.mark.parametrize("settings", PADDED)
def test_replicated_edges_change_nothing_far_from_them(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    zeros = Backbone(BackboneConfig(**settings)).eval()
    ours = Backbone(BackboneConfig(**settings, padding="replicate")).eval()
    ours.load_state_dict(zeros.state_dict())
    image = torch.randn(1, 3, 640, 640)
    with torch.no_grad():
        a, b = zeros(image), ours(image)
    assert a.shape == b.shape
    middle = a.shape[2] // 2
    torch.testing.assert_close(a[..., middle, middle], b[..., middle, middle])
    assert not torch.allclose(a[..., 0, 0], b[..., 0, 0])


@pytest.mark.parametrize("settings", PADDED)
def test_with_replicated_edges_a_plain_photo_looks_alike_everywhere(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 1, 1).expand(1, 3, 96, 128)
    spread = {}
    for padding in ("zeros", "replicate"):
        torch.manual_seed(0)
        with torch.no_grad():
            dense = Backbone(BackboneConfig(**settings, padding=padding)).eval()(image)
        spread[padding] = ((dense - dense.mean(dim=(2, 3), keepdim=True)).abs().amax() / dense.abs().amax()).item()
    assert spread["replicate"] < 1e-5
    assert spread["zeros"] > 1e-2


def test_replicated_edges_survive_a_copy_and_keep_key_names() -> None:
    settings = {"name": "mobilenetv1_100", "stride": 16, "options": {"pad_type": "same"}}
    ours = Backbone(BackboneConfig(**settings, padding="replicate")).eval()
    assert ours.state_dict().keys() == Backbone(BackboneConfig(**settings)).state_dict().keys()
    twin = copy.deepcopy(ours)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
        assert twin(torch.randn(1, 3, 64, 64)).abs().sum() == 0
        assert ours(torch.randn(1, 3, 64, 64)).abs().sum() > 0
