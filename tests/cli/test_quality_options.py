"""``--tta`` and ``--edges``: what they change, and that a score says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from slotseg.cli import main
from slotseg.cli.options import quality
from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.errors import ConfigError
from slotseg.method.model import SlotCon
from slotseg.segment_config import PLAIN, SegmentConfig
from slotseg.segmenting.segmenter import Segmenter


@pytest.fixture
def model(tiny_config: Callable[..., TrainConfig], tiny_model: Callable[..., SlotCon], tmp_path: Path) -> Path:
    """A saved segmenter whose maps are no single colour, and whose run refines by the mean field."""
    values = {"segment.edges": "field", "segment.field_strength": 4.0}
    teacher = tiny_model(values).teacher
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    teacher(torch.randn(8, 3, 64, 64))
    Segmenter(teacher, tiny_config(values), device="cpu").save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("tta", "edges", "changes"),
    [
        (None, None, {}),
        ("none", "none", PLAIN),
        ("flip", None, {"mirror": True, "scales": (1.0,)}),
        ("scales", "field", {"mirror": False, "scales": (0.85, 1.4), "edges": "field"}),
        ("flip,scales", "guided", {"mirror": True, "scales": (0.85, 1.4), "edges": "guided"}),
    ],
)
def test_options_are_changes_of_the_settings(tta: str | None, edges: str | None, changes: dict[str, Any]) -> None:
    assert quality(tta, edges) == changes
    SegmentConfig(**changes)


def test_a_run_is_loaded_with_changed_settings(model: Path) -> None:
    image = draw_scene(0)[0]
    maps = {
        edges: Segmenter.load(model, segment=quality(None, edges), size=64, device="cpu").prototype_map(image)
        for edges in (None, "field", "guided", "none")
    }
    assert np.array_equal(maps[None], maps["field"])
    assert all((maps[a] != maps[b]).any() for a, b in (("none", "field"), ("none", "guided"), ("field", "guided")))
    with pytest.raises(ConfigError, match="unknown setting 'edge' in SegmentConfig; expected one of scales"):
        Segmenter.load(model, segment={"edge": "guided"}, device="cpu")


def test_scores_say_how_they_were_made(model: Path) -> None:
    expected = {
        "--plain": ("", "none", "none"),
        "--tta none --edges none": ("", "none", "none"),
        "--tta none": (", field", "none", "mean-field refinement, strength 4"),
        "--tta flip --edges none": (", flip", "scales 1 and mirrored", "none"),
        "--tta scales --edges none": (", scales", "scales 0.85, 1.4", "none"),
        "--tta flip,scales --edges guided": (
            ", scales, flip, guided",
            "scales 0.85, 1.4 and mirrored",
            "guided filter",
        ),
    }
    names = {}
    for arguments, (added, looks, edges) in expected.items():
        file = model.with_name("score.json")
        where = ["--dataset", "scenes", "--limit", "2", "--checkpoint", str(model), "--device", "cpu", "--size", "64"]
        scored = CliRunner().invoke(main, ["eval", *where, "--json", str(file), *arguments.split()])
        assert scored.exit_code == 0, scored.output
        result = json.loads(file.read_text())
        predictor = result["protocol"]["predictor"]
        names[arguments] = predictor["name"]
        assert predictor["name"] == f"slotseg resnet18 at 64 px{added}"
        assert predictor["augmentation"] == looks
        assert predictor["postprocessing"].startswith(edges)
        assert predictor["name"] in scored.stdout.splitlines()[2]  # the head of the table
        assert result["citation"].startswith(predictor["name"])
    assert len(set(names.values())) == len(expected) - 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--plain --edges guided", "--plain is --tta none --edges none"),
        ("--baseline one-class --tta flip", "--plain, --tta and --edges are for a run"),
    ],
)
def test_options_that_do_not_go_together(model: Path, arguments: str, sentence: str) -> None:
    where = ["--dataset", "scenes", "--device", "cpu"]
    refused = CliRunner().invoke(main, ["eval", *where, *arguments.split()])
    assert refused.exit_code == 1
    assert sentence in refused.stderr


def test_segment_paints_with_them(model: Path) -> None:
    photo = model.with_name("photo.png")
    Image.fromarray(draw_scene(0)[0]).save(photo)
    for edges in ("none", "guided"):
        mask = model.with_name(f"{edges}.png")
        where = ["-o", str(mask), "--checkpoint", str(model), "--device", "cpu", "--precision", "fp32"]
        where += ["--size", "64", "--tta", "flip"]
        painted = CliRunner().invoke(main, ["segment", str(photo), *where, "--edges", edges])
        assert painted.exit_code == 0, painted.output
        changes = quality("flip", edges)
        expected = Segmenter.load(model, segment=changes, size=64, device="cpu")(photo).class_map
        assert np.array_equal(np.array(Image.open(mask)), expected)
