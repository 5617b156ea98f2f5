"""The command line as a user meets it: what it prints, writes, refuses and returns."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click import Context
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

from slotseg.cli import COMMANDS, main
from slotseg.cli.eval_command import BASELINES, DATASETS
from slotseg.data.reading.images import MAX_PIXELS
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.runs.checkpoint import read_header

SMALL = ("--device", "cpu", "--workers", "0", "--batch-size", "4", "--set", "model.hidden_dim=16",
         "--set", "optimizer.warmup_epochs=0", "--set", "backbone.options={\"channels\":[8,16,16,16]}")  # fmt: skip


def slotseg(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def sentence(result: Result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos with labels, and a run on them."""
    folder = tmp_path_factory.mktemp("work")
    for kind in ("photos", "labels"):
        (folder / kind / "deep").mkdir(parents=True)
    for i in range(6):
        image, labels = draw_scene(i)
        name = f"deep/{i}" if i % 2 else str(i)
        Image.fromarray(image).save(folder / "photos" / f"{name}.jpg")
        Image.fromarray(labels).save(folder / "labels" / f"{name}.png")
    (folder / "labels" / "classes.json").write_text(json.dumps({"names": CLASS_NAMES}))
    result = slotseg("train", folder / "photos", "--preset", "tiny", "--steps", 3, "--out", folder / "run", *SMALL)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(folder / "run")]
    return folder


