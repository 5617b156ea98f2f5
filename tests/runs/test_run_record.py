"""What is read of a run's folder: how it stands, what a power cut leaves, headers of every kind."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slotseg.errors import CheckpointError
from slotseg.labels.label_map import LabelMap
from slotseg.presets import PRESETS
from slotseg.runs.record import PATIENCE, PATIENCE_AT_START, RunRecord, read_run
from slotseg.values import to_dict

CONFIG = to_dict(PRESETS["tiny"]())
START = 1_700_000_000.0
HEADER = {
    "step": 200,
    "total_steps": 600,
    "num_photos": 320,
    "computed_in": {"device": "cpu", "precision": "fp32"},
}


def written(
    run: Path,
    *,
    config: dict[str, Any] | None = None,
    lines: list[dict[str, Any]] | None = None,
    header: dict[str, Any] | None = None,
    log: str = "",
    **notes: Any,
) -> Path:
    """A run's folder, its files a second apart in this order: settings, checkpoint, lines, log."""
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    settings = {"config": CONFIG | (config or {}), "sources": {}, "preset": "tiny", "photos": []} | notes
    content = {
        "config.json": json.dumps(settings),
        "checkpoints/last.json": json.dumps(header) if header is not None else None,
        "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in lines) if lines is not None else None,
        "log.txt": log or None,
    }
    for second, (name, text) in enumerate(content.items()):
        if text is not None:
            (run / name).write_text(text)
            os.utime(run / name, (START + second, START + second))
    return run


def line(step: int, **values: Any) -> dict[str, Any]:
    return {"step": step, "loss": 2.0, "photos_per_second": 32.0, **values}


def at(run: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    """The run as it looks so many seconds after it was last heard of, its log the last that it wrote."""
    heard = max(file.stat().st_mtime for file in run.rglob("*") if file.is_file())
    monkeypatch.setattr("time.time", lambda: heard + seconds)
    return read_run(run)


def logged(words: str) -> str:
    return f"2026-11-24 22:21:33,123 Clustering\n2026-11-24 22:22:33,123 {words}\n"


def test_running_until_it_is_silent_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(tmp_path, lines=[line(200), line(220)], header=HEADER)
    record = at(run, PATIENCE - 1, monkeypatch)  # a line takes 20 steps of 32 photos, 20 s
    assert record.state == "running"
    assert (record.step, record.total_steps, record.num_photos, record.steps_per_epoch) == (220, 600, 320, 10)
    assert record.seconds_left == 380 * 32 / 32
    assert record.started == START
    assert at(run, PATIENCE + 1, monkeypatch).state == "silent"


def test_slow_run_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(tmp_path, lines=[line(220, photos_per_second=1.0)], header=HEADER)
    assert at(run, 3 * 20 * 32 - 1, monkeypatch).state == "running"
    assert at(run, 3 * 20 * 32 + 1, monkeypatch).state == "silent"


def test_run_without_a_line_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(tmp_path)
    assert at(run, PATIENCE_AT_START - 1, monkeypatch).state == "running"
    record = at(run, PATIENCE_AT_START + 1, monkeypatch)
    assert record.state == "silent"
    assert (record.step, record.total_steps, record.seconds_left, record.num_photos) == (0, 600, None, None)


def test_interrupted_by_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = logged("Interrupted at step 220; continue with --resume runs/one")
    run = written(tmp_path, lines=[line(220)], header=HEADER, log=words)
    assert at(run, 1, monkeypatch).state == "interrupted"
    assert at(run, 1e6, monkeypatch).state == "interrupted"


def test_interruption_is_forgotten_once_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(tmp_path, lines=[line(200)], header=HEADER, log=logged("Interrupted at step 200; continue with x"))
    os.utime(run / "config.json", (START + 60, START + 60))
    record = at(run, 1, monkeypatch)
    assert (record.state, record.last_words) == ("running", "")


def test_words_about_an_interruption_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(tmp_path, lines=[line(200)], log=logged("Skipped: Interrupted at step.jpg is no image"))
    assert at(run, 1, monkeypatch).state == "running"


def test_finished_run_stays_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(tmp_path, lines=[line(580), line(600)], header=HEADER | {"step": 600})
    assert at(run, 1e6, monkeypatch).state == "finished"


def test_finished_run_that_was_given_more_steps_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(tmp_path, config={"steps": 900}, lines=[line(600)], header=HEADER | {"step": 600})
    record = at(run, 1, monkeypatch)
    assert (record.state, record.total_steps) == ("running", 900)


def test_epochs_are_steps_by_the_photos(tmp_path: Path) -> None:
    run = written(tmp_path, config={"steps": None, "epochs": 7}, header=HEADER | {"total_steps": None})
    assert read_run(run).total_steps == 70
    assert read_run(written(tmp_path, config={"steps": None, "epochs": 7}, header={"step": 1})).total_steps is None


def test_step_of_a_checkpoint_newer_than_the_lines(tmp_path: Path) -> None:
    run = written(tmp_path, lines=[line(180)], header=HEADER | {"step": 199})
    assert read_run(run).step == 180
    os.utime(run / "checkpoints" / "last.json", (START + 60, START + 60))
    assert read_run(run).step == 199


def test_imported_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = {"step": 50, "total_steps": 200, "num_photos": None, "steps_per_epoch": 25, "photos": None, "scaler": {}}
    run = written(
        tmp_path, config={"steps": None, "epochs": 8}, header=header, photos=None, official={"batch_size": 32}
    )
    record = at(run, 1, monkeypatch)
    assert record.state == "imported"
    assert (record.photos, record.num_photos, record.steps_per_epoch) == (None, None, 25)
    assert (record.step, record.total_steps) == (50, 200)
    assert at(run, 1e6, monkeypatch).state == "imported"
    written(run, lines=[line(60)], header=header, photos=["/photos"], official={"batch_size": 32})
    record = at(run, 1, monkeypatch)
    assert (record.state, record.photos) == ("running", ["/photos"])


ODD: list[Any] = [None, [], {}, "text", "\udcff", -1, 0, 1.5, True, 2**80, float("inf"), float("nan")]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_any_value_in_header_lines_and_settings(tmp_path: Path, odd: Any) -> None:
    header = dict.fromkeys(("step", "total_steps", "num_photos", "steps_per_epoch", "computed_in"), odd)
    config = dict.fromkeys(("steps", "epochs", "batch_size", "log_every", "model"), odd)
    notes = dict.fromkeys(("sources", "preset", "photos", "official"), odd)
    lines = [line(20), {"step": odd}, {"step": 40, "loss": odd, "photos_per_second": odd}]
    record = read_run(written(tmp_path, config=config, lines=lines, header=header, log="...", **notes))
    assert record.step in (40, 2**80)
    assert record.state in ("running", "silent", "finished")
    assert record.batch_size >= 1
    assert record.log_every >= 1
    assert record.num_prototypes is None
    assert record.photos is None or odd == []
    assert isinstance(record.preset, str)
    assert record.seconds_left is None or record.seconds_left >= 0


def test_settings_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"config": {}}))
    record = read_run(tmp_path)
    assert (record.step, record.total_steps, record.photos, record.preset) == (0, None, None, "")
    assert (record.lines, record.failures, record.checkpoints, record.previews, record.labels) == ([], [], [], [], None)


