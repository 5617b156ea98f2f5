"""Predictors: trained models and anything else that can be scored, with their description for the result.

Letters: K prototypes, D their dimension, H W pixels.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.labelled import ScoredPhoto
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.result import PredictorInfo
from slotseg.labels.naming import Naming
from slotseg.runs import checkpoint as checkpoints
from slotseg.runs.folder import find_checkpoint
from slotseg.segment_config import SegmentConfig
from slotseg.segmenting.guided import EPSILON, RADIUS
from slotseg.segmenting.looks import Size
from slotseg.segmenting.segmenter import Segmenter

log = logging.getLogger(__name__)


class Predictor(Protocol):
    """Maps a prepared photo to its prototype map."""

    @property
    def num_prototypes(self) -> int | None:
        """Number of prototypes, K; None if it is known only after the last photo."""
        ...

    @property
    def vectors(self) -> NDArray[np.float32] | None:
        """The prototypes, ``(K, D)``, for merging; None if there are none."""
        ...

    @property
    def info(self) -> PredictorInfo:
        """Description for the result."""
        ...

    def __call__(self, photo: ScoredPhoto) -> NDArray[Any]:
        """Prototype of each pixel, ``(H, W)``, or ``contingency.UNASSIGNED``."""
        ...


class SegmenterPredictor:
    """A trained model.

    Args:
        segmenter: The model.
        info: Description for the result.
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
    reading: Mapping[str, Any] | None = None,
    size: Size | None = None,
    tile: int | None = None,
    device: str = "auto",
) -> SegmenterPredictor:
    """Load a trained model to score it.

    Args:
        benchmark: Benchmark to score on. If its protocol crops, the network sees the crop at its own size.
        checkpoint: Run folder or checkpoint; by default the newest run.
        names: A person's names; the prototypes are merged as they were when the names were given.
        num_prototypes: Number of prototypes to merge to; by default the number it was trained for.
        segment: Settings of ``SegmentConfig`` to change, as in ``Segmenter.load``.
        reading: Settings of ``ReadingConfig`` to change. The benchmark's photos are read as the run reads them.
        size: Short side that the network sees, in pixels; by default that of the crop, or the run's working size.
        tile: Side of the tiles in which larger photos are seen, in pixels.
        device: Device, in the words of ``slotseg.devices.resolve_device``.
    """
    file = find_checkpoint(checkpoint)
    log.info("Scoring %s", file)
    segmenter = Segmenter.load(
        file,
        labels=names,
        matched=False,
        num_prototypes=num_prototypes,
        segment=segment,
        reading=reading,
        size=size or benchmark.protocol.crop,
        tile=tile,
        device=device,
    )
    benchmark.read_as(segmenter.reading)
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
    """Name with backbone, size and all options, so that different settings of a run never share a name."""
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
