"""Whatever slotseg writes it reads back, as labels and as predictions: the same pixels, and mIoU 1."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from slotseg.cli import main
from slotseg.data.labelled.labelled import LabelledPhotos, labelled_folder
from slotseg.data.reading.georeference import Georeference, Tag
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.eval.masks import MaskFolder
from slotseg.eval.protocols import Protocol
from slotseg.labels.label_map import LabelMap, palette
from slotseg.painting.annotations import open_writer
from slotseg.painting.geotiff import save_geotiff
from slotseg.painting.labelme import LabelmeWriter
from slotseg.painting.render import save_legend, save_mask
from slotseg.painting.sidecars import save_sidecars

NAMES = ("sky", "Bäume & <Büsche>", 'a "road"', "家", "never seen")
CLASSES = LabelMap.of_classes(NAMES, palette(len(NAMES)))
LABEL_MAPS = {
    "classes": CLASSES,
    "prototypes": LabelMap.prototypes(255),
    "16 bits": LabelMap.prototypes(256),
    "many": LabelMap.prototypes(700),
}
PHOTOS = ["a.jpg", "b.png", "b.jpg", "deep/a.jpg", "deep/c.d.JPG", 'deep/er/ü & "b" <1>.png', "void.jpg", "e.jpg.jpg"]
PLACE = Georeference(tags=(Tag(33550, 12, (1.0, 1.0, 0.0)),), affine=(1.0, 0.0, 5.0, 0.0, -1.0, 6.0))
EXACT = ["png", "geotiff", "coco", "cvat", "labelme"]


def draw(index: int, labels: LabelMap) -> NDArray[np.uint16]:
    """A class map of blobs with void in it, of ids that use all bits; the map of ``void.jpg`` has nothing else."""
    ids = [0, 1, 2, 3] if labels is CLASSES else [0, 1, len(labels.names) // 2, len(labels.names) - 1]
    random = np.random.default_rng(index)
    blobs = random.choice([*ids, labels.ignore], (5, 6)).repeat(7, axis=0).repeat(9, axis=1)
    specks = random.choice([*ids, labels.ignore], blobs.shape)
    blobs = np.where(random.random(blobs.shape) < 0.05, specks, blobs)[: 30 + index]
    return (blobs if PHOTOS[index] != "void.jpg" else np.full_like(blobs, labels.ignore)).astype(labels.dtype)


def write(folder: Path, form: str, labels: LabelMap, photos: Sequence[str]) -> Path:
    """Write photos, and beside them what ``slotseg segment`` makes of them in one form. Labelme's outlines are exact.

    Returns:
        Path of the labels.
    """
    out = folder / form
    save_legend(out / "legend.json", labels)
    for index, name in enumerate(PHOTOS):
        if name in photos:
            (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            height, width = draw(index, labels).shape
            Image.new("RGB", (width, height)).save(folder / "photos" / name)
    if form in ("png", "geotiff"):
        stems = [Path(name).with_suffix("") for name in photos]
        for name, stem in zip(photos, stems, strict=True):
            keep = stems.count(stem) > 1 or stem.suffix == ".jpg"
            mask, ids = out / f"{name if keep else stem}.png", draw(PHOTOS.index(name), labels)
            if form == "png":
                save_sidecars(mask, labels, PLACE)
                save_mask(mask, ids, labels)
            else:
                save_geotiff(mask.with_suffix(".tif"), ids, labels, PLACE)
        return out
    opened = LabelmeWriter(out, labels, tolerance=0) if form == "labelme" else open_writer(form, out, labels)
    with opened as writer:
        for name in photos:
            writer.add(name, draw(PHOTOS.index(name), labels))
    return out


def photos_of(form: str) -> list[str]:
    return [name for name in PHOTOS if form != "labelme" or name != "b.png"]  # b.jpg and b.png would be one file


def file_names(dataset: LabelledPhotos, folder: Path) -> list[str]:
    return [path.relative_to(folder / "photos").as_posix() for _, path in dataset.photos]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("kind", LABEL_MAPS)
@pytest.mark.parametrize("form", EXACT)
def test_every_pixel_comes_back(form: str, kind: str, tmp_path: Path) -> None:
    labels = LABEL_MAPS[kind]
    dataset = labelled_folder(tmp_path / "photos", write(tmp_path, form, labels, photos_of(form)))
    assert sorted(file_names(dataset, tmp_path)) == sorted(photos_of(form))
    assert (dataset.taxonomy.names, dataset.taxonomy.ignore) == (labels.names, labels.ignore)
    assert form == "labelme" or dataset.taxonomy.colors == labels.colors
    for index, name in enumerate(file_names(dataset, tmp_path)):
        assert np.array_equal(dataset.read(index).class_map, draw(PHOTOS.index(name), labels)), name


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize(("truth", "masks"), [*zip(EXACT, EXACT, strict=True), *itertools.pairwise(EXACT[:4])])
@pytest.mark.parametrize("kind", ["classes", "16 bits"])
def test_what_is_written_scores_exactly_one(truth: str, masks: str, kind: str, tmp_path: Path) -> None:
    labels = LABEL_MAPS[kind]
    paths = [write(tmp_path, form, labels, photos_of(truth)) for form in (truth, masks)]
    dataset = labelled_folder(tmp_path / "photos", paths[0])
    scaled = Protocol(name="full", dataset="folder", classes="folder", split="all", short_side=64, crop=64)
    for benchmark in (Benchmark.of(dataset), Benchmark(dataset=dataset, protocol=scaled)):
        result = evaluate(MaskFolder(paths[1], benchmark), benchmark)
        assert result.metrics.miou == result.metrics.pixel_accuracy == 1
        assert result.table.sum() == np.trace(result.table)
        assert result.protocol.num_classes == result.protocol.num_prototypes == len(labels.names)


def test_pixels_without_an_annotation_are_errors_of_a_prediction(tmp_path: Path) -> None:
    for form in ("png", "coco", "cvat", "labelme"):
        masks = write(tmp_path, form, CLASSES, ["a.jpg"])
        truth = tmp_path / f"{form} truth"
        save_mask(truth / "a.png", np.where(draw(0, CLASSES) == 255, 0, draw(0, CLASSES)), CLASSES)
        save_legend(truth / "legend.json", CLASSES)
        benchmark = Benchmark.of(labelled_folder(tmp_path / "photos", truth))
        result = evaluate(MaskFolder(masks, benchmark), benchmark)
        assert result.metrics.pixel_accuracy == (draw(0, CLASSES) != 255).mean() < 1
        assert len(result.table) == result.protocol.num_prototypes + 1


def test_outlines_of_labelme_are_near(tmp_path: Path) -> None:
    """As they are written by default: within half a pixel."""
    labels = LabelMap.prototypes(4)
    ids = np.indices((90, 120)).sum(0) // 60
    with open_writer("labelme", tmp_path / "labelme", labels) as writer:
        writer.add("a.jpg", ids.astype(np.uint8))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (120, 90)).save(tmp_path / "photos" / "a.jpg")
    found = labelled_folder(tmp_path / "photos", tmp_path / "labelme").read(0).class_map
    assert (found != ids).mean() < 0.01


def test_the_command_line_reads_files_and_folders(tmp_path: Path) -> None:
    for form in EXACT:
        write(tmp_path, form, CLASSES, ["a.jpg", "deep/a.jpg"])
    files = [tmp_path / "coco" / "annotations.json", tmp_path / "cvat" / "annotations.xml"]
    for labels in (*files, *(tmp_path / form for form in EXACT)):
        words = [
            "eval",
            "--dataset",
            "folder",
            "--images",
            tmp_path / "photos",
            "--labels",
            labels,
            "--preds",
            files[0],
        ]
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exit_code == 0, result.output
        assert "100.00 mIoU, 100.00 pixel accuracy" in result.stdout


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["none.json"], "none.json does not exist; expected labels, a names.json, or one of each"),
        (["coco", "cvat"], "expected labels, a names.json, or one of each"),
        (["coco/annotations.json", "cvat/annotations.xml"], "expected labels, a names.json, or one of each"),
        (["labelme/a.json"], "labelme/a.json is labelme's file of one photo; expected its folder"),
        (["results.json"], "results.json has no images; expected COCO's annotations in JSON"),
        (["none.xml"], "none.xml is not a folder; expected the folder of label maps, or a file of annotations"),
        (["names.json"], "names.json says which prototype of a run is which class"),
    ],
)
def test_labels_that_are_none_are_one_sentence(
    labels: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in EXACT[1:]:
        write(tmp_path, form, CLASSES, ["a.jpg"])
    (tmp_path / "results.json").write_text('[{"image_id": 1, "category_id": 1, "segmentation": []}]')
    (tmp_path / "names.json").write_text('{"names": {"0": "sky"}}')
    monkeypatch.chdir(tmp_path)
    words = [word for name in labels for word in ("--labels", name)]
    result = CliRunner().invoke(main, ["eval", "--dataset", "folder", "--images", "photos", *words, "--preds", "coco"])
    assert (result.exit_code, message in result.stderr) == (1, True), result.stderr


def segmented(photos: Sequence[Path], checkpoint: Path, out: Path) -> dict[str, Path]:
    """What ``slotseg segment`` writes of photos in every form, labelme's files in a folder of their own."""
    formats = [word for form in EXACT[1:] for word in ("--format", form)]
    words = ["segment", *photos, "-o", out, "--checkpoint", checkpoint, "--device", "cpu", *formats]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    labelme = out.with_name("labelme")
    labelme.mkdir()
    (labelme / "legend.json").write_bytes((out / "legend.json").read_bytes())
    for photo in photos:
        (out / f"{photo.stem}.json").rename(labelme / f"{photo.stem}.json")
    return {"png": out, "coco": out / "annotations.json", "cvat": out / "annotations.xml", "labelme": labelme}


