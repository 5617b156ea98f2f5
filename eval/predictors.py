"""What can be scored, and what a result says of it.

Letters: K prototypes, D their dimension, H W pixels.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.config import SegmentConfig
from slotseg.data.labelled.labelled import ScoredPhoto
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.result import PredictorInfo
from slotseg.labels.naming import Naming
from slotseg.runs import checkpoint as checkpoints
from slotseg.runs.folder import find_checkpoint
from slotseg.segmenting.guided import EPSILON, RADIUS
from slotseg.segmenting.looks import Size
from slotseg.segmenting.segmenter import Segmenter

log = logging.getLogger(__name__)


class Predictor(Protocol):
    """From a prepared photo to its prototype map."""

    @property
    def num_prototypes(self) -> int | None:
        """K; None if that is known only when all photos have been seen."""
        ...

    @property
    def vectors(self) -> NDArray[np.float32] | None:
        """The prototypes ``(K, D)``, to merge them by; None if there are none."""
        ...

    @property
    def info(self) -> PredictorInfo:
        """For the result."""
        ...

    def __call__(self, photo: ScoredPhoto) -> NDArray[Any]:
        """Prototype of each pixel ``(H, W)``, or ``contingency.UNASSIGNED``."""
        ...


class SegmenterPredictor:
    """A trained model.

    Args:
        segmenter: The model.
        info: What it is.
    """

    def __init__(self, segmenter: Segmenter, info: PredictorInfo) -> None:
        self.segmenter, self.info = segmenter, info
        self.num_prototypes = segmenter.encoder.num_concepts
        self.vectors: NDArray[np.float32] = segmenter.encoder.concept_vectors().cpu().numpy()

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.uint16]:
        """Nearest prototype ``(H, W)`` of each pixel."""
        return self.segmenter.prototype_map(photo.image)


def run_predictor(
    benchmark: Benchmark,
    *,
    checkpoint: Path | None = None,
    names: Naming | None = None,
    num_prototypes: int | None = None,
    segment: Mapping[str, Any] | None = None,
    size: Size | None = None,
    tile: int | None = None,
    device: str = "auto",
) -> SegmenterPredictor:
    """A trained model, to be scored.

    Args:
        benchmark: On what; under a protocol that crops, the network sees the crop as it is.
        checkpoint: Run folder or checkpoint; by default the newest run.
        names: Those that a person gave; a run is merged as they were given.
        num_prototypes: Merge its prototypes to so many; by default what it was trained for.
        segment: What to change in how it looks at photos, as in ``Segmenter.load``.
        size: Short side that the network sees; by default the crop's, or as things looked in training.
        tile: Side of tiles that it sees one by one where the photo is larger.
        device: As in ``slotseg.devices.resolve_device``.
    """
    file = find_checkpoint(checkpoint)
    log.info("Scoring %s", file)
    segmenter = Segmenter.load(
        file,
        labels=names,
        matched=False,
        num_prototypes=num_prototypes,
        segment=segment,
        size=size or benchmark.protocol.crop,
        tile=tile,
        device=device,
    )
    info = PredictorInfo(
        name=_name(segmenter),
        checkpoint=checkpoints.digest(file),
        network_size=None if segmenter.size == "full" else segmenter.size,
        tile=segmenter.tile,
        augmentation=_looks(segmenter.config.segment),
        postprocessing=_edges(segmenter.config.segment),
        seed=segmenter.config.seed,
    )
    return SegmenterPredictor(segmenter, info)


def _name(segmenter: Segmenter) -> str:
    """Backbone, size and what is added to one look, so that no two of a run's scores have one name."""
    config = segmenter.config.segment
    added = {"scales": config.scales != (1.0,), "flip": config.mirror}
    added |= {config.edges: config.follows_edges}
    parts = [
        f"slotseg {segmenter.config.backbone.name} at {segmenter.size} px",
        *(k for k, is_on in added.items() if is_on),
    ]
    return ", ".join(parts)


def _looks(config: SegmentConfig) -> str:
    if config.scales == (1.0,) and not config.mirror:
        return "none"
    scales = ", ".join(f"{scale:g}" for scale in config.scales)
    return f"scales {scales}" + (" and mirrored" if config.mirror else "")


def _edges(config: SegmentConfig) -> str:
    if config.edges == "guided":
        return f"guided filter, radius {RADIUS}, epsilon {EPSILON:g}"
    return f"mean-field refinement, strength {config.field_strength:g}" if config.edges == "field" else "none"
