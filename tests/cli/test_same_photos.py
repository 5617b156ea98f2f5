"""Every command that takes a folder finds the same photos in it."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from slotseg.cli import main
from slotseg.data.finding.inputs import Inputs
from slotseg.data.scenes import draw_scene
from slotseg.data.views.unlabelled import Photos
from slotseg.runs.checkpoint import read_header
from slotseg.training.launch import plan_training

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")

PHOTOS = (
    *("a.jpg", "b.HEIC", "c.jfif", "d.avif", "trip/e.mpo", "trip/day 1/f.Heif", "trip/day 1/ünï 照片.webp"),
    *("folder.jpg/g.jpeg", "linked/h.tif", "link.png"),
)
NOT_PHOTOS = (
    *(".hidden.jpg", "trip/._e.mpo", ".cache/i.jpg", "notes.txt", "no suffix", "trip/labels.json", "j.jpg.txt"),
    "raw.nef",
)
SMALL = (
    "--backbone", "resnet18", "--set", "steps=1", "--device", "cpu", "--workers", "0", "--set", "backbone.init=null",
    "--set", 'backbone.options={"channels":[8,16,16,16],"layers":[1,1,1,1]}', "--set", "model.trained_prototypes=null",
    "--set", "model.hidden_dim=16", "--set", "model.prototype_init=normal", "--set", "views.image_size=32",
    "--set", "segment.scales=[1.0]", "--set", "segment.mirror=false", "--set", "segment.edges=none",
    "--set", "optimizer.warmup_epochs=0", "--set", "batch_size=4", "--set", "previews=0",
    "--set", "model.num_prototypes=5",
)  # fmt: skip


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder of photos in all sorts of files, with links out of it and back, and with much that is none."""
    folder, outside = tmp_path / "odd", tmp_path / "outside"
    outside.mkdir()
    (outside / "more").mkdir()
    folder.mkdir()
    (folder / "linked").symlink_to(outside / "more")
    for i, name in enumerate(name for name in (*PHOTOS, *NOT_PHOTOS) if name != "link.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_scene(i)[0]).save(folder / name, "PNG")
    Image.fromarray(draw_scene(99)[0]).save(outside / "photo.dat", "PNG")
    (folder / "link.png").symlink_to(outside / "photo.dat")
    (folder / "trip" / "back").symlink_to(folder)
    (folder / "twice").symlink_to(folder / "linked")
    return folder


def test_training_holds_what_is_segmented(odd: Path) -> None:
    def files(names: Iterable[str]) -> list[str]:
        """Photos by their real folder, whichever way led there."""
        return sorted(os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name)) for name in names)

    for words in ([odd], [odd / "trip", odd], [odd, odd / "a.jpg"]):
        source = plan_training(Photos(words), {"backbone.init": None}).source
        assert files(source.name(i) for i in range(len(source))) == files(str(odd / name) for name in PHOTOS)
        assert files(item.name for item in Inputs(words)) == files(str(odd / name) for name in PHOTOS)


@pytest.mark.slow
def test_every_command_finds_them(odd: Path, tmp_path: Path) -> None:
    def slotseg(*arguments: object) -> str:
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    slotseg("train", odd, "--out", tmp_path / "run", *SMALL)
    assert read_header(tmp_path / "run" / "checkpoints" / "last.safetensors")["num_photos"] == len(PHOTOS)

    assert f"{len(PHOTOS)} photos, {len(PHOTOS)} of them looked at" in slotseg("doctor", odd, *SMALL)

    slotseg("segment", odd, "--checkpoint", tmp_path / "run", "--output", tmp_path / "masks", "--device", "cpu")
    masks = {Path(name).with_suffix(".png") for name in PHOTOS}
    assert pngs(tmp_path / "masks") == masks

    assert f"in {len(PHOTOS)} photos" in slotseg("discover", odd, "--output", tmp_path / "found", *SMALL)
    assert json.loads((tmp_path / "found" / "discover.json").read_text())["num_photos"] == len(PHOTOS)
    assert pngs(tmp_path / "found" / "masks") == masks | {Path("legend.png")}


def pngs(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*.png")}
