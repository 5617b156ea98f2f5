"""``slotseg segment`` in pipes, interrupted, and with outputs that cannot be written."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from slotseg.cli import main
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.labels.label_map import LabelMap, palette

COMMAND = (sys.executable, str(Path(__file__).parents[2] / "cli.py"), "segment")
WHERE = ("--checkpoint", "tiny.safetensors", "--device", "cpu")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, saved_segmenter: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a model and three photos."""
    for i, name in enumerate(("a", "b", "deep/c")):
        path = tmp_path / "photos" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_scene(i)[0]).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def segment(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["segment", *arguments, *WHERE], input=stdin)


def refusal(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    return line


def test_from_stdin_to_stdout_is_the_mask_of_the_file(work: Path) -> None:
    assert segment("photos/a.jpg", "-o", "a.png").exit_code == 0
    piped = segment("-", "-o", "-", stdin=Path("photos/a.jpg").read_bytes())
    assert piped.exit_code == 0, piped.output
    assert piped.stdout_bytes == Path("a.png").read_bytes()
    assert refusal(segment("-", "-o", "-", stdin=b"no photo")).startswith("Error: the image on stdin is not an image")
    assert "stdin is empty" in refusal(segment("-", "-o", "-", stdin=b""))


def test_stdout_takes_one_mask_and_nothing_else() -> None:
    assert "expected one photo" in refusal(segment("photos", "-o", "-"))
    assert "writes the mask alone" in refusal(segment("photos/a.jpg", "-o", "-", "--overlay"))
    assert not Path("-").exists()


def test_notes_do_not_mix_with_the_mask_on_stdout() -> None:
    pages = [Image.fromarray(draw_scene(i)[0]) for i in range(2)]
    pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
    result = segment("pages.tif", "-o", "-")
    assert result.stderr == "pages.tif: the first of 2 pages\n"
    with Image.open(io.BytesIO(result.stdout_bytes)) as mask:
        assert mask.size == pages[0].size


@pytest.mark.parametrize("words", [["photos"], ["photos/**/*.jpg"], ["@list.txt"], ["@-"], ["photos/a.jpg", "photos"]])
def test_inputs_of_every_kind_give_the_same_masks(words: list[str]) -> None:
    lines = "photos/a.jpg\nphotos/b.jpg\nphotos/deep/c.jpg\n"
    Path("list.txt").write_text(lines)
    result = segment(*words, "-o", "masks", stdin=lines.encode() if words == ["@-"] else None)
    assert result.exit_code == 0, result.output
    assert "3 masks written" in result.stdout
    assert sorted(path.stem for path in Path("masks").rglob("*.png")) == ["a", "b", "c"]


def test_label_maps_are_taken_by_the_data_set_they_were_matched_on() -> None:
    run = Path("runs/mine")
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    Path("tiny.safetensors").rename(run / "checkpoints" / "last.safetensors")
    names = tuple(CLASS_NAMES[:6])
    for dataset, shift in (("msrc", 0), ("camvid", 1)):
        label_map = LabelMap.of_classes(names[shift:] + names[:shift], palette(6))
        run.joinpath("labels").mkdir(exist_ok=True)
        (run / "labels" / f"{dataset}.json").write_text(json.dumps(label_map.to_dict()))
    where = ["--checkpoint", str(run), "--device", "cpu"]
    for dataset, first in (("msrc", names[0]), ("camvid", names[1])):
        words = ["segment", "photos/a.jpg", "-o", f"{dataset}.png", "--labels", dataset, *where]
        assert CliRunner().invoke(main, words).exit_code == 0
        assert json.loads(Path(f"{dataset}_legend.json").read_text())["classes"][0]["name"] == first
    wrong = CliRunner().invoke(main, ["segment", "photos", "-o", "m", "--labels", "ade20k", *where])
    assert "there are no labels ade20k; expected" in refusal(wrong)
    assert "matched on: camvid, msrc" in refusal(wrong)


def test_photos_of_which_none_can_be_read_are_one_sentence() -> None:
    for path in ("photos/a.jpg", "photos/b.jpg", "photos/deep/c.jpg"):
        Path(path).write_bytes(b"")
    assert "none of the 3 photos could be read" in refusal(segment("photos", "-o", "m"))
    assert "photos/a.jpg is empty" in refusal(segment("photos/a.jpg", "-o", "m"))


def test_existing_masks_cannot_be_both_replaced_and_left() -> None:
    assert "expected one of them" in refusal(segment("photos", "-o", "m", "--overwrite", "--skip-existing"))
    assert not Path("m").exists()


def test_photos_over_the_limit_name_the_option() -> None:
    Image.new("RGB", (9, 9)).save("photos/small.png")
    result = segment("photos", "-o", "masks", "--max-pixels", "5000")
    assert result.exit_code == 3
    assert "raise --max-pixels" in result.stderr
    assert "1 mask written to masks, 3 failed" in result.stdout


def test_small_parts_are_absorbed() -> None:
    assert segment("photos", "-o", "masks", "--min-area", "100000").exit_code == 0  # all parts are small: as they were
    assert segment("photos", "-o", "some", "--min-area", "200").exit_code == 0
    before, after = (np.array(Image.open(f"{out}/a.png")) for out in ("masks", "some"))
    assert before.shape == after.shape
    assert set(np.unique(after)) <= set(np.unique(before))


def test_a_mask_as_geotiff_is_named_after_the_mask() -> None:
    result = segment("photos/a.jpg", "-o", "mask.png", "--format", "geotiff")
    assert (result.exit_code, result.stdout) == (0, "1 mask written to mask.png\n"), result.output
    assert "photos/a.jpg: no georeference for the GeoTIFF mask" in result.stderr
    assert {p.name for p in Path().glob("mask*")} == {"mask.png", "mask.tif", "mask.tif.aux.xml", "mask_legend.json"}
    assert "writes the mask alone" in refusal(segment("photos/a.jpg", "-o", "-", "--format", "geotiff"))
    assert "ends in .tif; expected a .png" in refusal(segment("photos/a.jpg", "-o", "b.tif", "--format", "geotiff"))


def test_masks_as_geotiff_say_once_that_photos_have_no_georeference() -> None:
    result = segment("photos", "-o", "m", "--format", "geotiff", "--format", "labelme")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("georeference") == 1
    assert "3 photos, the first photos/a.jpg: no georeference for the GeoTIFF mask" in result.stderr
    assert {p.name for p in Path("m").rglob("*.tif")} == {"a.tif", "b.tif", "c.tif"}
    assert "3 of 3 masks exist" in refusal(segment("photos", "-o", "m", "--format", "geotiff"))


def test_a_closed_pipe_is_no_traceback(work: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [*COMMAND, "photos/a.jpg", "-o", "-", *WHERE], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert process.returncode == 1
    assert process.stderr == ""


def test_an_output_that_cannot_be_written_is_one_sentence(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for out in ("masks", "mask.png"):
        words = ("photos/a.jpg", "-o", str(small_disk / out))
        assert "cannot be written (Read-only file system); expected another --output" in refusal(segment(*words))


@pytest.mark.parametrize("more", [["--overlay"], ["--format", "geotiff"]], ids=str)
def test_a_full_disk_is_one_sentence(more: list[str], small_disk: Path, fill_disk: Callable[[Path, int], None]) -> None:
    fill_disk(small_disk, 4096)
    message = refusal(segment("photos", "-o", str(small_disk / "masks"), *more))
    assert "(No space left on device)" in message
    assert not list(small_disk.rglob("*.part"))


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_and_the_next_call_goes_on(work: Path) -> None:
    for i in range(400):
        Image.fromarray(draw_scene(i % 5)[0]).save(f"photos/{i:03}.png")
    command = [*COMMAND, "photos", "-o", "masks", "--batch-size", "1", *WHERE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(Path().glob("masks/*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Interrupted." in stderr
    assert "Traceback" not in stderr
    written = list(Path("masks").rglob("*"))
    assert 0 < len(written) < 400
    assert all(path.suffix == ".png" for path in written if path.is_file()), "no half-written ones"
    for path in (p for p in written if p.is_file()):
        with Image.open(path) as mask:
            mask.load()
    again = subprocess.run([*command, "--skip-existing"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(list(Path("masks").rglob("*.png"))) == 403
