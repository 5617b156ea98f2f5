"""Scores that a run was given on labelled sets: kept in the run, read by what shows the run.

A set has a file in the run, ``scores/<data set>.json``, with the latest score for each matching and each K. Letters:
K prototypes.
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
"""What scores have to share of their protocol to stand beside each other."""
WORDS = {
    "hungarian": "matched one-to-one",
    "merge": "merged and matched one-to-one",
    NAMED: "named by you",
    "ceiling": "perfect naming could reach",
}
"""What the ways to give prototypes their classes are called for people, in the order they are said."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Fractions 0..1."""

    miou: float
    """Mean IoU over the classes."""
    pixel_accuracy: float
    """Right pixels / all labelled pixels."""


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """The latest scores of a run on one set, all measured alike."""

    dataset: str
    """Name of the labelled set."""
    num_images: int
    """Images scored."""
    num_prototypes: int
    """K."""
    scores: Mapping[str, Score]
    """By matching: ``hungarian``, ``merge``, ``names``; and ``ceiling``, what perfect naming could reach."""

    def sentence(self) -> str:
        """All of them for people, in per cent."""
        said: list[str] = []
        for matching, words in WORDS.items():
            if score := self.scores.get(matching):
                units = ("", "") if said else (" mIoU", " accuracy")
                miou, accuracy = map(percent_number, (score.miou, score.pixel_accuracy))
                said.append(f"{words} {miou}{units[0]} / {accuracy}{units[1]}")
        return f"On {self.dataset} ({count(self.num_images, 'photo')}): {'; '.join(said)}."


def write_score(run: RunFolder, entry: Mapping[str, Any]) -> None:
    """Keep a score in a run; an earlier one by the same matching and K goes, and all of other checkpoints.

    Args:
        run: The run that was scored.
        entry: ``miou``, ``pixel_accuracy``, ``ceiling`` and ``protocol``, as in the JSON of a result.

    Raises:
        OSError: If the file cannot be written.
    """
    protocol = entry["protocol"]
    file = run.scores_of(protocol["dataset"])
    kept = [
        other
        for other in _entries(file)
        if _checkpoint(other) == _checkpoint(entry)
        and any(other["protocol"][key] != protocol[key] for key in ("matching", "num_prototypes"))
    ]
    write_json(file, {"scores": [*kept, entry]})


def read_scores(checkpoint: Path, num_prototypes: int) -> tuple[RunScores, ...]:
    """The scores of a checkpoint that its run keeps, by name of the set; of each set the latest and those alike.

    Args:
        checkpoint: The file; scores of other states of its run are left out.
        num_prototypes: K, by which the prototypes may have been merged; scores of other K are left out.

    Returns:
        Nothing where the checkpoint lies in no run or was never scored.
    """
    run = run_of(checkpoint)
    files = sorted(run.scores.glob("*.json")) if run else []
    if not files:
        return ()
    digest = checkpoints.digest(checkpoint)
    found = []
    for file in files:
        entries = [e for e in _entries(file) if _checkpoint(e) == digest and _number(e) == num_prototypes]
        if entries:
            found.append(_run_scores(entries))
    return tuple(found)


def _run_scores(entries: list[Mapping[str, Any]]) -> RunScores:
    """What the last entry says, with those before it that were measured in the same way."""
    protocol = entries[-1]["protocol"]
    scores: dict[str, Score] = {}
    for entry in entries:
        if any(entry["protocol"].get(key) != protocol.get(key) for key in ALIKE):
            continue
        matching = entry["protocol"]["matching"]
        scores["ceiling" if matching == "majority" else matching] = _score(entry)
        if entry.get("ceiling"):
            scores["ceiling"] = _score(entry["ceiling"])
    return RunScores(
        dataset=protocol["dataset"],
        num_images=protocol["num_images"],
        num_prototypes=protocol["num_prototypes"],
        scores=scores,
    )


def _entries(file: Path) -> list[Mapping[str, Any]]:
    """The scores of a file, the latest last; none of one that is absent or holds something else."""
    if not file.is_file():
        return []
    try:
        entries = json.loads(file.read_bytes())["scores"]
        for entry in entries:
            _run_scores([entry]), _checkpoint(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s holds no scores (%r); run `slotseg eval` again to have them shown.", file, error)
        return []
    return list(entries)


def _score(values: Mapping[str, Any]) -> Score:
    return Score(miou=float(values["miou"]), pixel_accuracy=float(values["pixel_accuracy"]))


def _checkpoint(entry: Mapping[str, Any]) -> str:
    return str(entry["protocol"]["predictor"]["checkpoint"])


def _number(entry: Mapping[str, Any]) -> int:
    return int(entry["protocol"]["num_prototypes"])
