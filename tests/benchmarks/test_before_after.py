"""The runner of ``benchmarks/before_after.py``: commands of other processes, and the table with its marks."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from slotseg.data.scenes import draw_scene
from slotseg.errors import ConfigError, SlotSegError
from slotseg.files import write_json

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(FOLDER))  # it imports its neighbours
SPEC = importlib.util.spec_from_file_location("before_after", FOLDER / "before_after.py")
assert SPEC is not None
assert SPEC.loader is not None
before_after = importlib.util.module_from_spec(SPEC)
sys.modules["before_after"] = before_after  # where its dataclass looks for names
SPEC.loader.exec_module(before_after)
sys.path.remove(str(FOLDER))


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A build that is the slotseg of the tests, so that nothing is installed."""
    monkeypatch.setattr(before_after.Build, "environment", dict(os.environ))
    (tmp_path / "before").mkdir()
    return before_after.Build(name="before", commit="0" * 40, home=tmp_path / "before", settings=())


def test_a_command_is_measured_once(build: Any) -> None:
    build.measure("help", "train", "--help")
    kept = build.kept("help")
    assert kept["seconds"] > 0
    assert kept["peak"] > 1e6
    assert len(kept["load"]) == 2
    assert "--preset" in (build.home / "help.log").read_text()
    build.measure("help", "train", "--help")
    assert build.kept("help") == kept
    with pytest.raises(ConfigError, match="had other arguments"):
        build.measure("help", "segment", "--help")
    with pytest.raises(ConfigError, match="was begun and not finished"):
        build.measure("again", "train", "--help", makes=build.home)
    other = before_after.Build(name="before", commit="1" * 40, home=build.home, settings=())
    with pytest.raises(ConfigError, match="is of commit 0000000; expected 1111111"):
        other.kept("help")


def test_a_command_that_fails_is_no_measurement(build: Any) -> None:
    with pytest.raises(SlotSegError, match="slotseg train of the build before failed"):
        build.measure("wrong", "train", "absent")
    assert build.kept("wrong") is None


def test_marks_are_those_of_the_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("images", "labels"):
        (tmp_path / "msrc" / kind).mkdir(parents=True)
    (tmp_path / "coco" / "train2017").mkdir(parents=True)
    for i in range(3):
        for kind, picture in zip(("images", "labels"), draw_scene(i), strict=True):
            Image.fromarray(picture).save(tmp_path / "msrc" / kind / f"{i}.png")
        Image.fromarray(draw_scene(i)[0]).save(tmp_path / "coco" / "train2017" / f"{i}.jpg")
    commands: list[tuple[str, ...]] = []

    def measure(build: Any, what: str, *arguments: object, makes: Path | None = None) -> None:
        words = tuple(map(str, arguments))
        commands.append((build.name, *words))
        after = build.name == "after"
        seconds = {"train": 100.0, "discover": 90.0, "segment": 21.0, "eval": 1.0}[words[0]]
        if after and words[0] != "discover":
            seconds /= 4
        seconds = 1.0 if "-one-" in what else 1.0 + seconds / 5 if "-plain-" in what else seconds
        values = {"seconds": seconds, "peak": 5e8 + 1e8 * after, "load": [0.0, 1.0], "threads": "1"}
        file = build.home / f"{what}.json"
        write_json(file, {"commit": build.commit, "arguments": words, "began": "now", **values})
        if words[0] == "eval":
            scores = {"miou": 0.3 + 0.02 * after, "pixel_accuracy": 0.5 - 0.01 * after}
            write_json(Path(words[-1]), scores)

    monkeypatch.setattr(before_after.Build, "measure", measure)
    monkeypatch.setattr(before_after, "full_name", lambda commit: commit)
    sets = ["--msrc", str(tmp_path / "msrc"), "--coco27", str(tmp_path / "coco")]
    words = [*sets, "--init", "none", "--out", str(tmp_path / "out"), "--seeds", "0", "1", "--memory-photos", "7"]
    argv = ["before_after.py", *words, "--set", "a=1", "--set-after", "b=2", "c=3"]
    monkeypatch.setattr(sys, "argv", [*argv, "--measures", "train", "discover", "paint", "memory"])
    before_after.main()
    monkeypatch.setattr(sys, "argv", [*argv[:3], *argv[5:], "--measures", "scores"])
    before_after.main()
    rows = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[cells[0]] = cells[1:]
    assert rows["train msrc, s"] == ["100 (100 to 100)", "25 (25 to 25)", "0.25 (0.25 to 0.25)", "≤ 0.25: met"]
    assert rows["discover coco27, s"][-1] == "≤ 0.333: missed"
    assert rows["paint msrc, ms a photo"][0] == "10,000 (10,000 to 10,000)"
    assert rows["paint msrc, ms a photo"][-1] == "≤ 0.2: missed"
    assert rows["paint msrc, ms a photo, before in one plain look"][0] == "2,100 (2,100 to 2,100)"
    assert rows["train on 7 photos, 60 steps, peak MB"] == ["500", "600", "1.20", "≤ 1.3: met"]
    assert rows["msrc, K = classes, mIoU / accuracy"] == [
        "30.0 ±0.0 / 50.0 ±0.0",
        "32.0 ±0.0 / 49.0 ±0.0",
        "1.07 / 0.98",
        "≥ 31.0 / 51.5 and before: met / missed",
    ]
    assert len(list((tmp_path / "out" / "photos-7").iterdir())) == 7
    trainings = [command for command in commands if command[1] == "train" and "--out" in command]
    assert [command[0] for command in trainings[:4]] == ["before", "after"] * 2
    assert not any("b=2" in command for command in commands if command[0] == "before")
    assert all({"b=2", "c=3", "a=1", "backbone.init=null"} <= set(c) for c in trainings if c[0] == "after")
    assert json.loads((tmp_path / "out" / "after" / "train-msrc-seed1.json").read_text())["commit"] == "HEAD"
