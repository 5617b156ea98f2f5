"""What a predictor is scored on: a labelled set under a protocol."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from slotseg import distributed
from slotseg.data.labelled.benchmarks import SETS, open_set
from slotseg.data.labelled.labelled import LabelledDataset, LabelledScenes, labelled_folder
from slotseg.errors import ConfigError, DataError
from slotseg.eval.protocols import Protocol, find_protocol

DATASETS = ("scenes", "folder", *SETS)
"""What ``open_benchmark`` takes."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A set and how it is scored."""

    dataset: LabelledDataset
    """The photos that are scored."""
    protocol: Protocol
    """How."""
    match_on: LabelledDataset | None = None
    """Photos on which the matching is found instead."""
    limit: int | None = None
    """Only the first so many photos, of both sets."""

    @classmethod
    def of(
        cls,
        dataset: LabelledDataset,
        *,
        matching: str = "hungarian",
        match_on: LabelledDataset | None = None,
        limit: int | None = None,
    ) -> "Benchmark":
        """A set of one's own at its own resolution."""
        protocol = find_protocol(dataset.name, split=dataset.split, matching=matching)
        return cls(dataset=dataset, protocol=protocol, match_on=match_on, limit=limit)

    def size(self, dataset: LabelledDataset) -> int:
        """Photos of a set that the limit leaves."""
        return min(len(dataset), self.limit or len(dataset))

    def unlabelled(self) -> Iterator[NDArray[np.uint8]]:
        """The photos that a baseline is fitted on, prepared: those that are matched on; bad ones are left out."""
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
        name: One of ``DATASETS``.
        data_dir: Folder of a set of the field.
        images: ``folder``: the photos.
        labels: ``folder``: their label maps.
        split: Part of the set; by default the one that papers score.
        protocol: One of ``slotseg.eval.protocols.protocol_names``.
        image_list: Score the photos of this file instead of the protocol's list.
        matching: A mode of ``slotseg.eval.matching``.
        match_on: Split on which the matching is found; by default the scored one.
        limit: Only the first so many photos.

    Raises:
        ConfigError: If the arguments don't go together.
        DataError: If data is missing or cannot be used.
    """
    if (name == "folder") != (images is not None) or (name == "folder") != (labels is not None):
        raise ConfigError("--images and --labels belong to --dataset folder; expected both with it, else none")
    if (name in SETS) != (data_dir is not None):
        need = f"{name} needs --data-dir, its folder" if name in SETS else f"--data-dir is not for {name}"
        raise ConfigError(f"{need}; expected it with {', '.join(SETS)}")
    if image_list and name not in SETS:
        raise ConfigError(f"--image-list is not for {name}; expected a folder with those images only")
    chosen = find_protocol(name, protocol, split=split, matching=matching)

    def opened(split: str | None, photos: Path | None) -> LabelledDataset:
        if name == "scenes":
            return LabelledScenes(split=split or "val")
        if images and labels:
            return labelled_folder(images, labels, split)
        assert data_dir is not None
        return open_set(name, data_dir, split=split, curated=chosen.image_list == "curated", image_list=photos)

    dataset = opened(split, image_list)
    if match_on == dataset.split:
        raise ConfigError(f"--match-on {match_on} is the split that is scored; expected another one, or no --match-on")
    return Benchmark(
        dataset=dataset,
        protocol=replace(chosen, split=dataset.split),
        match_on=opened(match_on, None) if match_on else None,
        limit=limit,
    )
