"""The decoder: it starts as the teacher's own assignments, at whatever stride, and merges by adding."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotseg.config import BackboneConfig, ModelConfig
from slotseg.method.building import add_decoder
from slotseg.method.model import Encoder
from slotseg.networks.backbones import Backbone

SMALL = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
USED = torch.tensor([0, 2, 3, 7, 9])
BACKBONES = {
    "stride 32": (BackboneConfig(name="resnet18", options=SMALL), [8, 16, 32], 8),
    "stride 16": (BackboneConfig(name="resnet18", options=SMALL, stride=16), [8, 16], 4),
    "stride 4": (BackboneConfig(name="resnet18", options=SMALL, stride=4), [4], 1),
    "dilated": (BackboneConfig(name="resnet18", options=SMALL, output_stride=8), [8], 2),
    "ViT": (BackboneConfig(name="vit_tiny_patch16_224", options={"depth": 6}), [16, 16, 16], 4),
    "ViT of one layer": (BackboneConfig(name="vit_tiny_patch16_224", options={"depth": 1}), [16], 4),
    "cells of 14 pixels": (
        BackboneConfig(name="vit_small_patch14_dinov2", options={"depth": 3, "img_size": 56}),
        [14, 14, 14],
        4,
    ),
}


@pytest.fixture
def encoder() -> Callable[..., Encoder]:
    def build(config: BackboneConfig = BACKBONES["stride 16"][0]) -> Encoder:
        torch.manual_seed(0)
        backbone = Backbone(config)
        sizes = ModelConfig(num_prototypes=3, trained_prototypes=10, hidden_dim=16, projection_dim=8)
        return Encoder(backbone, backbone.channels, sizes).eval().requires_grad_(False)

    return build


def images(encoder: Encoder, cells: tuple[int, int] = (3, 5)) -> Tensor:
    assert isinstance(encoder.backbone, Backbone)
    return torch.randn(2, 3, *(encoder.backbone.stride * n for n in cells))


@pytest.mark.parametrize("name", BACKBONES)
def test_an_untrained_decoder_gives_the_teachers_own_assignments(encoder: Callable[..., Encoder], name: str) -> None:
    config, strides, points = BACKBONES[name]
    teacher = encoder(config)
    seen = images(teacher)
    scores = teacher.prototypes(teacher.projector(teacher.backbone(seen)))[:, USED]
    logits = F.interpolate(scores / 0.1, scale_factor=points, mode="bilinear")

    add_decoder(teacher, USED)

    assert teacher.points == points
    assert isinstance(teacher.backbone, Backbone)
    assert [seen.shape[3] // level.shape[3] for level in teacher.backbone.pyramid(seen)] == strides
    torch.testing.assert_close(teacher.assignments(seen), logits.softmax(dim=1))


def test_a_concept_has_the_sum_of_its_prototypes_assignments(encoder: Callable[..., Encoder]) -> None:
    teacher = encoder()
    decoder = add_decoder(teacher, USED)
    nn.init.normal_(decoder.head.weight)
    assert teacher.concepts is not None
    teacher.concepts.copy_(torch.tensor([0, 1, 0, 1, 2, 2, 2, 3, 3, 3]))
    seen = images(teacher)

    of_prototypes, of_concepts = teacher.assignments(seen), teacher(seen)

    assert of_concepts.shape == (2, 4, 12, 20)
    members = ([0, 1], [2], [], [3, 4])  # of the outputs 0, 2, 3, 7, 9; no output is of concept 2
    for concept, its_outputs in enumerate(members):
        torch.testing.assert_close(of_concepts[:, concept], of_prototypes[:, its_outputs].sum(dim=1))
    torch.testing.assert_close(of_concepts.sum(dim=1), torch.ones(2, 12, 20))


def test_every_level_and_the_pixels_are_read(encoder: Callable[..., Encoder]) -> None:
    teacher = encoder()
    decoder = add_decoder(teacher, USED)
    nn.init.normal_(decoder.head.weight)
    assert isinstance(teacher.backbone, Backbone)
    seen = images(teacher)
    levels = teacher.backbone.pyramid(seen)
    scores = torch.rand(2, len(USED), 3, 5)
    whole = decoder(seen, levels, scores)
    for i in range(len(levels)):
        changed = [level + (i == j) for j, level in enumerate(levels)]
        assert not torch.equal(decoder(seen, changed, scores), whole)
    assert not torch.equal(decoder(seen + 1, levels, scores), whole)
    assert not torch.equal(decoder(seen, levels, scores.flip(1)), whole)


def test_levels_are_standardised_channel_by_channel(encoder: Callable[..., Encoder]) -> None:
    decoder = add_decoder(encoder(), USED)
    torch.manual_seed(1)
    cells = [torch.randn(500, reader.conv.in_channels) * 3 + 5 for reader in decoder.readers]
    decoder.standardise(cells)
    for reader, some in zip(decoder.readers, cells, strict=True):
        standard = (some.T[:, :, None] - reader.mean) * reader.scale
        assert standard.mean().abs() < 1e-4
        assert 0.9 < standard.std() < 1
