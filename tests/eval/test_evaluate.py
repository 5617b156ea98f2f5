"""The scoring loop, its result, and what becomes of a bad photo or label."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.labelled.labelled import LabelledPhotos, LabelledScenes, ScoredPhoto, labelled_folder
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.errors import ConfigError, DataError, LabelError
from slotseg.eval.baselines import baseline_predictor
from slotseg.eval.benchmark import Benchmark, open_benchmark
from slotseg.eval.contingency import UNASSIGNED
from slotseg.eval.evaluate import evaluate, label_map
from slotseg.eval.report import ceiling_line, result_table, truth_line
from slotseg.eval.result import PredictorInfo, Result, citation
from slotseg.files import write_json
from slotseg.labels.label_map import IGNORE


class Oracle:
    """Gives the truth of the scenes it is shown under other numbers."""

    info = PredictorInfo(name="the truth")
    vectors = None
    num_prototypes = 12

    def __init__(self, scenes: LabelledScenes, numbers: NDArray[np.int64]) -> None:
        self.truth = {s.image.tobytes(): s.class_map for s in (scenes.read(i) for i in range(len(scenes)))}
        self.numbers = numbers

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
        prototypes: NDArray[np.int64] = self.numbers[self.truth[photo.image.tobytes()]]
        return prototypes


class Zeros:
    """Gives everything to the first of some prototypes."""

    info = PredictorInfo(name="one class")
    vectors = None

    def __init__(self, num_prototypes: int = 2) -> None:
        self.num_prototypes = num_prototypes

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
        return np.zeros(photo.image.shape[:2], np.int64)


SCENES = LabelledScenes(6)
RENUMBERED = np.array([7, 3, 11, 0, 5, 9, 2, 8])


def oracle_result(matching: str = "hungarian") -> Result:
    return evaluate(Oracle(SCENES, RENUMBERED), Benchmark.of(SCENES, matching=matching))


@pytest.mark.parametrize("matching", ["hungarian", "majority"])
def test_perfect_prediction_scores_exactly_one(matching: str) -> None:
    result = oracle_result(matching)
    assert result.metrics.miou == result.metrics.pixel_accuracy == 1
    assert result.protocol.num_images == 6
    assert result.protocol.num_labelled_pixels == 6 * 96 * 96
    assert (result.things, result.stuff) == (None, None)


def test_match_becomes_a_label_map() -> None:
    labels = label_map(oracle_result())
    assert [labels.classes[k] for k in RENUMBERED] == list(range(8))
    assert [labels.classes[k] for k in range(12) if k not in RENUMBERED] == [IGNORE] * 4
    assert labels.names == CLASS_NAMES
    scene = SCENES.read(0)
    assert np.array_equal(labels.class_map(RENUMBERED[scene.class_map]), scene.class_map)


def test_result_is_json_with_stable_keys() -> None:
    values = json.loads(json.dumps(oracle_result().to_dict()))
    assert {"miou", "pixel_accuracy", "iou_per_class", "protocol", "citation"} <= values.keys()
    assert values["iou_per_class"]["sky"] == 1.0
    protocol = values["protocol"]
    assert (protocol["matching"], protocol["matched_on"]) == ("hungarian", "the scored images")
    assert (protocol["num_prototypes"], protocol["num_classes"]) == (12, 8)
    assert (protocol["dataset"], protocol["split"], protocol["protocol"]) == ("scenes", "val", "native")
    assert (protocol["resolution"], protocol["crop"]) == ("as the label maps are", "none")
    assert len(protocol["image_list_sha256"]) == 64
    assert {"checkpoint", "precision", "augmentation", "postprocessing", "seed"} <= protocol["predictor"].keys()
    assert np.array(values["table"]).sum() == protocol["num_labelled_pixels"]


def test_citation_says_what_a_reader_needs() -> None:
    line = citation(oracle_result())
    assert "\n" not in line
    for part in ("the truth: 100.00 mIoU, 100.00 pixel accuracy", "scenes val", "6 images", "K = 12, 8 classes",
                 "hungarian matching on the scored images", "native resolution", "post-processing: none"):  # fmt: skip
        assert part in line


def test_one_prototype_for_everything_scores_its_best_class() -> None:
    result = evaluate(Zeros(), Benchmark.of(SCENES))
    shares = np.bincount(np.concatenate([SCENES.read(i).class_map.ravel() for i in range(6)]))
    assert result.metrics.pixel_accuracy == pytest.approx(shares.max() / shares.sum())


def test_limit_scores_the_first_images() -> None:
    result = evaluate(Oracle(SCENES, RENUMBERED), Benchmark.of(SCENES, limit=2))
    assert result.protocol.num_images == result.protocol.limit == 2
    assert "2 images, the first 2" in citation(result)


class Wrong(Oracle):
    """Like the oracle, with the numbers of two classes exchanged on scenes of training."""

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
        numbers = super().__call__(photo)
        swapped = np.where(numbers == 7, 3, np.where(numbers == 3, 7, numbers))
        return swapped if photo.image.tobytes() in self.training else numbers

    training: frozenset[bytes] = frozenset()


def test_match_found_on_another_split() -> None:
    training = LabelledScenes(6, "train")
    predictor = Wrong(SCENES, RENUMBERED)
    predictor.truth |= Oracle(training, RENUMBERED).truth
    honest = Benchmark.of(SCENES, match_on=training)
    assert evaluate(predictor, honest).metrics.pixel_accuracy == 1
    predictor.training = frozenset(training.read(i).image.tobytes() for i in range(6))
    result = evaluate(predictor, honest)
    assert result.protocol.matched_on == "train"
    assert "hungarian matching on train" in citation(result)
    assert result.metrics.pixel_accuracy < 1
    assert evaluate(predictor, Benchmark.of(SCENES)).metrics.pixel_accuracy == 1


class Halved(Oracle):
    """Two prototypes for each class, of which a one-to-one match can use one."""

    num_prototypes = 16

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
        prototypes = self.truth[photo.image.tobytes()].astype(np.int64)
        prototypes[:, ::3] += 8
        return prototypes


def test_ceiling_is_what_perfect_naming_reaches() -> None:
    halved = evaluate(Halved(SCENES, RENUMBERED), Benchmark.of(SCENES))
    assert halved.metrics.pixel_accuracy == pytest.approx(2 / 3, abs=0.02)
    assert halved.ceiling is not None
    assert halved.ceiling.miou == halved.ceiling.pixel_accuracy == 1
    assert halved.to_dict()["ceiling"] == {"miou": 1, "pixel_accuracy": 1}
    assert ceiling_line(halved) == (
        "Perfect naming of these 16 prototypes could reach 100.0 mIoU / 100.0 pixel accuracy."
    )


def test_a_majority_match_is_the_ceiling_but_for_one_of_another_split() -> None:
    result = oracle_result("majority")
    assert result.ceiling is None
    assert (result.to_dict()["ceiling"], ceiling_line(result)) == (None, "")
    elsewhere = Benchmark.of(SCENES, matching="majority", match_on=LabelledScenes(6, "train"))
    predictor = Oracle(SCENES, RENUMBERED)
    predictor.truth |= Oracle(LabelledScenes(6, "train"), RENUMBERED).truth
    assert evaluate(predictor, elsewhere).ceiling is not None


def test_pixels_without_a_prototype_cannot_be_named() -> None:
    class Holes(Oracle):
        def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
            prototypes = super().__call__(photo)
            prototypes[:12] = UNASSIGNED
            return prototypes

    ceiling = evaluate(Holes(SCENES, RENUMBERED), Benchmark.of(SCENES)).ceiling
    assert ceiling is not None
    assert ceiling.pixel_accuracy == pytest.approx(1 - 12 / 96)


def test_remembered_images_add_up_to_the_table() -> None:
    result = evaluate(Oracle(SCENES, RENUMBERED), Benchmark.of(SCENES), remember=True)
    assert [image.index for image in result.images] == list(range(6))
    assert sum(int(image.counts.sum()) for image in result.images) == result.table.sum()
    assert {image.accuracy(result.assignment) for image in result.images} == {1.0}
    assert evaluate(Zeros(), Benchmark.of(SCENES)).images == ()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i in range(3):
        image, labels = draw_scene(i)
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{i}.png")
    (tmp_path / "classes.json").write_text(json.dumps({"names": CLASS_NAMES}))
    return tmp_path


def opened(folder: Path) -> LabelledPhotos:
    return labelled_folder(folder / "images", folder / "labels")


def test_unreadable_photo_is_left_out_and_said(folder: Path) -> None:
    (folder / "images" / "1.png").write_bytes(b"")
    result = evaluate(Zeros(), Benchmark.of(opened(folder)))
    assert result.protocol.num_images == 2
    assert len(result.skipped) == 1
    assert "1.png" in result.skipped[0]
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"^none of the 3 photos could be read; .* The first: .*0\.png is empty"):
        evaluate(Zeros(), Benchmark.of(opened(folder)))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.full((96, 96), 8, np.uint8), r"1\.png holds the id 8"),
        (np.zeros((96, 90), np.uint8), r"1\.png is 90 x 96 and its photo 1\.png 96 x 96"),
        (None, r"1\.png"),
    ],
    ids=["id outside the classes", "another size", "damaged"],
)
def test_bad_label_is_an_error_that_names_it(folder: Path, label: NDArray[np.uint8] | None, message: str) -> None:
    path = folder / "labels" / "1.png"
    if label is None:
        path.write_bytes(b"")
    else:
        Image.fromarray(label).save(path)
    with pytest.raises(LabelError, match=message):
        evaluate(Zeros(), Benchmark.of(opened(folder)))


def test_what_is_ignored_takes_no_part(folder: Path) -> None:
    """Neither in the mean, nor in the match, nor in the number of clusters of a baseline, nor in the label map."""
    (folder / "moved").mkdir()
    for path in sorted((folder / "labels").iterdir()):
        with Image.open(path) as image:
            Image.fromarray(np.asarray(image) + np.uint8(1)).save(folder / "moved" / path.name)
    (folder / "moved" / "classes.json").write_text(json.dumps({"names": ["void", *CLASS_NAMES], "ignore_index": 0}))
    plain, moved = opened(folder), labelled_folder(folder / "images", folder / "moved")
    for baseline in ("colour", "random"):
        of_plain, of_moved = (
            evaluate(baseline_predictor(baseline, Benchmark.of(data)), Benchmark.of(data)) for data in (plain, moved)
        )
        assert np.array_equal(of_plain.table, of_moved.table)
        assert of_plain.metrics == of_moved.metrics
        assert of_moved.protocol.num_prototypes == of_moved.protocol.num_classes == len(CLASS_NAMES)
        assert label_map(of_moved).names == CLASS_NAMES


def test_classes_and_void_of_the_truth_are_said(folder: Path) -> None:
    for i in range(3):
        Image.fromarray(np.repeat(np.array([0, 0, 1, 255], np.uint8), 24)[:, None].repeat(96, 1)).save(
            folder / "labels" / f"{i}.png"
        )
    (folder / "classes.json").write_text(json.dumps({"names": ["sky", "tree", "road"]}))

    class Halves(Zeros):
        def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
            return np.repeat([0, 1, 2, 2], 24)[:, None].repeat(96, 1)

    result = evaluate(Halves(3), Benchmark.of(opened(folder)))  # half the sky is road to the match: IoU 1/2, 0, 0
    assert result.metrics.iou_per_class == (0.5, 1.0, 0.0)
    assert result.metrics.miou == 0.5
    values = result.to_dict()
    assert (values["classes_in_truth"], values["miou_in_truth"]) == (2, 0.75)
    assert values["protocol"]["num_void_pixels"] == 3 * 24 * 96
    assert truth_line(result) == (
        "2 of 3 classes occur in the ground truth, all but road; the mean IoU of those is 75.0. "
        "25 % of the pixels are void."
    )
    assert "3 classes, 2 of them in the ground truth" in citation(result)
    assert truth_line(oracle_result()) == "All 8 classes occur in the ground truth."
    assert oracle_result().miou_in_truth == 1


def test_table_for_people_holds_every_class_and_both_columns() -> None:
    worst = evaluate(Zeros(4), Benchmark.of(SCENES))
    table = result_table({"ours": oracle_result(), "one class": worst})
    lines = {line.split("  ")[0]: line.split() for line in table.splitlines() if line}
    assert lines["mIoU"][1:] == ["100.0", f"{100 * worst.metrics.miou:.1f}"]
    assert lines["pixel accuracy"][2:] == ["100.0", f"{100 * worst.metrics.pixel_accuracy:.1f}"]
    assert set(CLASS_NAMES) <= lines.keys()
    assert "K = 12, 4" in table


def test_matchings_never_share_a_table() -> None:
    with pytest.raises(ValueError, match="matchings"):
        result_table({"a": oracle_result(), "b": oracle_result("majority")})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "folder"}, "lacks --images, the folder of photos"),
        ({"name": "folder", "images": Path("x")}, "lacks --labels, the folder of label maps"),
        ({"name": "scenes", "images": Path("x"), "labels": Path("y")}, "--images and --labels are not for scenes"),
        ({"name": "voc"}, "voc needs --data-dir"),
        ({"name": "scenes", "data_dir": Path("x")}, "--data-dir is not for scenes"),
        ({"name": "scenes", "image_list": Path("x")}, "--image-list is not for scenes"),
        ({"name": "scenes", "protocol": "curated"}, "scenes has no protocol 'curated'; expected native"),
        ({"name": "cocostuff27", "data_dir": Path("x"), "protocol": "best"}, "expected curated or full"),
        ({"name": "scenes", "split": "val", "match_on": "val"}, "--match-on val is the split that is scored"),
        ({"name": "scenes", "match_on": "val"}, "--match-on val is the split that is scored"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_benchmark(**arguments)  # type: ignore[arg-type]


TWO_PROCESSES = """
import json, sys
from slotseg import distributed
from slotseg.data.labelled.labelled import LabelledScenes
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.eval.baselines import baseline_predictor