def test_lines_are_sorted_and_one_for_each_step(tmp_path: Path) -> None:
    lines = [line(20), line(40, loss=1.0), line(20, loss=9.0), {"loss": 1.0}, line(-1), {"step": "60"}]
    assert read_run(written(tmp_path, lines=lines)).lines == [line(20, loss=9.0), line(40, loss=1.0)]


def test_a_run_without_a_readable_line_is_at_the_step_of_its_checkpoint(tmp_path: Path) -> None:
    run = written(tmp_path, lines=[], header=HEADER)
    (run / "metrics.jsonl").write_text("junk\n")
    record = read_run(run)
    assert (record.step, record.lines, record.num_unread) == (200, [], 1)
    assert read_run(written(tmp_path, lines=[line(220)], header=HEADER)).unread == ""


def test_torn_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    run = written(tmp_path, lines=[line(20)], header=HEADER)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 40, "lo\n\0\0\0\n[1]\n' + json.dumps(line(60)).encode() + b'\n{"step": 80')
    (run / "checkpoints" / "last.json").write_bytes(b'{"step": 2')
    (run / "failures.jsonl").write_bytes(b'{"error": "a.jpg is empty"}\n{"other": 1}\n{"err')
    (run / "labels.json").write_bytes(b"{")
    (run / "log.txt").write_bytes(b"\xff\xfe\0" * 5_000)
    record = read_run(run)
    assert [found["step"] for found in record.lines] == [20, 60]
    assert (
        record.unread == f"4 lines of {run / 'metrics.jsonl'} cannot be read as JSON with a step; curves leave them out"
    )
    assert record.header == {}
    assert record.failures == ["a.jpg is empty", ""]
    assert record.labels is None


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"config": 3}', b"\xff", b"[" * 100_000])
def test_folder_without_a_run_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"has no config\.json of a run; expected the folder of a training run$"):
        read_run(tmp_path)


def test_checkpoints_previews_and_labels(tmp_path: Path) -> None:
    run = written(tmp_path, header=HEADER)
    (run / "preview").mkdir()
    for name in ("step-00000020.jpg", "step-00000003.jpg", "step-x.jpg", ".step-00000009.jpg.part", "other.jpg"):
        (run / "preview" / name).touch()
    for seconds, name in enumerate(("step-00000100.safetensors", "last.safetensors", ".last.safetensors.7.part")):
        (run / "checkpoints" / name).write_bytes(bytes(10 + seconds))
        os.utime(run / "checkpoints" / name, (START + seconds, START + seconds))
    (run / "checkpoints" / ".hidden.safetensors").touch()
    (run / "checkpoints" / "gone.safetensors").symlink_to("nowhere")
    labels = LabelMap.of_classes(("sky", "tree"), ((1, 2, 3), (4, 5, 6)), origin="names")
    (run / "labels.json").write_text(json.dumps(labels.to_dict()))
    record = read_run(run)
    assert [(step, file.name) for step, file in record.previews] == [
        (3, "step-00000003.jpg"),
        (20, "step-00000020.jpg"),
    ]
    assert [(c.name, c.size) for c in record.checkpoints] == [
        ("last.safetensors", 11),
        ("step-00000100.safetensors", 10),
    ]
    assert record.labels == labels


def test_torch_is_not_loaded() -> None:
    code = "import sys, slotseg.watching.run_page, slotseg.runs.record; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
