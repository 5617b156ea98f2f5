"""Checkpoints: one safetensors file, tensors plus JSON in its header; safe to load, atomic to write.

Keys start with ``student.``, ``teacher.``, ``predictor.``, ``center.`` (a model, see
``slotseg.method.model``) or ``optimizer.<parameter>.``. The header's ``slotseg`` entry is JSON:
``format``, ``version``, ``kind`` ("run" or "segmenter"), ``config``, ``step``, ``labels``.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import slotseg
from slotseg.errors import CheckpointError
from slotseg.files import missing_space, replacing, write_json
from slotseg.values import is_whole

log = logging.getLogger(__name__)

FORMAT = 1
NOTES = ("preset", "photos", "sources", "photo_notes", "official")
"""Fields of a run's header that say where the run came from; training does not make them."""


KINDS: dict[type, tuple[tuple[str, ...], str]] = {
    int: (
        ("step", "total_steps", "decoder_step", "skipped_steps", "num_photos", "steps_per_epoch"),
        "a whole number from 0",
    ),
    dict: (("computed_in", "scaler", "sources"), "values by name"),
    list: (("photos",), "files and folders in a list"),
    str: (("preset",), "a text"),
}
"""Names of a header's fields by the kind of their values, with words for it. Any of them may be missing."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Tensors, and the header that says what they belong to."""

    tensors: dict[str, Tensor]
    """The state, on the CPU."""
    info: dict[str, Any] = field(default_factory=dict)
    """The header's JSON."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under ``prefix``, without it."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}


def save(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any], *, readable: bool = False) -> None:
    """Write a checkpoint atomically.

    Args:
        path: File to write; its name ends in ``.safetensors``.
        tensors: State by key; it is copied to the CPU.
        info: JSON-ready values for the header; ``format`` and ``version`` are added.
        readable: Whether to write the header as a ``.json`` beside it too.

    Raises:
        CheckpointError: If the file cannot be written; an older file stays as it was. If the disk is full, the
            error says how much room is missing.
    """
    header = {"format": FORMAT, "version": slotseg.__version__, **info}
    contents = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    try:
        with replacing(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(contents, temporary, metadata={"slotseg": json.dumps(header)})
            temporary.chmod(mode)  # safetensors makes files that only their owner can read
        if readable:
            write_json(path.with_suffix(".json"), header)
    except (OSError, SafetensorError) as error:
        size = sum(t.numel() * t.element_size() for t in contents.values())
        raise CheckpointError(f"{path} cannot be written: {missing_space(path, size) or error}") from error


def load(path: Path) -> Checkpoint:
    """Read a checkpoint that ``save`` has written.

    Raises:
        CheckpointError: If the file is missing, damaged or not one of ours.
    """
    header = read_header(path)
    with safe_open(path, framework="pt") as file:
        return Checkpoint(tensors={key: file.get_tensor(key) for key in file.keys()}, info=header)  # noqa: SIM118


def read_header(path: Path) -> dict[str, Any]:
    """Read the JSON of a checkpoint without its tensors.

    Raises:
        CheckpointError: As ``load``.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; expected a checkpoint such as runs/NAME")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("slotseg", "null"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or no safetensors file ({error}); expected a checkpoint written by slotseg"
        ) from error
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{path} was not written by slotseg; expected a run or its checkpoint (weights of others go to --init)"
        )
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {header.get('format')} of slotseg {header.get('version')}; this version reads {FORMAT}"
        )
    if not isinstance(header.get("config"), dict):
        raise CheckpointError(f"{path} has a damaged header; expected config with settings by name")
    for kind, (names, words) in KINDS.items():
        for name in names:
            value = header.get(name)
            if value is not None and (type(value) is not kind or (is_whole(value) and value < 0)):
                raise CheckpointError(f"{path} has a damaged header: {name} is {json.dumps(value)}; expected {words}")
    return header


def misfit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What keeps tensors from being the state of a module, in the words of an error; empty if nothing does."""
    for key, tensor in expected.items():
        if key not in found:
            return f"it lacks {key}"
        if found[key].shape != tensor.shape:
            return f"{key} has shape {tuple(found[key].shape)} and not {tuple(tensor.shape)}"
    unknown = next((key for key in found if key not in expected), None)
    return f"it holds {unknown}, which is unknown" if unknown else ""


def warn_if_untrained(path: Path, info: Mapping[str, Any]) -> None:
    """Say so where the header of a checkpoint is of step 0."""
    if info.get("step") == 0:
        log.warning("%s has not learned anything: it is at step 0 of %s", path, info.get("total_steps", "its training"))


def digest(path: Path) -> str:
    """First 16 hexadecimal digits of the file's SHA-256, to name a checkpoint in a result."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()[:16]
