"""Real photos with genuine labels, where ``SLOTSEG_DATA_DIR`` names a folder that has them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from slotseg.cli import main
from slotseg.data.labelled.benchmarks import open_set
from slotseg.data.labelled.coco import CocoAnnotations
from slotseg.data.reading.label_files import read_label

DATA = Path(os.environ.get("SLOTSEG_DATA_DIR", "no data"))


def set_of(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"SLOTSEG_DATA_DIR names no folder with {name}/")
    return DATA / name


def scores(tmp_path: Path, *arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(main, ["eval", *map(str, arguments), "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    return json.loads((tmp_path / "r.json").read_text())  # type: ignore[no-any-return]


def test_panoptic_annotations_equal_an_independent_conversion() -> None:
    root = set_of("coco27")
    dataset = open_set("cocopanoptic27", root, split="train2017")
    assert len(dataset) == 100
    for key, _ in dataset.photos:
        expected = read_label(root / "labels27" / "train2017" / f"{key}.png")
        assert np.array_equal(dataset.read_classes(key), expected), key


def test_that_conversion_as_masks_scores_exactly_one(tmp_path: Path) -> None:
    root = set_of("coco27")
    command = ("--dataset", "cocopanoptic27", "--data-dir", root, "--split", "train2017")
    values = scores(tmp_path, *command, "--preds", root / "labels27" / "train2017")
    assert values["miou"] == values["pixel_accuracy"] == 1
    assert values["things"] == values["stuff"] == {"miou": 1, "pixel_accuracy": 1}
    assert 0.05 < scores(tmp_path, *command, "--baseline", "one-class")["pixel_accuracy"] < 0.2  # type: ignore[operator]


def test_instances_agree_with_the_things_of_panoptic() -> None:
    """Up to overlaps: one pixel in ten thousand may differ."""
    root = set_of("coco27")
    panoptic = open_set("cocopanoptic27", root, split="train2017").source
    instances = CocoAnnotations(None, root / "annotations" / "instances_train2017.json")
    things = different = 0
    for key in (path.stem for path in (root / "train2017").glob("*.jpg")):
        ids = panoptic.read(key)
        thing = (ids > 0) & (ids <= 90)
        rasterised = instances.read(key).astype(int) + 1
        things += int(thing.sum())
        different += int((thing != (rasterised <= 91)).sum() + (thing & (rasterised != ids)).sum())
    assert things > 9_000_000
    assert different < 1e-4 * things


@pytest.mark.parametrize(("name", "photos", "classes"), [("camvid", 101, 11), ("msrc", 296, 23)])
def test_sets_run_end_to_end(tmp_path: Path, name: str, photos: int, classes: int) -> None:
    values = scores(tmp_path, "--dataset", name, "--data-dir", set_of(name), "--baseline", "one-class")
    protocol = values["protocol"]
    assert isinstance(protocol, dict)
    assert (protocol["num_images"], protocol["num_classes"]) == (photos, classes)
    folders = ("--images", DATA / name / "images", "--labels", DATA / name / "labels")
    own = scores(tmp_path, "--dataset", "folder", *folders,
                 "--baseline", "one-class", *(("--split", "val") if name == "camvid" else ()))  # fmt: skip
    assert own["pixel_accuracy"] == values["pixel_accuracy"]
