"""The runner of ``benchmarks/inference.py`` on a few scenes: a row for every way."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.method.model import SlotCon
from slotseg.segmenting.segmenter import Segmenter

SPEC = importlib.util.spec_from_file_location("inference", Path(__file__).parents[2] / "benchmarks" / "inference.py")
assert SPEC is not None
assert SPEC.loader is not None
inference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(inference)


def test_every_way_is_scored_and_timed(
    tiny_config: Callable[..., TrainConfig],
    tiny_model: Callable[..., SlotCon],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind in ("images", "labels"):
        (tmp_path / "msrc" / kind).mkdir(parents=True)
    for i, kind in enumerate(("images", "labels")):
        Image.fromarray(draw_scene(0)[i]).save(tmp_path / "msrc" / kind / "0.png")
    model = tmp_path / "model.safetensors"
    Segmenter(tiny_model().teacher, tiny_config(), device="cpu").save(model)
    where = ["--checkpoint", str(model), "--dataset", "msrc", "--data-dir", str(tmp_path / "msrc"), "-k", "6"]
    monkeypatch.setattr(sys, "argv", ["inference.py", *where])
    monkeypatch.setattr(inference.torch, "set_num_threads", lambda number: None)
    inference.main()
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(inference.ROWS)
    size = Segmenter.load(model, device="cpu").size
    for line, (times, tta, edges) in zip(lines, inference.ROWS, strict=True):
        way = f"{round(times * size)}, {tta}, {edges}"
        assert re.fullmatch(rf"{way}: \d+\.\d / \d+\.\d, \d+ ms", line)
