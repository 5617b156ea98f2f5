"""Unsupervised semantic segmentation with SlotCon: from a folder of unlabelled photos to masks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slotseg.discovery.discover import discover
    from slotseg.labels.label_map import LabelMap
    from slotseg.labels.naming import read_names
    from slotseg.method.model import SlotCon
    from slotseg.segmenting.segmenter import Segmentation, Segmenter
    from slotseg.training.trainer import Trainer

__version__ = "0.1.0"
__all__ = [
    "LabelMap",
    "Segmentation",
    "Segmenter",
    "SlotCon",
    "Trainer",
    "__version__",
    "discover",
    "read_names",
]

_HOMES = {
    "LabelMap": "labels.label_map",
    "Segmentation": "segmenting.segmenter",
    "Segmenter": "segmenting.segmenter",
    "SlotCon": "method.model",
    "Trainer": "training.trainer",
    "discover": "discovery.discover",
    "read_names": "labels.naming",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used, so that importing slotseg is cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'slotseg' has no attribute {name!r}")
    return getattr(import_module(f"slotseg.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
