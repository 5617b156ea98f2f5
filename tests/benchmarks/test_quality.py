"""The runner of ``benchmarks/quality.py`` on a set of a few scenes: what it trains, keeps and prints."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from slotseg.data.scenes import draw_scene

SPEC = importlib.util.spec_from_file_location("quality", Path(__file__).parents[2] / "benchmarks" / "quality.py")
assert SPEC is not None
assert SPEC.loader is not None
quality = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(quality)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A command line for two seeds on six scenes that pass for MSRC."""
    for kind in ("images", "labels"):
        (tmp_path / "msrc" / kind).mkdir(parents=True)
    for i in range(6):
        image, labels = draw_scene(i)
        Image.fromarray(image).save(tmp_path / "msrc" / "images" / f"{i}.png")
        Image.fromarray(labels).save(tmp_path / "msrc" / "labels" / f"{i}.png")
    model = timm.create_model("mobilenetv3_small_050", pretrained=False)
    save_file(model.state_dict(), tmp_path / "weights.safetensors", {"architecture": "mobilenetv3_small_050"})
    return [
        "--msrc", str(tmp_path / "msrc"), "--init", str(tmp_path / "weights.safetensors"),
        "--out", str(tmp_path / "out"), "--seeds", "0", "1", "-k", "5", "auto",
        "--methods", "slotseg", "plain", "features",
        "--set", "steps=2", "batch_size=4", "model.hidden_dim=16", "optimizer.warmup_epochs=0",
    ]  # fmt: skip


def table(text: str) -> dict[str, list[str]]:
    """Cells of each row by the first of them."""
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def test_one_training_gives_every_number_of_concepts(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["quality.py", *arguments])
    quality.main()
    rows = table(capsys.readouterr().out)
    assert {"msrc, 5, slotseg", "msrc, 5, slotseg, one look, no refinement", "msrc, 5, k-means, same features"} <= set(
        rows
    )
    assert "msrc, auto, slotseg" in rows
    assert "msrc, auto, k-means, same features" not in rows  # it has no rule
    homes = [tmp_path / "out" / f"msrc-seed{seed}" for seed in (0, 1)]
    for name, number in (("slotseg-5", 5), ("plain-5", 5), ("prototypes", 128)):
        protocol = json.loads((homes[1] / f"{name}.json").read_text())["protocol"]
        assert protocol["num_prototypes"] == number
        assert protocol["predictor"]["postprocessing"] == "none"
    miou = [100 * json.loads((home / "slotseg-5.json").read_text())["miou"] for home in homes]
    assert float(rows["msrc, 5, slotseg"][0].split(" ")[0]) == pytest.approx(sum(miou) / 2, abs=0.051)

    (homes[0] / "run" / "checkpoints" / "last.safetensors").unlink()
    (homes[0] / "prototypes.json").unlink()
    without_auto = [a for a in arguments if a != "auto"]
    monkeypatch.setattr(sys, "argv", ["quality.py", *without_auto])
    quality.main()  # needs no run any more: nothing is trained or scored twice
    assert table(capsys.readouterr().out)["msrc, 5, slotseg"] == rows["msrc, 5, slotseg"]

    monkeypatch.setattr(sys, "argv", ["quality.py", *arguments[:-1], "optimizer.warmup_epochs=0.5"])
    with pytest.raises(quality.ConfigError, match="was trained with other settings"):
        quality.main()
