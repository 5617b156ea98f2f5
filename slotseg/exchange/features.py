"""A look at what a backbone with its weights makes of images, before a training begins with it."""

import torch
from torch import Tensor

from slotseg.errors import CheckpointError
from slotseg.networks.backbones import Backbone, are_numbers

SAME = 1e-6
"""Difference of features, as a share of the largest, up to which they are the same."""


@torch.no_grad()
def check_features(backbone: Backbone, size: int, source: str) -> None:
    """Refuse weights that tell no images apart, or make no numbers of them, or too large ones to be squared.

    Args:
        backbone: Backbone with its weights, in eval mode.
        size: Side of the two images, which are random.
        source: File or name that the weights came from.

    Raises:
        CheckpointError: If a feature's square is not finite, or the features of both images are the same.
    """
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    features = backbone(images.to(next(backbone.parameters()).device))
    assert isinstance(features, Tensor)
    if not are_numbers(features):
        raise CheckpointError(
            f"weights {source} make features that are no numbers (NaN or infinite) or too large to compute with; "
            "expected numbers: take others, or a checkpoint from before"
        )
    if (features[0] - features[1]).abs().max() <= SAME * features.abs().max():
        raise CheckpointError(
            f"weights {source} make the same features of different images, as weights that are all zero do; expected "
            "those of a trained network: take others"
        )
