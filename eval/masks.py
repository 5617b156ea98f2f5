"""Masks as predictions: masks of other tools are scored like a model, and those of a model can be kept.

Letters: K prototypes, D their dimension, H W pixels.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.data.labelled.annotations.legend import LEGEND, legend_of, read_legend
from slotseg.data.labelled.annotations.opening import open_annotations
from slotseg.data.labelled.label_search import annotations_at, find_labels
from slotseg.data.labelled.label_sources import IdColors, LabelSource
from slotseg.data.labelled.labelled import LabelledPhotos, ScoredPhoto
from slotseg.errors import DataError, LabelError
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.contingency import UNASSIGNED
from slotseg.eval.predictors import Predictor
from slotseg.eval.result import PredictorInfo
from slotseg.labels.label_map import IGNORE, Color, LabelMap
from slotseg.painting.render import save_legend, save_mask


class MaskFolder:
    """Masks of any tool, named as the photos are.

    Ids are the cluster or class numbers of the tool. The id 255 in 8-bit masks, and 65535 in 16-bit ones,
    marks a pixel without an id. Such a pixel counts as an error. If all masks hold nothing but this id and 0, and no
    legend lies beside them, it is the id 1.

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
        photos = [path for d in sets if isinstance(d, LabelledPhotos) for _, path in d.photos]
        no_labels = {path.relative_to(folder).as_posix() for path in photos if path.is_relative_to(folder)}
        if found := annotations_at(folder, keys, flat=flat, no_labels=no_labels):
            legend = read_legend(legend_of(found)) if found.is_dir() else None
            annotations = open_annotations(found, keys, legend.names if legend else ())
            self.source, self.num_prototypes = annotations, len(annotations.names)
            return
        self.num_prototypes, id_colors = _read_legend(legend_of(folder))
        self.source = find_labels(
            folder,
            keys,
            what="masks",
            flat=flat,
            id_colors=id_colors or benchmark.dataset.taxonomy.id_colors,
            maybe_binary=self.num_prototypes is None,
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
            raise LabelError(
                f"{where} is {mask.shape[1]} x {mask.shape[0]} and its photo {width} x {height}; "
                f"expected the photo's size, or {photo.image.shape[1]} x {photo.image.shape[0]} as scored"
            )
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


def _read_legend(legend: Path) -> tuple[int | None, IdColors]:
    """Number of ids that the masks may hold, and their colours, if a legend beside them says so."""
    try:
        content = json.loads(legend.read_bytes())
        classes = content["classes"]
        colors = [(int(c["id"]), _color(c["color"])) for c in classes if "color" in c]
        void = [(int(content["ignore_id"]), (0, 0, 0))] if "ignore_id" in content else []
        return len(classes), (*colors, *void)
    except FileNotFoundError:
        return None, ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{legend} cannot be used ({error!r}); expected the legend of the masks, or none") from error


def _color(values: Any) -> Color:
    red, green, blue = values
    return int(red), int(green), int(blue)
