"""Results that a run keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from slotseg.cli import main
from slotseg.config import TrainConfig
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.data.views.sources import Scenes
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.runs.results import KeptMetrics, KeptResults, read_results, write_result
from slotseg.training.trainer import Trainer


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """What makes a folder a run."""
    run = RunFolder(tmp_path / "run")
    run.last.parent.mkdir(parents=True)
    run.last.write_bytes(b"a checkpoint")
    run.config.write_text("{}")
    return run


@pytest.fixture
def entry(run: RunFolder) -> Callable[..., dict[str, Any]]:
    """A result of the run, with changes to its protocol."""
    digest = checkpoint.digest(run.last)

    def build(matching: str, miou: float, **changes: Any) -> dict[str, Any]:
        protocol = {"dataset": "msrc", "matching": matching, "num_prototypes": 6, "num_images": 296}
        predictor = {"name": "slotseg", "checkpoint": changes.pop("checkpoint", digest)}
        ceiling = None if matching == "majority" else {"miou": 0.5, "pixel_accuracy": 0.75}
        metrics = {"miou": miou, "pixel_accuracy": 2 * miou, "ceiling": ceiling}
        return {**metrics, "protocol": {**protocol, "predictor": predictor, **changes}}

    return build


def test_a_persons_score_stands_beside_the_match(run: RunFolder, entry: Callable[..., dict[str, Any]]) -> None:
    write_result(run, entry("hungarian", 0.1))
    write_result(run, entry("names", 0.3))
    write_result(run, entry("hungarian", 0.2))
    (found,) = read_results(run.last, 6)
    assert (found.dataset, found.num_prototypes) == ("msrc", 6)
    assert {matching: metrics.miou for matching, metrics in found.metrics.items()} == {
        "hungarian": 0.2,
        "names": 0.3,
        "ceiling": 0.5,
    }
    assert found.sentence() == (
        "On msrc (296 photos): matched one-to-one 20.0 mIoU / 40.0 accuracy; named by you 30.0 / 60.0; "
        "perfect naming could reach 50.0 / 75.0."
    )


def test_each_k_and_each_set_has_its_own(run: RunFolder, entry: Callable[..., dict[str, Any]]) -> None:
    write_result(run, entry("hungarian", 0.1))
    write_result(run, entry("hungarian", 0.2, num_prototypes=4))
    write_result(run, entry("majority", 0.4, dataset="camvid"))
    assert [(r.dataset, r.metrics.keys()) for r in read_results(run.last, 6)] == [
        ("camvid", {"ceiling"}),
        ("msrc", {"hungarian", "ceiling"}),
    ]
    assert [r.metrics["hungarian"].miou for r in read_results(run.last, 4)] == [0.2]
    assert read_results(run.last, 5) == ()


def test_results_of_another_state_of_the_run_go(run: RunFolder, entry: Callable[..., dict[str, Any]]) -> None:
    write_result(run, entry("hungarian", 0.1, checkpoint="f" * 16))
    assert read_results(run.last, 6) == ()
    write_result(run, entry("names", 0.3))
    assert len(json.loads(run.results_of("msrc").read_text())["scores"]) == 1


def test_what_was_measured_otherwise_is_not_shown_beside_it(
    run: RunFolder, entry: Callable[..., dict[str, Any]]
) -> None:
    write_result(run, entry("hungarian", 0.1))
    write_result(run, entry("names", 0.3, num_images=276))
    (found,) = read_results(run.last, 6)
    assert found.num_images == 276
    assert found.metrics.keys() == {"names", "ceiling"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"scores": null}',
        '{"scores": [{"miou": 1}]}',
        '{"scores": [{"miou": 1, "pixel_accuracy": 1, "protocol": {"matching": "names", "num_prototypes": 6}}]}',
    ],
)
def test_a_broken_file_shows_nothing(
    run: RunFolder, entry: Callable[..., dict[str, Any]], content: str, caplog: pytest.LogCaptureFixture
) -> None:
    run.results.mkdir()
    run.results_of("msrc").write_text(content)
    assert read_results(run.last, 6) == ()
    assert "msrc.json holds no scores" in caplog.text
    write_result(run, entry("names", 0.3))
    assert len(read_results(run.last, 6)) == 1


def test_a_checkpoint_outside_a_run_has_none(tmp_path: Path) -> None:
    assert read_results(tmp_path / "segmenter.safetensors", 6) == ()


def test_sentence_of_one() -> None:
    metrics = {"names": KeptMetrics(miou=0.5, pixel_accuracy=0.25)}
    alone = KeptResults(dataset="folder", num_images=1, num_prototypes=6, metrics=metrics)
    assert alone.sentence() == "On folder (1 photo): named by you 50.0 mIoU / 25.0 accuracy."


def test_from_eval_to_the_page(tmp_path: Path, tiny_config: Callable[..., TrainConfig]) -> None:
    run = RunFolder(tmp_path / "run")
    config = tiny_config({"steps": 1, "optimizer.warmup_epochs": 0})
    Trainer(config, Scenes(8), run, device="cpu", workers=0).train()
    images, labels = tmp_path / "images", tmp_path / "labels"
    _write_scenes(images, labels)
    common = ("--checkpoint", run.path, "--device", "cpu")
    folder = ("eval", "--dataset", "folder", "--images", images, "--labels", labels, *common)
    said = _invoke(*folder, "--html", tmp_path / "page.html", "--json", tmp_path / "result.json")
    (line,) = (line for line in said.splitlines() if line.startswith("Perfect naming of these 6 prototypes could"))
    assert line in (tmp_path / "page.html").read_text()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["ceiling"]["pixel_accuracy"] >= result["pixel_accuracy"]
    table = result["table"]
    assert result["ceiling"]["pixel_accuracy"] == sum(map(max, table)) / sum(map(sum, table))

    (tmp_path / "names.json").write_text(json.dumps({"names": {"0": "sky", "1": "grass"}}))
    _invoke(*folder, "--labels", tmp_path / "names.json")
    assert "Perfect naming" not in _invoke(*folder, "--matching", "majority", "--limit", "2")
    _invoke("concepts", run.path, images, "-o", tmp_path / "concepts", "--device", "cpu")
    page = (tmp_path / "concepts" / "index.html").read_text()
    (shown,) = read_results(run.last, 6)
    assert shown.metrics.keys() == {"hungarian", "names", "ceiling"}
    assert shown.num_images == 3
    assert f'<p class="scored">{shown.sentence()}</p>' in page.replace("\u00a0/\u00a0", " / ")
    run.results_of("folder").unlink()
    _invoke("concepts", run.path, images, "-o", tmp_path / "concepts", "--device", "cpu", "--overwrite")
    assert 'class="scored"' not in (tmp_path / "concepts" / "index.html").read_text()


def _invoke(*words: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def _write_scenes(images: Path, labels: Path) -> None:
    """Three built-in scenes as a labelled folder."""
    for folder in (images, labels):
        folder.mkdir()
    for i in range(3):
        image, classes = draw_scene(i)
        Image.fromarray(image).save(images / f"{i}.png")
        Image.fromarray(classes).save(labels / f"{i}.png")
    (labels / "classes.json").write_text(json.dumps({"names": CLASS_NAMES}))
