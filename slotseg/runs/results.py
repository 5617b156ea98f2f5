"""Results of a run on labelled sets: ``slotseg eval`` writes them into the run, and the pages of the run show them.

Each set has one file in the run, ``scores/<data set>.json``. It holds the latest result for each matching and each K.
Letters: K prototypes.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slotseg.amounts import count, percent_number
from slotseg.files import write_json
from slotseg.labels.label_map import NAMED
from slotseg.runs import checkpoint as checkpoints
from slotseg.runs.folder import RunFolder, run_of

log = logging.getLogger(__name__)

ALIKE = (
    "dataset", "protocol", "split", "image_list_sha256", "num_images", "num_prototypes", "resolution", "crop",
    "predictor",
)  # fmt: skip
"""Keys of the protocol in which results have to agree to be shown together."""
WORDS = {
    "hungarian": "matched one-to-one",
    "merge": "merged and matched one-to-one",
    NAMED: "named by you",
    "ceiling": "perfect naming could reach",
}
"""Words for each matching, in the order in which a sentence lists them."""


@dataclass(frozen=True, kw_only=True)
class KeptMetrics:
    """Metrics by one matching, as fractions 0..1."""

    miou: float
    """Mean IoU over the classes."""
    pixel_accuracy: float
    """Share of right pixels among all labelled ones."""


@dataclass(frozen=True, kw_only=True)
class KeptResults:
    """Latest results of a run on one set, all measured in the same way."""

    dataset: str
    """Name of the labelled set."""
    num_images: int
    """Number of images scored."""
    num_prototypes: int
    """Number of prototypes, K."""
    metrics: Mapping[str, KeptMetrics]
    """Metrics by matching: ``hungarian``, ``merge``, ``names``, and ``ceiling`` for perfect naming."""

    def sentence(self) -> str:
        """One sentence with all metrics, in per cent."""
        said: list[str] = []
        for matching, words in WORDS.items():
            if metrics := self.metrics.get(matching):
                units = ("", "") if said else (" mIoU", " accuracy")
                miou, accuracy = map(percent_number, (metrics.miou, metrics.pixel_accuracy))
                said.append(f"{words} {miou}{units[0]} / {accuracy}{units[1]}")
        return f"On {self.dataset} ({count(self.num_images, 'photo')}): {'; '.join(said)}."


def write_result(run: RunFolder, entry: Mapping[str, Any]) -> None:
    """Keep a result in a run.

    It replaces the earlier result with the same matching and K. Results of other checkpoints are removed.

    Args:
        run: The run that was scored.
        entry: Keys ``miou``, ``pixel_accuracy``, ``ceiling`` and ``protocol`` from the JSON of a result.

    Raises:
        OSError: If the file cannot be written.
    """
    protocol = entry["protocol"]
    file = run.results_of(protocol["dataset"])
    kept = [
        other
        for other in _entries(file)
        if _checkpoint(other) == _checkpoint(entry)
        and any(other["protocol"][key] != protocol[key] for key in ("matching", "num_prototypes"))
    ]
    write_json(file, {"scores": [*kept, entry]})


def read_results(checkpoint: Path, num_prototypes: int) -> tuple[KeptResults, ...]:
    """Read the results that a run keeps of one of its checkpoints, in the order of the sets' names.

    Each set gives its latest result and those that were measured in the same way.

    Args:
        checkpoint: The file; results of other states of its run are left out.
        num_prototypes: K, after merging if prototypes were merged; results with another K are left out.

    Returns:
        One entry for each set; none if the checkpoint lies in no run or was never scored.
    """
    run = run_of(checkpoint)
    files = sorted(run.results.glob("*.json")) if run else []
    if not files:
        return ()
    digest = checkpoints.digest(checkpoint)
    found = []
    for file in files:
        entries = [e for e in _entries(file) if _checkpoint(e) == digest and _number(e) == num_prototypes]
        if entries:
            found.append(_results(entries))
    return tuple(found)


def _results(entries: list[Mapping[str, Any]]) -> KeptResults:
    """The last entry, with those before it that were measured in the same way."""
    protocol = entries[-1]["protocol"]
    metrics: dict[str, KeptMetrics] = {}
    for entry in entries:
        if any(entry["protocol"].get(key) != protocol.get(key) for key in ALIKE):
            continue
        matching = entry["protocol"]["matching"]
        metrics["ceiling" if matching == "majority" else matching] = _metrics(entry)
        if entry.get("ceiling"):
            metrics["ceiling"] = _metrics(entry["ceiling"])
    return KeptResults(
        dataset=protocol["dataset"],
        num_images=protocol["num_images"],
        num_prototypes=protocol["num_prototypes"],
        metrics=metrics,
    )


def _entries(file: Path) -> list[Mapping[str, Any]]:
    """Entries of a file, the latest last; none if the file is absent or holds something else."""
    if not file.is_file():
        return []
    try:
        entries = json.loads(file.read_bytes())["scores"]
        for entry in entries:
            _results([entry]), _checkpoint(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s holds no scores (%r); run `slotseg eval` again to have them shown.", file, error)
        return []
    return list(entries)


def _metrics(values: Mapping[str, Any]) -> KeptMetrics:
    return KeptMetrics(miou=float(values["miou"]), pixel_accuracy=float(values["pixel_accuracy"]))


def _checkpoint(entry: Mapping[str, Any]) -> str:
    return str(entry["protocol"]["predictor"]["checkpoint"])


def _number(entry: Mapping[str, Any]) -> int:
    return int(entry["protocol"]["num_prototypes"])
