"""Prototypes that start at the centres of the first features."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from missing_corners import Corners

from slotseg.config import TrainConfig
from slotseg.data.views.sources import Scenes
from slotseg.errors import ConfigError, DataError
from slotseg.method.heads import projector
from slotseg.networks.backbones import Backbone
from slotseg.segmenting.looks import default_size, padded
from slotseg.segmenting.scorer import Scorer
from slotseg.training.learner import Learner
from slotseg.training.prototypes import (
    CORNER,
    count_wins,
    kmeans_prototypes,
    linear_projector,
    look_at,
    start_prototypes,
)


def test_prototypes_lie_in_the_clusters() -> None:
    """Clusters around a common direction, as a fresh projector gives them, are told apart."""
    g = torch.Generator().manual_seed(0)
    common = 5 * torch.randn(16, generator=g)
    middles = torch.randn(4, 16, generator=g)
    cells = (middles[:, None] + 0.05 * torch.randn(4, 50, 16, generator=g) + common).flatten(0, 1)
    directions = F.normalize(cells, dim=1)
    prototypes, center = kmeans_prototypes(directions, 4, seed=0)
    own = (directions - directions.mean(dim=0)) @ prototypes.T
    chosen = own.argmax(dim=1).view(4, 50)
    assert (chosen == chosen[:, :1]).all()
    assert len(chosen[:, 0].unique()) == 4
    torch.testing.assert_close(prototypes.norm(dim=1), torch.full((4,), 4.0))  # of normal(0, 1) in 16 dimensions
    torch.testing.assert_close(center, (directions @ F.normalize(prototypes, dim=1).T).mean(dim=0))


def test_the_seed_decides() -> None:
    directions = F.normalize(torch.randn(200, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    a, b, other = (kmeans_prototypes(directions, 5, seed)[0] for seed in (1, 1, 2**63 - 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


@pytest.mark.parametrize(("channels", "hidden", "dim"), [(12, 32, 8), (12, 10, 8), (6, 32, 8)])
def test_the_projector_starts_as_a_projection_to_axes(channels: int, hidden: int, dim: int) -> None:
    g = torch.Generator().manual_seed(0)
    cells = torch.randn(400, channels, generator=g) @ torch.randn(channels, channels, generator=g) + 3
    random = projector(channels, hidden, dim)
    before = {name: value.clone() for name, value in random.state_dict().items()}
    axes = torch.randn(min(channels, hidden // 2, dim), channels, generator=g)
    linear = linear_projector(random, cells, axes)
    expected = F.pad((cells - cells.mean(dim=0)) @ axes.T, (0, dim - len(axes)))
    for mode in (True, False):  # with the statistics of the batch, and with those that it keeps
        result = linear.train(mode)(cells[:, :, None, None])[:, :, 0, 0]
        torch.testing.assert_close(result, expected, atol=0.02, rtol=0.01)
    assert all(torch.equal(before[name], value) for name, value in random.state_dict().items())


def test_the_second_look_sees_the_cells_of_a_corner(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backbone that knows no neighbours gives the same cells in both looks."""
    learner = Learner(tiny_config({"optimizer.warmup_epochs": 0}), Scenes(2), device="cpu", workers=0)
    encoder = learner.model.teacher
    backbone = encoder.backbone
    assert isinstance(backbone, Backbone)
    monkeypatch.setattr(backbone, "forward", lambda pixels: F.avg_pool2d(pixels, backbone.stride))
    side = default_size(learner.config) // backbone.stride  # scenes are square
    corners = set()
    for place in range(4):
        seen = look_at(encoder, Scenes(2).open(0), place, learner.config, learner.device)
        assert seen.cells.shape == (3, side, side)
        assert seen.some.shape == (3, round(CORNER * side), round(CORNER * side))
        torch.testing.assert_close(seen.again, seen.some)
        corners.add(tuple(seen.some[:, 0, 0].tolist()))
    assert len(corners) == 4


