"""What can be scored, and what a result says of it.

Letters: K prototypes, D their dimension, H W pixels.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.labelled import ScoredPhoto
from slotseg.eval.result import PredictorInfo
from slotseg.segmenting.segmenter import Segmenter


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
