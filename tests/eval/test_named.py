"""Scores of what a person named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from slotseg.cli import main
from slotseg.config import TrainConfig
from slotseg.data.labelled.labelled import LabelledScenes, ScoredPhoto
from slotseg.data.scenes import draw_scene
from slotseg.data.views.sources import Scenes
from slotseg.errors import DataError
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.eval.matching import UNMATCHED
from slotseg.eval.named import assign_by_name
from slotseg.eval.page import render
from slotseg.eval.report import result_table
from slotseg.eval.result import PredictorInfo, citation
from slotseg.labels.naming import Naming
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.training.trainer import Trainer


class Perfect:
    """Prototype k + 1 is class k; prototype 0 wins the topmost row."""

    num_prototypes = 9
    vectors = None
    info = PredictorInfo(name="perfect")

    def __init__(self, dataset: LabelledScenes) -> None:
        self.maps = {labelled.key: labelled.class_map for labelled in map(dataset.read, range(len(dataset)))}

    def __call__(self, photo: ScoredPhoto) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
        prototypes = self.maps[photo.key].astype(np.uint16) + 1
        prototypes[0] = 0
        return prototypes


@pytest.fixture
def benchmark() -> Benchmark:
    return Benchmark.of(LabelledScenes(4))


NAMES = {k + 1: name for k, name in enumerate(("Sky", "GRASS", " water", "sand", "building", "tree", "ball", "leaf"))}


def test_case_spaces_and_hyphens_are_forgiven() -> None:
    names = Naming(names={0: "TRAFFIC light", 1: "fire-hydrant ", 2: "firehydrant", 3: "gras"}, same_as={5: 0})
    assignment, unknown = assign_by_name(names, 6, ["fire hydrant", "traffic_light", "grass"])
    assert assignment.tolist() == [1, 0, 0, UNMATCHED, UNMATCHED, 1]
    assert unknown == ("gras",)


def test_a_perfect_naming(benchmark: Benchmark) -> None:
    names = Naming(names=NAMES, same_as={0: 1})
    result = evaluate(Perfect(LabelledScenes(4)), benchmark, names=names)
    truth = [benchmark.dataset.read(i).class_map for i in range(4)]
    right = 1 - np.mean([m[0] != 0 for m in truth]) / truth[0].shape[0]  # the topmost row is taken for sky
    assert result.metrics.pixel_accuracy == pytest.approx(right)
    assert (result.protocol.matching, result.protocol.matched_on) == ("names", "nothing: named by a person")
    assert "named by a person" in citation(result)
    assert "matching" not in citation(result)
    assert "IoU in %, named by a person, scenes" in result_table({"run": result})
    assert "9 of 9 have a class by their names." in render(result)


def test_what_has_no_name_of_a_class_is_an_error(benchmark: Benchmark, caplog: pytest.LogCaptureFixture) -> None:
    names = Naming(names={**NAMES, 0: "clouds", 2: "gras", 3: "clouds"}, ignore=frozenset({4}), where="names.json")
    result = evaluate(Perfect(LabelledScenes(4)), benchmark, names=names)
    assert [result.assignment[k] for k in (0, 2, 3, 4)] == [UNMATCHED] * 4
    assert result.unknown_names == ("clouds", "gras")
    assert result.to_dict()["unknown_names"] == ["clouds", "gras"]
    assert "names.json has clouds, gras, no class of scenes, whose pixels count as errors" in caplog.text
    truth = np.stack([benchmark.dataset.read(i).class_map[1:] for i in range(4)])
    wrong = np.isin(truth, (1, 2, 3)).sum() + 4 * truth.shape[2]
    assert result.metrics.pixel_accuracy == pytest.approx(1 - wrong / (truth.size + 4 * truth.shape[2]))


def test_nothing_is_matched(benchmark: Benchmark) -> None:
    swapped = Naming(names={**NAMES, 1: "grass", 2: "sky"})
    result = evaluate(Perfect(LabelledScenes(4)), benchmark, names=swapped)
    assert result.metrics.iou_per_class[0] == 0


def test_naming_by_majority_scores_as_the_majority_match(benchmark: Benchmark) -> None:
    class Blurred(Perfect):
        def __call__(self, photo: ScoredPhoto) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
            return np.roll(super().__call__(photo) // 2, 5, axis=1)

    blurred = Blurred(LabelledScenes(4))
    matched = evaluate(blurred, Benchmark.of(benchmark.dataset, matching="majority"))
    classes = benchmark.dataset.taxonomy.names
    names = Naming(names={k: classes[c].upper() for k, c in enumerate(matched.assignment) if c != UNMATCHED})
    named = evaluate(blurred, benchmark, names=names)
    assert named.metrics == matched.metrics
    assert 0.2 < named.metrics.miou < 1


def test_names_of_another_model(benchmark: Benchmark) -> None:
    with pytest.raises(DataError, match="names 27 prototypes and the model has 9"):
        evaluate(Perfect(LabelledScenes(4)), benchmark, names=Naming(num_prototypes=27))


@pytest.fixture
def run(tmp_path: Path, tiny_config: Callable[..., TrainConfig]) -> Path:
    config = tiny_config({"steps": 1, "optimizer.warmup_epochs": 0})
    Trainer(config, Scenes(8), RunFolder(tmp_path / "run"), device="cpu", workers=0).train()
    return tmp_path / "run"


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.output


def test_eval_from_the_command_line(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"names": {"0": "Sky", "1": "grass", "2": "gras"}, "checkpoint": "f" * 16}))
    command = ("eval", "--dataset", "scenes", "--limit", 2, "--checkpoint", run, "--device", "cpu", "--labels", file)
    code, output = invoke(*command, "--json", tmp_path / "result.json")
    assert code == 0, output
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["assignment"] == [0, 1, -1, -1, -1, -1]
    assert result["protocol"]["matching"] == "names"
    assert result["unknown_names"] == ["gras"]
    assert f"was written for checkpoint {'f' * 16}" in output
    assert not (run / "labels.json").exists(), "a person's names are no match to keep"
    for extra in (("--matching", "majority"), ("--match-on", "train"), ("--baseline", "random")):
        code, output = invoke(*command, *extra)
        assert code == 1
        assert "expected no --baseline, --preds, --matching or --match-on beside it" in output
    code, output = invoke(*command, "--labels", tmp_path / "absent.json")
    assert (code, "expected labels, a names.json, or one of each" in output) == (1, True)
    code, output = invoke(*command[:-1], tmp_path / "absent.json")
    assert (code, "absent.json does not exist" in output) == (1, True)


def test_segment_from_the_command_line(run: Path, tmp_path: Path) -> None:
    file, photo, mask = tmp_path / "names.json", tmp_path / "photo.png", tmp_path / "mask.png"
    Image.fromarray(draw_scene(1)[0]).save(photo)
    names = Naming(
        names=dict.fromkeys(range(5), "sky"),
        ignore=frozenset({5}),
        checkpoint=checkpoint.digest(RunFolder(run).last),
    )
    file.write_text(json.dumps(names.to_dict()))
    code, output = invoke("segment", photo, "-o", mask, "--checkpoint", run, "--device", "cpu", "--labels", file)
    assert code == 0, output
    assert "was written for checkpoint" not in output
    assert set(np.unique(np.asarray(Image.open(mask)))) <= {0, 255}
    legend = json.loads((tmp_path / "mask_legend.json").read_text())
    assert [entry["name"] for entry in legend["classes"]] == ["sky"]
    assert legend["origin"] == "names"
    file.write_text(json.dumps({"names": {"6": "sky"}}))
    code, output = invoke("segment", photo, "-o", mask, "--checkpoint", run, "--labels", file, "--overwrite")
    assert (code, "mentions prototype 6; expected 0 to 5" in output) == (1, True)
    assert output.count("\n") == 1