def test_more_prototypes_than_cells_are_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    values = {"model.num_prototypes": 5000, "optimizer.warmup_epochs": 0}
    learner = Learner(tiny_config(values), Scenes(4), device="cpu", workers=0)
    with pytest.raises(ConfigError, match=r"the photos have \d+ cells for 5000 prototypes; expected at least as many"):
        start_prototypes(learner)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_backbone_whose_features_are_no_numbers_is_refused(
    tiny_config: Callable[..., TrainConfig], value: float
) -> None:
    learner = Learner(tiny_config({"optimizer.warmup_epochs": 0}), Scenes(4), device="cpu", workers=0)
    with torch.no_grad():
        next(learner.model.teacher.backbone.parameters()).fill_(value)
    with pytest.raises(ConfigError, match=r"features of the backbone are no numbers .* start from others with --init"):
        start_prototypes(learner)


def test_kmeans_start_uses_more_prototypes_than_a_random_one(tiny_config: Callable[..., TrainConfig]) -> None:
    """Over several seeds, by a margin: of 60, about 31 against 44."""
    random = clustered = 0
    for seed in range(4):
        values = {"model.num_prototypes": 60, "seed": seed, "optimizer.warmup_epochs": 0}
        learner = Learner(tiny_config(values), Scenes(8), device="cpu", workers=0)
        random += used(learner)
        start_prototypes(learner)
        clustered += used(learner)
    assert clustered > 1.15 * random


@torch.no_grad()
def used(learner: Learner) -> int:
    """Prototypes of the teacher that win a cell of the first views."""
    view, _ = learner.prepare(next(learner.batches(0, 1)), 0)
    return len(learner.model.teacher(view).argmax(dim=1).unique())


def test_prototypes_start_from_what_is_picture_alone(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backbone that knows no neighbours and colours that tell cells apart."""
    learner = Learner(tiny_config({"optimizer.warmup_epochs": 0}), Scenes(8), device="cpu", workers=0)
    encoder = learner.model.teacher
    backbone = encoder.backbone
    assert isinstance(backbone, Backbone)
    monkeypatch.setattr(backbone, "forward", lambda pixels: F.avg_pool2d(pixels, backbone.stride))
    scene, corner = (source.open(0) for source in (Scenes(8), Corners()))
    whole, seen = (look_at(encoder, photo, 1, learner.config, learner.device) for photo in (scene, corner))
    assert seen.valid is not None
    assert seen.some_valid is not None
    assert 0.2 < (~seen.valid).float().mean() < 0.5
    inner = seen.valid[1:, 1:] & seen.valid[:-1, 1:] & seen.valid[1:, :-1]  # none that a missing pixel may be part of
    torch.testing.assert_close(seen.cells[:, 1:, 1:][:, inner], whole.cells[:, 1:, 1:][:, inner], atol=0.02, rtol=0)
    assert seen.counted.shape == (int(seen.valid.sum()), 3)
    shape = seen.some.shape[1:]
    assert torch.equal(seen.some_valid, seen.valid[: shape[0], -shape[1] :])
    with pytest.raises(DataError, match="has no picture"):
        look_at(encoder, Corners(nothing={0}).open(0), 0, learner.config, learner.device)


def test_use_is_counted_where_there_is_a_picture(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backbone whose cells are all the same but where there is none."""
    config = tiny_config({"optimizer.warmup_epochs": 0, "model.trained_prototypes": 12, "model.num_prototypes": 3})
    learner = Learner(config, Scenes(8), device="cpu", workers=0)
    encoder = learner.model.teacher

    def scores(scorer: Scorer, image: np.ndarray) -> tuple[torch.Tensor, tuple[float, float]]:
        """Prototype 3 wins where most of a cell is the fill, and 4 elsewhere."""
        size = scorer.size
        assert isinstance(size, int)
        grey = torch.from_numpy((image == 128).all(axis=2)).float()[None, None]
        grey = padded(F.interpolate(grey, (size, size), mode="bilinear", antialias=True), scorer.stride)
        fill = F.avg_pool2d(grey, scorer.stride)[0, 0] > 0.55
        assert fill.any()
        return F.one_hot(torch.where(fill, 3, 4), 12).movedim(2, 0).float(), (0.0, 0.0)

    monkeypatch.setattr(Scorer, "scores", scores)
    wins = count_wins(encoder, config, Corners(nothing={1}), torch.device("cpu"))
    assert wins[3] == 0
    assert wins[4] == pytest.approx(1)
