"""Masks as predictions: masks of other tools are scored like a model, and those of a model can be kept.

Letters: K prototypes, D their dimension, H W pixels.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.labelled import ScoredPhoto
from slotseg.data.reading.images import read_label
from slotseg.errors import DataError, LabelError
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.contingency import UNASSIGNED
from slotseg.eval.predictors import Predictor
from slotseg.eval.result import PredictorInfo
from slotseg.labels.label_map import IGNORE, LabelMap
from slotseg.painting.render import save_legend, save_mask

LEGEND = "legend.json"


class MaskFolder:
    """Masks of any tool, named as the photos are.

    Ids are the cluster or class numbers of the tool. The id 255 in 8-bit masks, and 65535 in 16-bit ones,
    marks a pixel without an id. Such a pixel counts as an error.

    Args:
        folder: Folder with ``<key>.png`` for each photo, in the photos' subfolders or, if no two photos share a name,
            all in one folder.
        benchmark: Benchmark to score on. Masks of the photo's own size are scaled and cropped like its label map.
            Masks of the scored size are taken as they are.

    Raises:
        DataError: If masks are missing; the message counts all of them.
    """

    vectors = None

    def __init__(self, folder: Path, benchmark: Benchmark) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; expected the folder of masks, PNGs named as the photos")
        self.folder, self.protocol = folder, benchmark.protocol
        self.num_prototypes = _number_of_ids(folder / LEGEND)
        self.info = PredictorInfo(
            name=f"masks in {folder.name}", precision="unknown", postprocessing="unknown", augmentation="unknown"
        )
        sets = [benchmark.dataset, *([benchmark.match_on] if benchmark.match_on else [])]
        keys = [key for dataset in sets for key in dataset.image_list.keys[: benchmark.size(dataset)]]
        if len(set(keys)) < len(keys):
            raise DataError(f"photos of both splits share names, such as {keys[0]}; expected one split, no --match-on")
        self.flat = len({Path(key).name for key in keys}) == len(keys)
        missing = [key for key in keys if self._find(key) is None]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(keys)} masks are missing in {folder}, the first is {missing[0]}.png; "
                "expected a PNG for each photo, named as it is"
            )

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.uint16]:
        """Ids ``(H, W)`` of a photo's mask, as the protocol prepares it."""
        path = self._find(photo.key)
        assert path is not None
        try:
            mask = read_label(path)
        except DataError as error:
            raise LabelError(str(error)) from error
        if mask.shape == photo.size_hw:
            mask = self.protocol.prepare_map(mask)
        if mask.shape != photo.image.shape[:2]:
            height, width = photo.size_hw
            raise LabelError(
                f"{path} is {mask.shape[1]} x {mask.shape[0]} and its photo {width} x {height}; expected the photo's "
                f"size, or {photo.image.shape[1]} x {photo.image.shape[0]} as scored"
            )
        ids = mask.astype(np.uint16)
        if mask.dtype == np.uint8:
            ids[mask == IGNORE] = UNASSIGNED
        return ids

    def _find(self, key: str) -> Path | None:
        names = (key, Path(key).name) if self.flat else (key,)
        return next((p for p in (self.folder / f"{name}.png" for name in names) if p.is_file()), None)


@dataclass(frozen=True)
class MaskSaver:
    """A predictor that keeps its predictions as masks. ``MaskFolder`` scores them identically."""

    predictor: Predictor
    """Predictor that does the work."""
    folder: Path
    """Folder to write the masks to."""

    @property
    def num_prototypes(self) -> int | None:
        """Number of prototypes, K."""
        return self.predictor.num_prototypes

    @property
    def vectors(self) -> NDArray[np.float32] | None:
        """Prototypes of the predictor, ``(K, D)``."""
        return self.predictor.vectors

    @property
    def info(self) -> PredictorInfo:
        """Description of the predictor."""
        return self.predictor.info

    def __call__(self, photo: ScoredPhoto) -> NDArray[Any]:
        """Predict, and write ``<key>.png`` and the legend."""
        prototype_map = self.predictor(photo)
        labels = LabelMap.prototypes(self.num_prototypes or int(prototype_map.max()) + 1)
        save_mask(self.folder / f"{photo.key}.png", prototype_map, labels)
        if not (self.folder / LEGEND).exists():
            save_legend(self.folder / LEGEND, labels)
        return prototype_map


def _number_of_ids(legend: Path) -> int | None:
    """Number of ids that the masks may hold, if a legend beside them says so."""
    try:
        return len(json.loads(legend.read_text(encoding="utf-8"))["classes"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{legend} cannot be used ({error!r}); expected the legend of the masks, or none") from error
