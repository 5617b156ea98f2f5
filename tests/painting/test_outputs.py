"""Where masks go, and what is refused before a photo is read."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from slotseg.data.finding.inputs import Inputs
from slotseg.errors import ConfigError
from slotseg.painting.annotations import WRITERS
from slotseg.painting.outputs import OutputOptions, Outputs, check_existing


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with some photos."""
    for name in ("photos/a.jpg", "photos/b.png", "photos/deep/er/c.jpg", "other/a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(words: list[str], output: str, **wanted: Any) -> Outputs:
    return Outputs(Inputs(words, leave_out=Path(output)), Path(output), OutputOptions(**wanted))


def masks(words: list[str], output: str) -> set[str]:
    planned = outputs(words, output)
    planned.survey()
    return {str(planned.files(item).mask) for item in planned.inputs}


def test_masks_mirror_the_tree() -> None:
    assert masks(["photos"], "m") == {"m/a.png", "m/b.png", "m/deep/er/c.png"}
    assert masks(["photos/**/*.jpg"], "m") == {"m/a.png", "m/deep/er/c.png"}
    assert masks(["photos/b.png"], "m") == {"m/b.png"}
    assert masks(["photos/b.png"], "m.png") == {"m.png"}


def test_photos_that_differ_in_their_suffix_keep_it() -> None:
    Image.new("RGB", (8, 6)).save("photos/a.png")
    assert masks(["photos"], "m") == {"m/a.jpg.png", "m/a.png.png", "m/b.png", "m/deep/er/c.png"}


def test_several_trees_and_files_of_one_name_are_told_apart() -> None:
    assert masks(["photos/a.jpg", "other/a.jpg"], "m") == {"m/photos/a.png", "m/other/a.png"}
    assert masks(["photos", "other"], "m") == {
        "m/photos/a.png", "m/photos/b.png", "m/photos/deep/er/c.png", "m/other/a.png",
    }  # fmt: skip


def test_one_photo_names_its_companions_after_its_mask() -> None:
    planned = outputs(["photos/a.jpg"], "m.png", overlay=True, confidence=True, legend=True)
    (item,) = planned.inputs
    assert [str(file) for file in planned.files(item)] == ["m.png", "m_overlay.jpg", "m_confidence.png"]
    mapped = outputs(["photos/a.jpg"], "m.png", geotiff=True)
    assert [str(file) for file in mapped.files(item)] == ["m.png", "m.tif"]
    assert [str(file) for file in mapped.files(item).sidecars] == [
        "m.pgw", "m.png.aux.xml", "m.tfw", "m.tif.aux.xml"
    ]  # fmt: skip
    assert (str(planned.legend), str(planned.legend_picture)) == ("m_legend.json", "m_legend.png")
    assert planned.sheet is None


def test_masks_below_the_photos_are_no_photos_the_second_time() -> None:
    planned = outputs(["photos"], "photos/masks")
    Path("photos/masks").mkdir()
    Image.new("P", (8, 6)).save("photos/masks/a.png")
    found = planned.survey()
    assert (found.num_photos, found.num_masks, found.first) == (3, 1, Path("photos/masks/a.png"))


@pytest.mark.parametrize(
    ("words", "output", "message"),
    [
        (["photos"], "photos", "photos is the folder of the photos"),
        (["photos"], "photos/../photos", "is the folder of the photos"),
        (["photos/b.png"], "photos/b.png", "would replace a photo"),
        (["photos/*.png", "photos/b.png"], "photos", "is the folder of the photos"),
        (["@photos/list.txt"], "photos", "would replace a photo"),
        (["photos"], "photos/a.jpg", "ends in .jpg; expected a .png"),
        (["photos/a.jpg"], "mask.tif", "ends in .tif; expected a .png.*; --format geotiff writes a TIFF beside it"),
        (["photos"], "mask.png", "names one mask; expected a folder"),
        (["photos"], "file", "is a file; expected a folder"),
        (["photos/a.jpg", "photos/b.png"], "file", "is a file; expected a folder"),
    ],
)
def test_outputs_that_would_lose_something_are_refused(words: list[str], output: str, message: str) -> None:
    Path("file").write_text("mine")
    Path("photos/list.txt").write_text("b.png\na.jpg\n")
    with pytest.raises(ConfigError, match=message):
        outputs(words, output).survey()


def test_outputs_of_different_kinds_may_not_meet() -> None:
    """A photo in a folder named as one of ours, or named as one of our files."""
    Path("photos/confidence").mkdir()
    Image.new("RGB", (8, 6)).save("photos/confidence/a.jpg")
    Image.new("RGB", (8, 6)).save("photos/legend.jpg")
    assert outputs(["photos"], "m", overlay=True).survey().num_photos == 5
    with pytest.raises(ConfigError, match=r"m/confidence/a\.png, of photos/confidence/a\.jpg, would be another"):
        outputs(["photos"], "m", confidence=True).survey()
    with pytest.raises(ConfigError, match=r"m/legend\.png, of photos/legend\.jpg"):
        outputs(["photos"], "m", legend=True).survey()
    Image.new("RGB", (8, 6)).save("photos/b.bmp")
    with pytest.raises(ConfigError, match=r"m/b\.json, of photos/b\.png"):  # labelme finds one file by the stem
        outputs(["photos"], "m", formats=("labelme",)).survey()


def test_what_exists_is_not_replaced_unasked() -> None:
    planned = outputs(["photos"], "m", overlay=True, formats=("coco",))
    Path("m/overlay").mkdir(parents=True)
    Path("m/overlay/a.jpg").write_bytes(b"")
    found = planned.survey()
    with pytest.raises(ConfigError, match=r"m/overlay/a\.jpg exists; expected a new --output, or --overwrite or"):
        check_existing(found, overwrite=False, skip_existing=False)
    check_existing(found, overwrite=True, skip_existing=False)
    check_existing(found, overwrite=False, skip_existing=True)
    Path("m/overlay/a.jpg").unlink()
    Path("m/legend.json").write_text("{}")  # of an interrupted call; says nothing about the masks
    check_existing(planned.survey(), overwrite=False, skip_existing=False)
    Path("m/annotations.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"m/annotations\.json exists"):
        check_existing(planned.survey(), overwrite=False, skip_existing=False)


def test_where_masks_exist_the_first_of_them_is_named() -> None:
    planned = outputs(["photos"], "m", overlay=True, formats=("coco",))
    for name in ("overlay/sheet.jpg", "annotations.json", "overlay/a.jpg", "b.png", "deep/er/c.png"):
        (Path("m") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("m") / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^2 of 3 masks exist, the first file is m/b\.png; expected"):
        check_existing(planned.survey(), overwrite=False, skip_existing=False)


def test_two_ways_with_what_exists_are_refused_whether_anything_does_or_not() -> None:
    with pytest.raises(ConfigError, match=r"^--overwrite replaces masks .* --skip-existing keeps them; expected one"):
        check_existing(outputs(["photos"], "m").survey(), overwrite=True, skip_existing=True)


def test_confidence_is_needed_where_a_format_has_a_place_for_it() -> None:
    needed = {form: OutputOptions(formats=(form,)).needs_confidence for form in WRITERS}
    assert needed == {"coco": True, "cvat": False, "labelme": False, "summary": True}
    assert not OutputOptions(overlay=True, legend=True).needs_confidence
    assert OutputOptions(confidence=True).needs_confidence


def test_a_file_for_each_photo_or_one_for_all() -> None:
    planned = outputs(["photos"], "m", formats=("cvat", "labelme"))
    shared = {Path("m/annotations.xml"), Path("m/cvat_labels.json")}
    assert shared <= set(planned.common)
    of_photos = {file for item in planned.inputs for file in planned.files(item) if file.suffix != ".png"}
    assert of_photos == {Path("m/a.json"), Path("m/b.json"), Path("m/deep/er/c.json")}