with distributed.joined():
    for baseline in sys.argv[1:]:
        benchmark = Benchmark.of(LabelledScenes(7))
        result = evaluate(baseline_predictor(baseline, benchmark, num_clusters=11), benchmark, remember=True)
        if distributed.rank() == 0:
            values = {**result.to_dict(), "images": sorted(image.index for image in result.images)}
            print(json.dumps(values))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_give_the_same_table_as_one() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", TWO_PROCESSES, "colour", "random"]
    ranks = [
        subprocess.Popen(command, env={**environment, "RANK": str(r), "WORLD_SIZE": "2"}, stdout=subprocess.PIPE)
        for r in range(2)
    ]
    together, silent = (process.communicate(timeout=120)[0] for process in ranks)
    alone = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    assert silent == b""
    ours, expected = ([json.loads(line) for line in printed.splitlines()] for printed in (together, alone))
    assert len(expected) == 2
    assert ours == expected
    assert all(result["images"] == list(range(7)) for result in expected)


def test_a_file_name_that_is_not_utf8(folder: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"odd\xff")
    for kind in ("images", "labels"):
        try:
            (folder / kind / "0.png").rename(folder / kind / f"{odd}.png")
        except OSError:
            pytest.skip("the file system takes UTF-8 only")
    result = evaluate(Zeros(), Benchmark.of(opened(folder)))
    assert result.protocol.num_images == 3
    write_json(tmp_path / "r.json", {**result.to_dict(), "skipped": [odd]})
    assert json.loads((tmp_path / "r.json").read_text())["skipped"] == ["odd?"]


def test_a_match_from_another_split_says_so_in_the_label_map() -> None:
    result = evaluate(Zeros(), Benchmark.of(SCENES, match_on=LabelledScenes(2, "train")))
    assert label_map(result).source == "scenes train"
    assert label_map(oracle_result()).source == "scenes val, 6 images"
