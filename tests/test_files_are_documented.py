"""docs/files.md names every file that a run writes, and every field in it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slotseg.config import TrainConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.views.sources import Scenes
from slotseg.data.views.unlabelled import Photos
from slotseg.errors import DataError
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.launch import new_training
from slotseg.training.trainer import Trainer

DOCUMENT = (Path(__file__).parent.parent / "docs" / "files.md").read_text()
WORDS = set(re.findall(r"`([^`\n]+)`", DOCUMENT))


class OneUnreadable(Scenes):
    """Photos of which one is broken."""

    def open(self, index: int) -> Photo:
        if index == 3:
            raise DataError("broken.jpg is no photo")
        return super().open(index)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that wrote everything a run can write."""
    settings = {
        "steps": 2,
        "keep_every": 2,
        "log_every": 1,
        "previews": 1,
        "batch_size": 4,
        "model.hidden_dim": 16,
        "model.num_prototypes": 3,
        "model.trained_prototypes": 5,
        "optimizer.warmup_epochs": 0,
        "backbone.options": {"layers": [1, 1, 1, 1]},
    }
    folder = tmp_path_factory.mktemp("files") / "run"
    trainer = new_training(Photos(), settings, out=folder, device="cpu", workers=0)
    trainer.learner.source = OneUnreadable(8)
    trainer.train()
    segmenter = Segmenter.load(folder, device="cpu")
    segmenter.save(folder / "segmenter.safetensors")
    return RunFolder(folder)


def undocumented(names: set[str]) -> set[str]:
    return {name for name in names if name not in WORDS}


def test_files(run: RunFolder) -> None:
    names = {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()} - {"segmenter.safetensors"}
    assert {"failures.jsonl", "preview/step-00000002.jpg", "checkpoints/step-00000002.safetensors"} <= names
    general = {re.sub(r"step-\d+", "step-00001000", name) for name in names}
    assert undocumented(general) <= {"checkpoints/step-00001000.json"}  # named by its suffix


def test_fields(run: RunFolder) -> None:
    lines = run.metrics.read_text().splitlines()
    assert undocumented(set(json.loads(lines[-1]))) == set()
    assert undocumented(set(json.loads(run.config.read_text()))) == set()
    for file in (run.last, run.path / "segmenter.safetensors"):
        header = checkpoint.read_header(file)
        assert undocumented(set(header)) == set()
        assert set(header.get("computed_in", ())) <= WORDS
    failures = run.failures.read_text().splitlines()
    assert {key for line in failures for key in json.loads(line)} == {"error"}


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_tensors(tmp_path: Path, tiny_config: Callable[..., TrainConfig], optimizer: str) -> None:
    values = {"steps": 1, "optimizer.name": optimizer, "optimizer.warmup_epochs": 0, "model.trained_prototypes": 9}
    trainer = Trainer(tiny_config(values), Scenes(8), RunFolder(tmp_path), device="cpu", workers=0)
    trainer.train()
    general = {"…": ".*", "<parameter>": r"(student|predictor)\..*"}
    patterns = [re.sub("…|<parameter>", lambda m: general[m[0]], re.escape(word)) for word in WORDS if "." in word]
    tensors = checkpoint.load(trainer.run.last).tensors
    for name in tensors:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name
    assert any(name.startswith("optimizer.") for name in tensors)
    assert "teacher.confusion.wins" in tensors
