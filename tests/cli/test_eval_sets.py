"""Sets in their genuine layout, made small, from the command line to the result."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from slotseg.cli import main

SETS = {
    "voc": (
        "JPEGImages/{}.jpg", "SegmentationClass/{}.png",
        ["2007_000033", "2007_000042"], (0, 20, 255), 21, "native",
    ),
    "ade20k": (
        "images/validation/{}.jpg", "annotations/validation/{}.png",
        ["ADE_val_00000001", "ADE_val_00000002"], (1, 150, 0), 150, "native",
    ),
    "cityscapes27": (
        "leftImg8bit/val/{}_leftImg8bit.png", "gtFine/val/{}_gtFine_labelIds.png",
        ["lindau/lindau_000000_000019", "frankfurt/frankfurt_000000_000294"], (7, 33, 3), 27, "full",
    ),
    "cocostuff27": (
        "val2017/{}.jpg", "stuffthingmaps/val2017/{}.png",
        ["000000000139", "000000000285"], (156, 123, 255), 27, "curated",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_from_the_command_line_to_a_result(tmp_path: Path, name: str) -> None:
    """Two halves of one colour each and a void strip: colour k-means finds them."""
    photo, label, keys, (left, right, void), num_classes, protocol = SETS[name]
    root = tmp_path / "data"
    for key in keys:
        image = np.zeros((400, 500, 3), np.uint8)
        image[:, 250:] = 255
        ids = np.where(image[..., 0] > 0, right, left).astype(np.uint8)
        ids[:20] = void
        for pattern, pixels in ((photo, image), (label, ids)):
            (root / pattern.format(key)).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / pattern.format(key), quality=95)
    if name == "voc":
        (root / "ImageSets" / "Segmentation").mkdir(parents=True)
        (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(keys))
    outputs = ("--json", tmp_path / "r.json", "--html", tmp_path / "r.html")
    command = ("eval", "--dataset", name, "--data-dir", root, "--baseline", "colour", "-k", 2, *outputs)
    result = CliRunner().invoke(main, [str(c) for c in command])
    assert result.exit_code == 0, result.output
    values = json.loads((tmp_path / "r.json").read_text())
    assert values["miou"] > 0.98
    stated = values["protocol"]
    assert (stated["num_images"], stated["num_classes"], stated["protocol"]) == (2, num_classes, protocol)
    assert stated["image_list_published"] is (False if name == "cocostuff27" else None)
    side = 320 if protocol != "native" else None
    labelled = 2 * (320 * 320 if side else 400 * 500)
    assert 0.94 * labelled < stated["num_labelled_pixels"] < 0.96 * labelled
    assert name in (tmp_path / "r.html").read_text()
