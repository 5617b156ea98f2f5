"""A night's batch is not lost to a bad file: every photo gets its mask, every other file its line."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hostile_files import write_hostile_files
from PIL import Image

from slotseg.cli import main
from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.method.model import SlotCon
from slotseg.segmenting.segmenter import Segmenter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither these links nor these names")


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_model: Callable[..., SlotCon], tiny_config: Callable[..., TrainConfig]) -> Path:
    path = tmp_path / "tiny.safetensors"
    Segmenter(tiny_model().teacher, tiny_config(), device="cpu").save(path)
    return path


def test_scenes_among_hostile_files(tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(30):
        Image.fromarray(draw_scene(i)[0]).save(folder / f"scene {i}.jpg")
    segment_among_hostile_files(folder, checkpoint, tmp_path / "masks", num_photos=30)


@pytest.mark.slow
def test_real_photos_among_hostile_files(tmp_path: Path, checkpoint: Path) -> None:
    data = Path(os.environ.get("SLOTSEG_DATA_DIR", "no data"))
    photos = sorted(data.rglob("*.jpg"))[:300]
    if len(photos) < 300:
        pytest.skip("SLOTSEG_DATA_DIR names no folder with 300 photos")
    folder = tmp_path / "photos"
    for photo in photos:
        copy = folder / photo.relative_to(data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, copy)
    segment_among_hostile_files(folder, checkpoint, tmp_path / "masks", num_photos=300)


def segment_among_hostile_files(folder: Path, checkpoint: Path, out: Path, num_photos: int) -> None:
    photos = {path.relative_to(folder).with_suffix("") for path in folder.rglob("*.jpg")}
    (folder / "a folder.jpg").mkdir()
    hostile = write_hostile_files(folder)
    assert (len(photos), len(hostile)) == (num_photos, 22)
    words = ["segment", str(folder), "-o", str(out), "--checkpoint", str(checkpoint), "--device", "cpu", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 3, result.output
    assert f"{num_photos} masks written to {out}, 22 failed: see {out / 'failures.jsonl'}" in result.stdout
    masks = {path.relative_to(out).with_suffix("") for path in out.rglob("*.png")}
    assert masks == photos
    for name in photos:
        with Image.open(out / f"{name}.png") as mask, Image.open(folder / f"{name}.jpg") as photo:
            assert mask.size == photo.size
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert sorted(failure["file"] for failure in failures) == [str(path) for path in hostile]
    for failure in failures:
        assert failure["error"].startswith(failure["file"]), "the sentence names the file"
        assert ": " in failure["error"], "and says what to do"
    assert len((out / "segments.jsonl").read_text().splitlines()) == num_photos
    assert "Traceback" not in result.output
