"""Weights that a training starts from where nobody has asked for others.

DINO's come from the Hugging Face hub. Where it does not answer within seconds, those that were installed with slotseg
take their place, and a sentence says so.
"""

from dataclasses import dataclass

import timm

from slotseg.errors import CheckpointError
from slotseg.exchange import hub, installed
from slotseg.exchange.weights import read_weights

PATIENCE = 4.0
"""Seconds to wait for the hub."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Weights that were chosen."""

    init: str
    """Name of the weights, as ``read_weights`` takes it."""
    model: str
    """Name of the timm model."""
    local: bool
    """Whether they are on this machine already."""
    reason: str = ""
    """Reason why these are not the first choice. Empty if they are."""

    def sentence(self) -> str:
        """What is used instead of the first choice, what that costs, and how to get others."""
        return (
            f"{self.reason}: instead of DINO's ViT-S/16, training starts from EfficientNet-Lite0, which came with "
            "slotseg, was learned with labels and finds less (on MSRC 21.0 mIoU where MobileNet-v1 has 29.1; ViT-S/16 "
            "is not measured); for others, give a file to --init or a mirror to HF_ENDPOINT (docs/discover.md#weights)"
        )


def choose(name: str, *, download: bool = True) -> Choice:
    """Choose timm's weights of a name if they are at hand, else those that were installed with slotseg.

    They are at hand if the hub's cache has them, or if the hub answers within ``PATIENCE`` and they can be downloaded.

    Args:
        name: timm's name of weights on the hub.
        download: Whether to download them. If not, the hub's answer is enough.
    """
    pretrained = timm.get_pretrained_cfg(name)
    assert pretrained is not None
    assert pretrained.hf_hub_id is not None
    repo = pretrained.hf_hub_id
    local = hub.cached(repo) is not None
    reason = None if local else hub.unreachable(repo, PATIENCE)
    if download and not local and not reason:
        try:
            read_weights(name)
        except CheckpointError as error:
            reason = str(error).partition(";")[0]
    if reason:
        return Choice(init=installed.PACKAGE, model=installed.MODEL, local=True, reason=reason)
    return Choice(init=name, model=name, local=local or download)
