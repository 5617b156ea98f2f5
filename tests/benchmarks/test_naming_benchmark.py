"""``benchmarks/naming.py`` on some scenes: its metrics are those of ``slotseg eval``."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from slotseg.cli import main
from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.data.views.sources import Scenes
from slotseg.files import write_json
from slotseg.runs.folder import RunFolder
from slotseg.training.trainer import Trainer

SPEC = importlib.util.spec_from_file_location("naming", Path(__file__).parents[2] / "benchmarks" / "naming.py")
assert SPEC is not None
assert SPEC.loader is not None
naming = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(naming)


def test_names_are_those_of_most_pixels() -> None:
    table = np.array([[3, 5, 0], [0, 0, 0], [9, 1, 2]])
    names = naming.name_by_majority(table, ["sky", "tree", "road"])
    assert names.names == {0: "tree", 2: "sky"}
    assert names.num_prototypes == 3


def test_labelled_photos_lie_evenly() -> None:
    assert naming.evenly(296, 20) >= {0, 14, 29, 281}
    assert len(naming.evenly(296, 20)) == 20
    assert naming.evenly(4, 4) == {0, 1, 2, 3}


def test_figures_are_those_of_eval(
    tmp_path: Path,
    tiny_config: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = RunFolder(tmp_path / "run")
    config = tiny_config({"steps": 1, "optimizer.warmup_epochs": 0})
    Trainer(config, Scenes(8), run, device="cpu", workers=0).train()
    msrc = tmp_path / "msrc"
    for kind in ("images", "labels"):
        (msrc / kind).mkdir(parents=True)
    for i in range(6):
        for kind, picture in zip(("images", "labels"), draw_scene(i), strict=True):
            Image.fromarray(picture).save(msrc / kind / f"{i}.png")
    monkeypatch.setattr(sys, "argv", ["naming.py", str(run.path), "--data-dir", str(msrc), "--photos", "2"])
    naming.main()
    cells = capsys.readouterr().out.splitlines()[-1].split()
    assert cells[:2] == ["6", "2"]

    (tmp_path / "labelled").write_text("0\n3\n")
    (tmp_path / "others").write_text("1\n2\n4\n5\n")

    def scores(photos: str, *words: object) -> dict[str, Any]:
        where = ("--data-dir", msrc, "--image-list", tmp_path / photos, "--checkpoint", run.path)
        command = ("eval", "--dataset", "msrc", *where, *words, "--json", tmp_path / "result.json")
        result = CliRunner().invoke(main, [str(word) for word in command])
        assert result.exit_code == 0, result.output
        values: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
        return values

    seen = scores("labelled")
    names = naming.name_by_majority(np.array(seen["table"]), list(seen["iou_per_class"]))
    write_json(tmp_path / "names.json", names.to_dict())
    named, matched = scores("others", "--labels", tmp_path / "names.json"), scores("others")
    metrics = [values[key] for values in (named, matched, named["ceiling"]) for key in ("miou", "pixel_accuracy")]
    assert cells[2:] == [str(len(names.names)), *(f"{100 * value:.1f}" for value in metrics)]