@pytest.fixture
def work(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workplace to stand in, with the run under runs/."""
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "run").rename(tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = slotseg(command, "--help")
    assert result.exit_code == 0
    computes = command not in ("report", "import", "export")
    assert ("--device" in result.output) == computes


def test_wrong_usage_is_2() -> None:
    assert slotseg("segment").exit_code == 2
    assert slotseg("train", "--steps", "many").exit_code == 2
    assert slotseg("eval", "--dataset", "nothing").exit_code == 2
    assert slotseg("paint").exit_code == 2


def test_train_eval_segment(work: Path) -> None:
    run = work / "runs" / "mine"
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["model"]["hidden_dim"] == 16
    assert config["sources"]["model.hidden_dim"] == "option"
    assert config["sources"]["views.image_size"] == "preset tiny"
    assert not (run / "labels.json").exists()

    unmatched = slotseg("segment", "photos/0.jpg", "-o", "before.png", "--device", "cpu")
    assert unmatched.exit_code == 0, unmatched.output
    assert "runs/mine" in unmatched.stderr
    names = [c["name"] for c in json.loads((work / "before_legend.json").read_text())["classes"]]
    assert names[0] == "prototype 0"

    scored = slotseg(
        "eval", "--dataset", "folder", "--images", "photos", "--labels", "labels", "--json", "r.json", "--device", "cpu"
    )
    assert scored.exit_code == 0, scored.output
    assert "mIoU" in scored.stdout
    result = json.loads((work / "r.json").read_text())
    assert result["protocol"]["num_images"] == 6
    assert 0 <= result["miou"] <= 1
    labels = json.loads((run / "labels.json").read_text())
    assert labels["names"] == list(CLASS_NAMES)

    painted = slotseg("segment", "photos", "-o", "masks", "--overlay", "--device", "cpu")
    assert painted.exit_code == 0, painted.output
    assert len(list((work / "masks").rglob("*.png"))) == 6
    with Image.open(work / "masks" / "deep" / "1.png") as mask:
        ids = set(np.unique(np.array(mask)).tolist())
    assert ids <= set(labels["classes"])
    legend = json.loads((work / "masks" / "legend.json").read_text())
    assert [c["name"] for c in legend["classes"]] == list(CLASS_NAMES)

    raw = slotseg("segment", "photos", "-o", "raw", "--labels", "prototypes", "--device", "cpu")
    assert raw.exit_code == 0
    assert "prototype" in (work / "raw" / "legend.json").read_text()


def test_concepts_are_merged_to_any_number_after_training(work: Path) -> None:
    """The match of the merged concepts stays with the run, and `segment` paints by it."""
    merging = ("--set", "model.trained_prototypes=12", "--set", "segment.edges=field")
    trained = slotseg(
        "train", "photos", "--preset", "tiny", "-k", "8", "--out", "runs/merging", "--steps", "3", "--batch-size", "4",
        "--set", "model.hidden_dim=16", "--set", "optimizer.warmup_epochs=0", "--device", "cpu", *merging,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    where = ("--checkpoint", "runs/merging", "--device", "cpu")
    labelled = ("eval", "--dataset", "folder", "--images", "photos", "--labels", "labels", "--json", "r.json")
    for number, plain in ((8, True), (5, False)):
        extra = ("--plain",) if plain else ("-k", "5")
        scored = slotseg(*labelled, *extra, *where)
        assert scored.exit_code == 0, scored.output
        protocol = json.loads((work / "r.json").read_text())["protocol"]
        assert protocol["num_prototypes"] == number
        assert (protocol["predictor"]["postprocessing"] == "none") == plain
    assert len(json.loads((work / "runs" / "merging" / "labels.json").read_text())["classes"]) == 5
    for name, extra in (("named.png", ()), ("numbered.png", ("-k", "3"))):
        painted = slotseg("segment", "photos/0.jpg", "-o", name, *extra, *where)
        assert painted.exit_code == 0, painted.output
    legend = json.loads((work / "named_legend.json").read_text())["classes"]
    assert [c["name"] for c in legend] == list(CLASS_NAMES)
    legend = json.loads((work / "numbered_legend.json").read_text())["classes"]
    assert [c["name"] for c in legend] == [f"prototype {k}" for k in range(3)]


def test_second_run_over_the_same_output(work: Path) -> None:
    command = ("segment", "photos", "-o", "masks", "--device", "cpu")
    assert slotseg(*command).exit_code == 0
    assert "6 of 6 masks exist" in sentence(slotseg(*command))
    assert slotseg(*command, "--overwrite").exit_code == 0
    assert "6 were there" in slotseg(*command, "--skip-existing").stdout


def test_names_given_by_a_person_are_not_replaced(work: Path) -> None:
    file = work / "runs" / "mine" / "labels.json"
    command = ("eval", "--dataset", "folder", "--images", "photos", "--labels", "labels", "--device", "cpu")
    assert slotseg(*command).exit_code == 0
    named = {**json.loads(file.read_text()), "origin": "names"}
    file.write_text(json.dumps(named))
    assert slotseg(*command).exit_code == 0
    assert json.loads(file.read_text()) == named


def test_limited_look_keeps_no_match(work: Path) -> None:
    result = slotseg("eval", "--dataset", "scenes", "--limit", 2, "--device", "cpu")
    assert result.exit_code == 0
    assert not (work / "runs" / "mine" / "labels.json").exists()


@pytest.mark.parametrize("baseline", BASELINES)
def test_baselines(work: Path, baseline: str) -> None:
    result = slotseg("eval", "--dataset", "scenes", "--limit", 3, "--baseline", baseline, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert {"colour": "k-means", "features": "k-means", "one-class": "one class", "random": "random"}[
        baseline
    ] in result.stdout
    assert not (work / "runs" / "mine" / "labels.json").exists()


def test_stride_of_the_features_baseline(work: Path) -> None:
    command = (
        "eval",
        "--dataset",
        "scenes",
        "--limit",
        2,
        "--baseline",
        "features",
        "--device",
        "cpu",
        "--json",
        "b.json",
    )
    for arguments, stride in (((), 4), (("--stride", 8), 8)):
        assert slotseg(*command, *arguments).exit_code == 0
        assert f"stride {stride}, from" in json.loads((work / "b.json").read_text())["protocol"]["predictor"]["name"]


FOLDER = ("eval", "--dataset", "folder", "--images", "photos", "--labels", "labels", "--device", "cpu")


def test_masks_of_a_run_score_as_the_run(work: Path) -> None:
    assert slotseg(*FOLDER, "--save-preds", "kept", "--json", "run.json").exit_code == 0
    assert slotseg(*FOLDER, "--preds", "kept", "--json", "kept.json").exit_code == 0
    painted = ("segment", "photos", "-o", "painted", "--labels", "prototypes", "--device", "cpu")
    assert slotseg(*painted).exit_code == 0
    assert slotseg(*FOLDER, "--preds", "painted", "--json", "painted.json").exit_code == 0
    run, kept, painted_too = (json.loads((work / f"{n}.json").read_text()) for n in ("run", "kept", "painted"))
    for key in ("miou", "pixel_accuracy", "iou_per_class", "table", "assignment"):
        assert run[key] == kept[key] == painted_too[key]
    assert "is not an empty folder" in sentence(slotseg(*FOLDER, "--save-preds", "kept"))


def test_matching_modes_and_match_on_another_split(work: Path) -> None:
    for part, numbers in (("train", (0, 2)), ("val", (4,))):
        for kind, suffix in (("photos", "jpg"), ("labels", "png")):
            (work / "parts" / kind / part).mkdir(parents=True)
            for i in numbers:
                shutil.copy(work / kind / f"{i}.{suffix}", work / "parts" / kind / part)
    shutil.copy(work / "labels" / "classes.json", work / "parts")
    command = ("eval", "--dataset", "folder", "--images", "parts/photos", "--labels", "parts/labels", "--split", "val",
               "--json", "r.json", "--device", "cpu")  # fmt: skip
    for matching in ("hungarian", "merge", "majority"):
        result = slotseg(*command, "--match-on", "train", "--matching", matching)
        assert result.exit_code == 0, result.output
        protocol = json.loads((work / "r.json").read_text())["protocol"]
        assert (protocol["matching"], protocol["matched_on"], protocol["num_images"]) == (matching, "train", 1)
        assert f"{matching} matching on train" in result.stdout
    assert slotseg(*command, "--match-on", "train").exit_code == 0
    honest = json.loads((work / "r.json").read_text())["pixel_accuracy"]
    assert slotseg(*command).exit_code == 0
    assert honest <= json.loads((work / "r.json").read_text())["pixel_accuracy"]


def test_choices_of_eval_are_those_of_the_library() -> None:
    from slotseg.eval import baselines, benchmark, matching

    assert set(DATASETS) == set(benchmark.DATASETS)
    assert BASELINES == baselines.BASELINES
    text = slotseg("eval", "--help").output
    assert all(mode in text for mode in matching.MATCHINGS)


def test_the_pixel_limit_is_that_of_the_library() -> None:
    options = [o for name in COMMANDS for o in main.get_command(Context(main), name).params if o.name == "max_pixels"]
    assert options
    assert {option.default for option in options} == {MAX_PIXELS}


def test_resume_of_a_finished_run_does_nothing(work: Path) -> None:
    last = work / "runs" / "mine" / "checkpoints" / "last.safetensors"
    before = last.read_bytes()
    shutil.copytree(work / "photos", work / "elsewhere")
    result = slotseg("train", "--resume", "runs/mine", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert last.read_bytes() == before


def test_unreadable_photo_among_good_ones_is_3(work: Path) -> None:
    (work / "photos" / "empty.jpg").write_bytes(b"")
    trained = slotseg("train", "photos", "--preset", "tiny", "--steps", 2, "--out", "new", *SMALL)
    assert trained.exit_code == 3, trained.output
    assert "empty.jpg" in trained.stderr
    assert (work / "new" / "checkpoints" / "last.safetensors").is_file()
    painted = slotseg("segment", "photos", "-o", "masks", "--device", "cpu", "--checkpoint", "new")
    assert painted.exit_code == 3
    assert "6 masks written" in painted.stdout
    assert "empty.jpg" in (work / "masks" / "failures.jsonl").read_text()


def foreign(work: Path) -> str:
    save_file({"weight": torch.zeros(2)}, work / "foreign.safetensors")
    return "foreign.safetensors"


def truncated(work: Path) -> str:
    content = (work / "runs/mine/checkpoints/last.safetensors").read_bytes()
    (work / "cut.safetensors").write_bytes(content[: len(content) // 2])
    return "cut.safetensors"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "empty", "--preset", "tiny"], "empty"),
        (["train", "nowhere", "--preset", "tiny"], "nowhere"),
        (["train", "photos", "--init", "nowhere.pt"], "nowhere.pt"),
        (["train", "--out", "photos"], "photos exists and is not an empty folder"),
        (["train", "--resume", "nowhere"], "nowhere has no checkpoints/last.safetensors"),
        (["train", "--resume", "runs/mine", "--steps", "1"], "steps already and 1 are asked for"),
        (["train", "--resume", "runs/mine", "-k", "3"], "num_prototypes was"),
        (["train", "--resume", "runs/mine", "--out", "elsewhere"], "expected no --out"),
        (["train", "--resume", "photos/0.jpg"], "lies in no run"),
        (["train", "-k", "1"], "num_prototypes is 1; expected a number from 2"),
        (["train", "--image-size", "100000"], "image_size is 100000; expected a number from 16 to 2048"),
        (["train", "--preset", "big"], "preset is 'big'"),
        (["train", "--backbone", "resnet1800"], "resnet1800"),
        (["train", "--set", "views.flop=1"], "flop"),
        (["train", "--set", "flip"], "--set flip has no value"),
        (["train", "--device", "tpu"], "tpu"),
        (["train", "--precision", "fp64"], "fp64"),
        (["train", "--out", "photos/0.jpg/run"], "photos/0.jpg"),
        (["segment", "photos", "-o", "m", "--checkpoint", "nowhere"], "nowhere"),
        (["segment", "photos", "-o", "m", "--checkpoint", foreign], "was not written by slotseg"),
        (["segment", "photos", "-o", "m", "--checkpoint", truncated], "damaged"),
        (["segment", "photos", "-o", "m", "--labels", "nowhere.json"], "nowhere.json"),
        (["segment", "photos", "-o", "photos/0.jpg"], "photos/0.jpg"),
        (["eval", "--dataset", "folder"], "lacks --images, the folder of photos"),
        (["eval", "--dataset", "voc"], "voc needs --data-dir"),
        (["eval", "--dataset", "voc", "--data-dir", "photos"], "voc val is not in photos"),
        (["eval", "--dataset", "cocostuff27", "--data-dir", "nowhere"], "nowhere is not a folder"),
        (["eval", "--dataset", "scenes", "--protocol", "full"], "no protocol 'full'"),
        (["eval", "--dataset", "scenes", "--split", "test"], "no split 'test'"),
        (["eval", "--dataset", "scenes", "--preds", "nowhere"], "nowhere is not a folder"),
        (["eval", "--dataset", "scenes", "--preds", "photos"], "200 of 200 masks are missing"),
        (["eval", "--dataset", "scenes", "--preds", "photos", "--baseline", "colour"], "expected no --baseline"),
        (["eval", "--dataset", "scenes", "--preds", "photos", "--save-preds", "new"], "--save-preds beside it"),
        (["eval", "--dataset", "scenes", "--json", "photos"], "photos is a folder or cannot be written"),
        (["eval", "--dataset", "scenes", "--save-preds", "photos"], "photos is not an empty folder"),
        (["eval", "--dataset", "scenes", "--init", "x"], "--baseline features"),
        (["eval", "--dataset", "folder", "--images", "photos", "--labels", "empty"], "classes.json"),
        (
            [
                "eval",
                "--dataset",
                "folder",
                "--images",
                "photos",
                "--labels",
                "labels/classes.json",
                "--preds",
                "labels",
            ],
            "labels/classes.json is read with the labels that it lies beside; expected --labels labels",
        ),
        (
            ["eval", "--dataset", "folder", "--images", "photos", "--labels", "photos.txt", "--preds", "labels"],
            "photos.txt is neither labels nor a names.json; expected a folder of label maps, a file of annotations",
        ),
        (["demo", "-o", "photos"], "photos is not empty"),
        (["demo", "-o", "photos", "--overwrite"], "photos is not empty"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(work: Path, arguments: list[object], message: str) -> None:
    (work / "empty").mkdir()
    (work / "photos.txt").write_text("sky\ntree\n")
    arguments = [a(work) if callable(a) else a for a in arguments]
    before = {p: p.stat().st_mtime_ns for p in work.rglob("*")}
    assert message in sentence(slotseg(*arguments))
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*")} == before


def test_without_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(draw_scene(0)[0]).save("a.png")
    assert "train one with `slotseg train`" in sentence(slotseg("segment", "a.png", "-o", "m.png"))


def test_checkpoint_of_another_architecture(work: Path) -> None:
    """A header that promises another network than the tensors are."""
    from slotseg.runs import checkpoint

    last = work / "runs/mine/checkpoints/last.safetensors"
    content = checkpoint.load(last)
    content.info["config"]["model"]["projection_dim"] = 999
    checkpoint.save(last, content.tensors, content.info)
    assert "does not fit the settings in its header: " in sentence(slotseg("segment", "photos", "-o", "m"))


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys, slotseg.cli as c; c.main(['--help'], standalone_mode=False); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "slotseg.cli", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3  # of the processor, so that a busy machine does not fail it


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_saves_the_run_and_exits_with_130(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "slotseg.cli", "train", "--out", str(tmp_path / "run"), "--device", "cpu",
               "--workers", "1", "--batch-size", "4", "--set", "log_every=1"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal and a scheduler do: workers get it too
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "continue with --resume" in stderr
    assert "Traceback" not in stderr
    step = int(stderr.split("Interrupted at step ")[1].split(";")[0])
    assert read_header(tmp_path / "run" / "checkpoints" / "last.safetensors")["step"] == step > 0
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_torchrun_scores_a_run_as_one_process_does(work: Path) -> None:
    """To the last count; one table, one JSON, one match written."""
    command = ["--dataset", "folder", "--images", "photos", "--labels", "labels", "--device", "cpu", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                str(Path(__file__).parents[2] / "cli.py"), "eval", *command, "two.json"]  # fmt: skip
    two = subprocess.run(torchrun, cwd=work, env=environment, capture_output=True, text=True)
    assert two.returncode == 0, two.stderr
    one = [sys.executable, "-m", "slotseg.cli", "eval", *command, "one.json"]
    alone = subprocess.run(one, cwd=work, env=environment, capture_output=True, text=True)
    assert two.stdout == alone.stdout
    assert json.loads((work / "two.json").read_text()) == json.loads((work / "one.json").read_text())
    assert (work / "runs" / "mine" / "labels.json").is_file()


@pytest.mark.slow
def test_python_cli_py_works_from_a_checkout() -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "cli.py", "--version"], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.startswith("slotseg, version")


# many processes, training sets, doctor


@pytest.mark.slow
def test_torchrun_trains_one_run_that_one_process_continues(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                str(Path(__file__).parents[2] / "cli.py"), "train", "--device", "cpu", "--workers", "0",
                "--steps", "40", "--batch-size", "8", "--precision", "fp32"]  # fmt: skip
    settings = ("log_every=2", "checkpoint_every=2", "optimizer.warmup_epochs=0", "model.hidden_dim=16")
    torchrun += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(torchrun, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    last = tmp_path / "runs" / "tiny-1" / "checkpoints" / "last.safetensors"
    deadline = time.monotonic() + 120
    while not last.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # to torchrun, which passes it on
    _, errors = process.communicate(timeout=60)
    assert b"Interrupted at step" in errors
    assert errors.count(b"2 processes, which share every batch") == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny-1"]
    stopped = json.loads(last.with_suffix(".json").read_text())["step"]
    assert 0 < stopped < 40
    one = [sys.executable, "-m", "slotseg.cli", "train", "--resume", "runs/tiny-1", "--device", "cpu"]
    subprocess.run(one, cwd=tmp_path, env=environment, check=True, capture_output=True)
    lines = (tmp_path / "runs" / "tiny-1" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(2, 41, 2))


def test_training_sets_are_found_in_their_own_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco" / "train2017").mkdir(parents=True)
    for i in range(4):
        Image.fromarray(draw_scene(i)[0]).save(tmp_path / "coco" / "train2017" / f"{i}.jpg")
    small = ["--backbone", "resnet18", "--image-size", "64", "--batch-size", "2", "--steps", "1", "--precision", "fp32"]
    for setting in ("optimizer.warmup_epochs=0", "model.hidden_dim=8", "model.projection_dim=8"):
        small += ["--set", setting]
    where = ["--dataset", "coco", "--data-dir", "coco", "--device", "cpu", "--workers", "0"]
    result = slotseg("train", *where, *small, "-k", "5")
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "runs" / "coco-r50-1" / "config.json").read_text())
    assert config["photos"] == [str(tmp_path / "coco" / "train2017")]
    assert "There are 4 photos; coco was published with 118287" in result.output
    result = slotseg("train", "--dataset", "cocoplus", "--data-dir", "coco")
    assert result.exit_code == 1
    assert "unlabeled2017" in result.output


@pytest.mark.parametrize("command", ["train", "doctor"])
@pytest.mark.parametrize("arguments", [["--dataset", "coco"], ["--data-dir", "x"], ["--dataset", "coco", "x"]])
def test_dataset_and_its_folder_go_together(command: str, arguments: list[str]) -> None:
    result = slotseg(command, *arguments)
    assert result.exit_code == 1
    assert "--dataset and --data-dir go together and replace PHOTOS" in result.output


def test_doctor_on_a_healthy_setup_and_on_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--device", "cpu", "--workers", "0", "--precision", "fp32", "--set", "model.hidden_dim=8"]
    result = slotseg("doctor", *tiny, "--json", "doctor.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "doctor.json").read_text())
    assert [f["subject"] for f in found if f["level"] == "ok"] == [
        "installation", "machine", "device", "photos", "speed", "step", "reading", "memory", "time"
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    result = slotseg("doctor", "empty", *tiny)
    assert result.exit_code == 1
    assert "problem  training      no photo in empty" in result.output
    assert "1 problem found; expected none: see above" in result.output
    result = slotseg("doctor", "--checkpoint", "gone", *tiny)
    assert "gone is not a file" in result.output
    assert "photos/s" not in result.output


def test_doctor_is_silent_on_default_weights_where_others_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"conv1.weight": torch.ones(2)}, "given.safetensors")
    output = slotseg("doctor", "--init", "given.safetensors", "--backbone", "resnet18").output
    assert "problem  training      weights given.safetensors do not fit: " in output
    assert "EfficientNet-Lite0" not in output
    assert "are on this machine" not in output


def test_doctor_says_that_torchvision_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "slotseg.cli", "doctor"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: torch and torchvision do not fit each other (operator torchvision::nms")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples_a_line_each(name: str) -> None:
    lines = [line.strip() for line in slotseg(name, "--help").output.splitlines()]
    assert not any("\\" in line or "\b" in line for line in lines)
    assert name == "demo" or sum(line.startswith(("slotseg", "torchrun")) for line in lines) >= 2