def miou(images: Path, labels: Path, preds: Path, runner: Sequence[str] = ()) -> float:
    """What ``slotseg eval`` says; in processes of their own if ``runner`` starts some."""
    words = ["eval", "--dataset", "folder", "--images", images, "--labels", labels, "--preds", preds, "--json"]
    result = images.with_name("result.json")
    command = [*map(str, words), str(result)]
    if runner:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*runner, *command], env=environment, check=True, capture_output=True)
    else:
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    return float(json.loads(result.read_text())["miou"])


def test_what_segment_writes_scores_one(photos: Path, saved_segmenter: Path, tmp_path: Path) -> None:
    written = segmented(sorted(photos.iterdir()), saved_segmenter, tmp_path / "masks")
    for form, labels in written.items():
        assert miou(photos, labels, labels) == 1, form
        assert form == "labelme" or miou(photos, written["png"], labels) == 1, form
    assert miou(photos, written["png"], written["labelme"]) > 0.9


@pytest.mark.slow
def test_real_photos_score_one_in_one_process_and_in_two(saved_segmenter: Path, tmp_path: Path) -> None:
    data = Path(os.environ.get("SLOTSEG_DATA_DIR", "no data")) / "msrc" / "images"
    found = sorted(data.rglob("*.jpg"))[:50]
    if len(found) < 50:
        pytest.skip("SLOTSEG_DATA_DIR names no folder with msrc/images")
    images = tmp_path / "images"
    images.mkdir()
    for photo in found:
        shutil.copyfile(photo, images / photo.name)
    written = segmented(sorted(images.iterdir()), saved_segmenter, tmp_path / "masks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = [*torchrun, str(Path(__file__).parents[2] / "cli.py")]
    for form, labels in written.items():
        assert miou(images, labels, labels) == miou(images, labels, labels, two) == 1, form
        assert form == "labelme" or miou(images, written["png"], labels, two) == 1, form
    assert miou(images, written["png"], written["labelme"]) > 0.95
