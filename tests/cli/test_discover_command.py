"""``slotseg discover`` as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from slotseg.cli import main
from slotseg.data.scenes import draw_scene
from slotseg.discovery.record import read_record

CLI = Path(__file__).parents[2] / "cli.py"  # with `-m`, Python itself may end by the signal after Ctrl-C
SMALL = (
    "--backbone", "resnet18", "-k", "5", "--steps", "3", "--device", "cpu", "--workers", "0",
    "--set", "backbone.init=null",
    "--set", 'backbone.options={"channels":[8,16,16,16],"layers":[1,1,1,1]}', "--set", "model.trained_prototypes=8",
    "--set", "model.hidden_dim=16", "--set", "model.prototype_init=normal", "--set", "views.image_size=32",
    "--set", "segment.scales=[1.0]", "--set", "segment.mirror=false", "--set", "segment.edges=none",
    "--set", "optimizer.warmup_epochs=0", "--set", "batch_size=4", "--set", "previews=0", "--set", "log_every=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with four photos."""
    draw(tmp_path / "my photos", 4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(folder: Path, number: int) -> None:
    folder.mkdir()
    for i in range(number):
        Image.fromarray(draw_scene(i)[0]).save(folder / f"{i}.jpg")


def discover(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["discover", "my photos", "-o", "found", *arguments])


def test_one_command_then_names_then_the_same_command() -> None:
    first = discover(*SMALL)
    assert first.exit_code == 0, first.output
    assert first.stdout == "5 concepts in 4 photos: open found/index.html\n"
    assert "training about" in first.stderr
    assert "concepts about 10 s, masks about 10 s; about " in first.stderr
    page = Path("found/index.html").read_text()
    assert "slotseg discover &#39;my photos&#39; -o found --backbone resnet18" in page

    again = discover(*SMALL)
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith("There was nothing left to do: 5 concepts in 4 photos: ")
    assert again.stderr == ""

    Path("found/names.json").write_text(json.dumps({"names": {"0": "wood"}}))
    named = discover(*SMALL)
    assert named.exit_code == 0, named.output
    assert "Painting 4 photos with the names of found/names.json" in named.stderr
    assert "Trying" not in named.stderr
    assert json.loads(Path("found/masks/legend.json").read_text())["classes"][0]["name"] == "wood"

    mapped = discover("--format", "geotiff")
    assert mapped.exit_code == 0, mapped.output
    assert mapped.stderr.endswith("my photos/0.jpg: no georeference for the GeoTIFF mask\n")
    files = [Path(f"found/masks/{i}.tif") for i in range(4)]
    assert all(file.is_file() for file in files)
    assert "wood" in Path("found/masks/0.tif.aux.xml").read_text()
    assert discover("--format", "geotiff").stdout.startswith("There was nothing left to do: ")

    Path("found/names.json").write_text(json.dumps({"names": {"0": "steel"}}))
    assert discover().exit_code == 0  # the format is kept
    assert all(file.is_file() for file in files)
    assert "steel" in Path("found/masks/0.tif.aux.xml").read_text()


def test_a_photo_that_cannot_be_read_makes_the_exit_code_3() -> None:
    Path("my photos/broken.jpg").write_bytes(b"")
    for result in (discover(*SMALL), discover(*SMALL)):
        assert result.exit_code == 3, result.output
        assert "; 1 photo failed: see the report" in result.stdout
    assert "broken.jpg is empty" in Path("found/index.html").read_text()


@pytest.mark.parametrize("swallowed", [False, True], ids=["itself", "as an error a library makes of it"])
def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, swallowed: bool) -> None:
    def pressed(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise (ValueError("shape") if swallowed else error) from None

    with monkeypatch.context() as patch:
        patch.setattr("slotseg.discovery.stages.show_concepts", pressed)
        result = discover(*SMALL)
    assert result.exit_code == 130
    assert result.stderr.endswith("The same command goes on from here.\nInterrupted.\n")
    assert "Traceback" not in result.output
    assert discover(*SMALL).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--names", "nothing.json"), "nothing.json cannot be read"),
        (("--set", "nothing=1"), "unknown setting"),
        (("--steps", "0"), "steps is 0"),
        (("--device", "abacus"), "device is 'abacus'"),
    ],
)
def test_wrong_words_are_one_sentence_and_leave_nothing(arguments: tuple[str, ...], message: str) -> None:
    result = discover(*SMALL, *arguments)
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert message in line
    assert not Path("found").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_real_ctrl_c_in_every_stage(work: Path) -> None:
    """The process group gets it, as from a terminal; the command goes on each time, and ends as if nothing had been."""
    draw(work / "many", 150)
    command = [sys.executable, str(CLI), "discover", "many", "-o", "found", *SMALL, "--steps", "40"]
    out = work / "found"
    metrics = out / "run" / "metrics.jsonl"
    moments: list[tuple[Callable[[], bool], int]] = [  # and the stages that are whole then: a run is whole or not
        (metrics.is_file, 0),
        (lambda: "decoder_loss" in metrics.read_text(), 0),
        ((out / "concepts").is_dir, 2),
        (lambda: any((out / "masks").glob("*.png")), 3),
    ]
    for moment, whole in moments:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        deadline = time.monotonic() + 300
        while not moment() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 130, stderr
        assert "The same command goes on from here." in stderr
        assert "Traceback" not in stderr
        record = read_record(out)
        assert record is not None
        assert sum(s.whole for s in record.stages.values()) == whole, "it was interrupted in that stage"
        assert not list(out.rglob("*.part"))
        for mask in (out / "masks").glob("*.png"):
            with Image.open(mask) as image:
                image.load()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((out / "masks").glob("[0-9]*.png"))) == 150
