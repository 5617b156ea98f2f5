"""A benchmark: a labelled set and the protocol under which predictors are scored on it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from slotseg import distributed
from slotseg.data.labelled.benchmarks import SETS, open_set
from slotseg.data.labelled.labelled import LabelledDataset, LabelledPhotos, LabelledScenes, labelled_folder
from slotseg.errors import ConfigError, DataError
from slotseg.eval.protocols import Protocol, find_protocol
from slotseg.segment_config import ReadingConfig

DATASETS = ("scenes", "folder", *SETS)
"""Names that ``open_benchmark`` takes."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A labelled set and its protocol."""

    dataset: LabelledDataset
    """Photos to score on."""
    protocol: Protocol
    """Protocol of the scoring."""
    match_on: LabelledDataset | None = None
    """Photos that give the matching; None: the scored ones."""
    limit: int | None = None
    """Number of photos, from the first on, that are taken of both sets; None: all."""

    @classmethod
    def of(
        cls,
        dataset: LabelledDataset,
        *,
        matching: str = "hungarian",
        match_on: LabelledDataset | None = None,
        limit: int | None = None,
    ) -> "Benchmark":
        """Make a benchmark of any labelled set, at its own resolution."""
        protocol = find_protocol(dataset.name, split=dataset.split, matching=matching)
        return cls(dataset=dataset, protocol=protocol, match_on=match_on, limit=limit)

    def size(self, dataset: LabelledDataset) -> int:
        """Number of photos of a set within the limit."""
        return min(len(dataset), self.limit or len(dataset))

    def read_as(self, reading: ReadingConfig) -> None:
        """Read the photos with these bands and this range from now on."""
        for dataset in (self.dataset, self.match_on):
            if isinstance(dataset, LabelledPhotos):
                dataset.reading = reading

    def unlabelled(self) -> Iterator[NDArray[np.uint8]]:
        """Prepared photos to fit a baseline on, the same that give the matching. Unreadable ones are left out."""
        dataset = self.match_on or self.dataset
        for index in tqdm(range(self.size(dataset)), unit="image", desc="k-means", disable=distributed.quiet()):
            try:
                yield self.protocol.prepare_image(dataset.read_image(index))
            except DataError:
                continue  # named and counted when the set is scored


def open_benchmark(
    name: str,
    *,
    data_dir: Path | None = None,
    images: Path | None = None,
    labels: Path | None = None,
    split: str | None = None,
    protocol: str | None = None,
    image_list: Path | None = None,
    matching: str = "hungarian",
    match_on: str | None = None,
    limit: int | None = None,
) -> Benchmark:
    """Find a set on disk and the protocol that goes with it.

    Args:
        name: Name of the set, one of ``DATASETS``.
        data_dir: Folder of the data set as it was published.
        images: Photos of the set ``folder``.
        labels: Label maps of the set ``folder``.
        split: Part of the set; by default the one that papers score.
        protocol: Name of the protocol, one of ``slotseg.eval.protocols.protocol_names``.
        image_list: File that names the photos to score, instead of the protocol's list.
        matching: Matching mode of ``slotseg.eval.matching``.
        match_on: Split that gives the matching; by default the scored one.
        limit: Number of photos, from the first on, to take; by default all.

    Raises:
        ConfigError: If the arguments don't go together.
        DataError: If data is missing or cannot be used.
    """
    if name == "folder" and (images is None or labels is None):
        missing = "--images, the folder of photos" if images is None else "--labels, the folder of label maps"
        raise ConfigError(f"--dataset folder lacks {missing}; expected both --images and --labels with it")
    if name != "folder" and (images or labels):
        raise ConfigError(f"--images and --labels are not for {name}; expected them with --dataset folder only")
    if (name in SETS) != (data_dir is not None):
        need = f"{name} needs --data-dir, its folder" if name in SETS else f"--data-dir is not for {name}"
        raise ConfigError(f"{need}; expected it with {', '.join(SETS)}")
    if image_list and name == "scenes":
        raise ConfigError("--image-list is not for scenes, which have no files; expected --limit for fewer of them")
    chosen = find_protocol(name, protocol, split=split, matching=matching)

    def opened(split: str | None, photos: Path | None) -> LabelledDataset:
        if name == "scenes":
            return LabelledScenes(split=split or "val")
        if images and labels:
            return labelled_folder(images, labels, split, image_list=photos, limit=limit)
        assert data_dir is not None
        curated = chosen.image_list == "curated"
        return open_set(name, data_dir, split=split, curated=curated, image_list=photos, limit=limit)

    dataset = opened(split, image_list)
    if match_on == dataset.split:
        raise ConfigError(f"--match-on {match_on} is the split that is scored; expected another one, or no --match-on")
    return Benchmark(
        dataset=dataset,
        protocol=replace(chosen, split=dataset.split),
        match_on=opened(match_on, None) if match_on else None,
        limit=limit,
    )
