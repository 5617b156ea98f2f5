"""Builders of small models and inputs, shared by the tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from slotseg.building import build_model
from slotseg.config import BackboneConfig, ModelConfig, TrainConfig, ViewsConfig, with_values
from slotseg.model import SlotCon

Pair = tuple[Tensor, Tensor]

TINY = TrainConfig(
    backbone=BackboneConfig(name="resnet18", stride=8, options={"channels": [8, 16, 16, 16], "layers": [1, 1, 1, 1]}),
    model=ModelConfig(num_prototypes=6, hidden_dim=16, projection_dim=8),
    views=ViewsConfig(image_size=64),
    batch_size=4,
    epochs=None,
    steps=2,
    precision="fp32",
)


@pytest.fixture
def tiny_config() -> Callable[..., TrainConfig]:
    """Configuration of a tiny ResNet; takes changed settings by dotted name."""

    def build(values: dict[str, Any] | None = None) -> TrainConfig:
        return with_values(TINY, values or {})

    return build


@pytest.fixture
def tiny_model(tiny_config: Callable[..., TrainConfig]) -> Callable[..., SlotCon]:
    """A tiny model with the given settings, the same one at each call."""

    def build(values: dict[str, Any] | None = None) -> SlotCon:
        return build_model(tiny_config(values))

    return build


@pytest.fixture
def view_pairs() -> tuple[Pair, Pair, Pair]:
    """Images, overlap boxes and flips of three photos, as ``SlotCon.forward`` takes them."""
    g = torch.Generator().manual_seed(1)
    one, two = torch.randn(2, 3, 3, 64, 64, generator=g)
    boxes = (
        torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.1, 0.2, 0.9, 0.7], [0.5, 0.5, 1.0, 1.0]]),
        torch.tensor([[0.2, 0.2, 0.8, 0.8], [0.0, 0.3, 0.6, 1.0], [0.0, 0.0, 1.0, 0.5]]),
    )
    flips = torch.tensor([True, False, True]), torch.tensor([False, False, True])
    return (one, two), boxes, flips


@pytest.fixture(scope="session", autouse=True)
def _no_cache_in_the_users_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLOTSEG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
