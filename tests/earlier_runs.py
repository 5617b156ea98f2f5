"""What a version of slotseg makes of a run: masks, scores, the run further on; by the command line alone.

``tests/golden/run-088b0e1/make.py`` kept what one version made, ``tests/test_earlier_runs.py`` compares.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from slotseg.cli import main

Masks = dict[str, NDArray[Any]]
"""Values of each PNG that was written, by its place in the output folder."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute as on any number of cores; networks this small are fastest so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def command(*words: object) -> None:
    """Call ``slotseg`` with these words on the CPU; it has to succeed."""
    result = CliRunner().invoke(main, [*map(str, words), "--device", "cpu"])
    assert result.exit_code == 0, result.output


def segment(checkpoint: Path, photos: Path, output: Path, options: Sequence[str]) -> Masks:
    """Paint a folder of photos into a new one."""
    command("segment", photos, "-o", output, "--checkpoint", checkpoint, "--precision", "fp32", *options)
    return {path.relative_to(output).as_posix(): np.asarray(Image.open(path)) for path in sorted(output.rglob("*.png"))}


def with_segment(file: Path, copy: Path, settings: Mapping[str, Any] | None) -> Path:
    """A checkpoint whose configuration has other settings of segmenting, all of them; None: the file itself."""
    if settings is None:
        return file
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["slotseg"])
    header["config"]["segment"] = settings
    save_file(load_file(file), copy, metadata={"slotseg": json.dumps(header)})
    return copy


def score(run: Path, json_file: Path, options: Sequence[str]) -> dict[str, Any]:
    """Score a run on a few of the built-in scenes, which leaves the run as it is; what is written as JSON."""
    words = ["--dataset", "scenes", "--limit", 12, "--checkpoint", run, "--json", json_file]
    command("eval", *words, *options)
    result: dict[str, Any] = json.loads(json_file.read_text())
    return result


def resume(run: Path, copy: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Train a copy of a run on, to an end at step 12; the last checkpoint's tensors and the run's metrics."""
    shutil.copytree(run, copy)
    command("train", "--resume", copy, "--steps", 12, "--workers", 0)
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    return load_file(copy / "checkpoints" / "last.safetensors"), [json.loads(line) for line in lines]
