"""A person's part on real photos: names from the labels of twenty, typed into the page, scored on the others."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from slotseg.cli import main
from slotseg.data.labelled.benchmarks import open_set
from slotseg.eval.matching import UNMATCHED, majority
from slotseg.labels.naming import read_names

LABELLED = 20
LOOKS_ONCE = ("--set", "segment.scales=[1.0]", "--set", "segment.mirror=false", "--set", "segment.edges=none")


def invoke(*words: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def msrc() -> Path:
    folder = Path(os.environ.get("SLOTSEG_DATA_DIR", "no data")) / "msrc"
    if not folder.is_dir():
        pytest.skip("SLOTSEG_DATA_DIR names no folder with msrc/")
    return folder


@pytest.fixture
def run(tmp_path: Path, msrc: Path) -> Path:
    """A short run on all photos, without their labels."""
    name = "mobilenetv1_100_keras_imagenet.safetensors"
    weights = Path(os.environ.get("SLOTSEG_WEIGHTS_DIR", "no weights")) / name
    if not weights.is_file():
        pytest.skip(f"SLOTSEG_WEIGHTS_DIR names no folder with {name}")
    settings = ("--init", weights, "--steps", 60, *LOOKS_ONCE, "--out", tmp_path / "run", "--device", "cpu")
    invoke("train", msrc / "images", *settings)
    return tmp_path / "run"


def type_names(browser: Any, page_file: Path, names: dict[int, str], file: Path) -> None:
    """Type names into cards, one after the other, and keep what the page hands over."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.select_option("#sort", "number")
    for prototype, name in names.items():
        card = page.locator(f"#c{prototype}")
        card.scroll_into_view_if_needed()
        field = page.locator(f"#n{prototype}")
        field.click()
        field.press_sequentially(name)
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(file)
    context.close()


@pytest.mark.slow
def test_names_from_twenty_labelled_photos(tmp_path: Path, msrc: Path, run: Path, browser: Any) -> None:
    keys = [key for key, _ in open_set("msrc", msrc).photos]
    labelled = [keys[i * len(keys) // LABELLED] for i in range(LABELLED)]
    (tmp_path / "labelled.txt").write_text("\n".join(labelled))
    (tmp_path / "others.txt").write_text("\n".join(key for key in keys if key not in labelled))

    def scores(photos: str, *words: object) -> dict[str, Any]:
        common = ("eval", "--dataset", "msrc", "--data-dir", msrc, "--image-list", tmp_path / photos, "--device", "cpu")
        invoke(*common, *words, "--json", tmp_path / "result.json")
        values: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
        return values

    seen = scores("labelled.txt", "--checkpoint", run, "--matching", "majority")
    classes = list(seen["iou_per_class"])
    names = {k: classes[c] for k, c in enumerate(majority(np.array(seen["table"])).tolist()) if c != UNMATCHED}
    invoke("concepts", run, msrc / "images", "-o", tmp_path / "concepts", "--device", "cpu")
    type_names(browser, tmp_path / "concepts" / "index.html", names, tmp_path / "names.json")
    typed = read_names(tmp_path / "names.json")
    assert typed.names == names

    named = scores("others.txt", "--checkpoint", run, "--labels", tmp_path / "names.json")
    matched = scores("others.txt", "--checkpoint", run)
    merged = scores("others.txt", "--checkpoint", run, "-k", len(seen["iou_per_class"]))
    one_class = scores("others.txt", "--baseline", "one-class")
    assert named["protocol"]["num_images"] == len(keys) - LABELLED
    assert named["unknown_names"] == []
    assert named["ceiling"] == matched["ceiling"]
    for other in (named, matched):
        assert other["pixel_accuracy"] <= other["ceiling"]["pixel_accuracy"]
    assert named["pixel_accuracy"] > one_class["pixel_accuracy"]
    assert named["miou"] > 2 * one_class["miou"]
    assert len(typed.names) > merged["protocol"]["num_prototypes"] / 2
    for words, values in (("named", named), ("ceiling", named["ceiling"]), ("matched", matched), ("merged", merged)):
        print(f"{words}: {100 * values['miou']:.1f} / {100 * values['pixel_accuracy']:.1f}")
