"""Masks as predictions: masks of other tools are scored like a model, and those of a model can be kept.

Letters: K prototypes, D their dimension, H W pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.legend import LEGEND, Legend, legend_of, read_legend
from slotseg.data.labelled.annotations.opening import open_annotations
from slotseg.data.labelled.label_search import annotations_at, find_labels
from slotseg.data.labelled.label_sources import LabelSource
from slotseg.data.labelled.labelled import LabelledPhotos, ScoredPhoto
from slotseg.errors import DataError, LabelError
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.contingency import UNASSIGNED
from slotseg.eval.predictors import Predictor
from slotseg.eval.result import PredictorInfo
from slotseg.labels.label_map import IGNORE, LabelMap
from slotseg.painting.render import save_legend, save_mask


class MaskFolder:
    """Masks of any tool, named as the photos are.

    Ids are the cluster or class numbers of the tool. The id 255 in 8-bit masks, and 65535 in 16-bit ones,
    marks a pixel without an id. Such a pixel counts as an error. If all masks hold nothing but this id and 0, and no
    legend lies beside them, it is the id 1. A legend beside them lists the ids, and they become their places in it.

    Annotations are masks too. Their ids are the places of the classes in the file, and pixels without an annotation
    have none.

    Args:
        folder: Folder with a mask for each photo, in the photos' subfolders or, if no two photos share a name, all in
            one folder. ``slotseg.data.labelled.label_search`` says what masks may look like. Those in colour need
            the colours of the label set, or of a legend beside them. Or annotations, or the mask of a single photo.
        benchmark: Benchmark to score on. Masks of the photo's own size are scaled and cropped like its label map.
            Masks of the scored size are taken as they are.

    Raises:
        DataError: If masks are missing; the message counts all of them.
    """

    vectors = None
    num_prototypes: int | None
    source: LabelSource
    legend: Legend | None = None

    def __init__(self, folder: Path, benchmark: Benchmark) -> None:
        self.protocol = benchmark.protocol
        self.info = PredictorInfo(
            name=f"masks in {folder.name}", precision="unknown", postprocessing="unknown", augmentation="unknown"
        )
        sets = [benchmark.dataset, *([benchmark.match_on] if benchmark.match_on else [])]
        keys = [key for dataset in sets for key in dataset.image_list.keys[: benchmark.size(dataset)]]
        if len(set(keys)) < len(keys):
            raise DataError(f"photos of both splits share names, such as {keys[0]}; expected one split, no --match-on")
        flat = len({Path(key).name for key in keys}) == len(keys)
        photos = {key: path for d in sets if isinstance(d, LabelledPhotos) for key, path in d.photos}
        no_labels = {path.relative_to(folder).as_posix() for path in photos.values() if path.is_relative_to(folder)}
        if found := annotations_at(folder, keys, flat=flat, no_labels=no_labels):
            legend = read_legend(legend_of(found), named=False) if found.is_dir() else None
            annotations = open_annotations(found, keys, legend.names if legend else (), photos)
            self.source, self.num_prototypes = annotations, len(annotations.names)
            return
        self.legend = legend = read_legend(legend_of(folder), named=False)
        self.num_prototypes = len(legend.ids) if legend else None
        self.source = find_labels(
            folder,
            keys,
            what="masks",
            flat=flat,
            id_colors=(legend and legend.id_colors) or benchmark.dataset.taxonomy.id_colors,
            maybe_binary=legend is None,
            no_labels=no_labels,
        )

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.uint16]:
        """Ids ``(H, W)`` of a photo's mask, as the protocol prepares it."""
        try:
            mask = self.source.read(photo.key)
        except DataError as error:
            raise LabelError(str(error)) from error
        if mask.shape == photo.size_hw:
            mask = self.protocol.prepare_map(mask)
        if mask.shape != photo.image.shape[:2]:
            (height, width), where = photo.size_hw, self.source.where(photo.key)
            scored = photo.image.shape[:2]
            or_else = f", or {scored[1]} x {scored[0]} as scored" if scored != photo.size_hw else ""
            raise LabelError(
                f"{where} is {mask.shape[1]} x {mask.shape[0]} and its photo {width} x {height}; expected the photo's "
                f"size{or_else}"
            )
        if self.legend:
            return _places(mask, self.legend, self.source.where(photo.key))
        ids = mask.astype(np.uint16)
        if mask.dtype == np.uint8:
            ids[mask == IGNORE] = UNASSIGNED
        return ids


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


def _places(mask: NDArray[Any], legend: Legend, where: str) -> NDArray[np.uint16]:
    """Place in the legend of each pixel's id, ``(H, W)``, or ``UNASSIGNED``.

    Raises:
        LabelError: If the legend does not list an id.
    """
    unknown = np.setdiff1d(mask, [*legend.ids, legend.ignore_id, IGNORE, UNASSIGNED])
    if unknown.size:
        raise LabelError(
            f"{where} holds the id {unknown[0]}, which {legend.path} does not list; expected one of "
            f"its {len(legend.ids)} ids, or {legend.ignore_id} for none"
        )
    table = np.full(UNASSIGNED + 1, UNASSIGNED, np.uint16)
    table[list(legend.ids)] = np.arange(len(legend.ids))
    places: NDArray[np.uint16] = table[mask]
    return places
