"""Run folders: the next free name, the newest run, and what is no run."""

import os
from pathlib import Path

import pytest
import torch

from slotseg.errors import CheckpointError, ConfigError
from slotseg.runs import checkpoint
from slotseg.runs import folder as runs


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_run(path: Path, time: int = 0) -> runs.RunFolder:
    run = runs.RunFolder(path)
    run.last.parent.mkdir(parents=True)
    run.last.write_bytes(b"")
    for file in (run.config, run.metrics):
        file.write_text("")
    for file in (run.config, run.metrics, run.last):
        os.utime(file, (time, time))
    return run


def test_files_of_a_run() -> None:
    run = runs.RunFolder(Path("r"))
    names = {str(p.relative_to("r")) for p in (run.config, run.metrics, run.log, run.failures, run.labels, run.last)}
    assert names == {
        "config.json", "metrics.jsonl", "log.txt", "failures.jsonl", "labels.json", "checkpoints/last.safetensors"
    }  # fmt: skip
    assert run.numbered(1200) == Path("r/checkpoints/step-00001200.safetensors")


def test_the_next_free_name() -> None:
    assert runs.new_run(None, "tiny").path == Path("runs/tiny-1")
    Path("runs/tiny-1").mkdir(parents=True)
    Path("runs/tiny-3").mkdir()
    assert runs.new_run(None, "tiny").path == Path("runs/tiny-2")
    Path("runs/tiny-2").mkdir()
    assert runs.new_run(None, "tiny").path == Path("runs/tiny-4")
    assert runs.new_run(None, "photos").path == Path("runs/photos-1")


def test_a_missing_or_empty_folder_may_be_asked_for() -> None:
    Path("empty").mkdir()
    for name in ("missing", "empty"):
        assert runs.new_run(Path(name), "x").path == Path(name)


def test_a_folder_with_something_in_it_is_refused() -> None:
    make_run(Path("full"))
    Path("file").write_text("")
    for name in ("full", "file"):
        with pytest.raises(ConfigError, match=f"{name} exists and is not an empty folder.*--resume {name}"):
            runs.new_run(Path(name), "x")
    assert Path("full/config.json").is_file()


@pytest.mark.parametrize("heard", ["config.json", "metrics.jsonl", "checkpoints/last.safetensors"])
def test_the_newest_run_is_the_one_last_heard_of(heard: str) -> None:
    for name, time in (("a", 10), ("b", 30), ("c", 20)):
        make_run(Path("runs") / name, time)
    Path("runs/d").mkdir()
    Path("runs/d/config.json").write_text("{}")  # ended before its first checkpoint
    assert runs.newest_run().path == Path("runs/b")
    os.utime(Path("runs/a") / heard, (40, 40))
    assert runs.newest_run().path == Path("runs/a")
    assert runs.find_checkpoint(None) == Path("runs/a/checkpoints/last.safetensors")


def learned(run: runs.RunFolder, step: int, time: int) -> None:
    checkpoint.save(run.last, {"a": torch.ones(1)}, {"config": {}, "step": step})
    os.utime(run.last, (time, time))


def test_a_run_that_has_not_learned_is_not_the_newest() -> None:
    good, failed = make_run(Path("runs/good"), 10), make_run(Path("runs/failed"), 20)
    learned(good, 3, 10)
    learned(failed, 0, 20)
    assert runs.newest_run().path == good.path
    assert runs.newest_run(going_on=True).path == failed.path  # it has metrics of steps
    failed.metrics.unlink()
    assert runs.newest_run(going_on=True).path == good.path
    good.last.unlink()
    with pytest.raises(CheckpointError, match=r"no run under .*runs has learned anything yet .* --resume runs/failed`"):
        runs.find_checkpoint(None)
    assert runs.find_checkpoint(failed.path) == failed.last
    learned(failed, 1, 20)
    assert runs.find_checkpoint(None) == failed.last


def test_a_run_of_which_no_step_was_done_says_so() -> None:
    run = make_run(Path("runs/failed"))
    run.last.unlink()
    with pytest.raises(CheckpointError, match=r"no step of its training was done; expected a run that has"):
        runs.find_checkpoint(run.path)


def test_a_checkpoint_is_named_by_folder_or_file() -> None:
    run = make_run(Path("elsewhere/r"))
    assert runs.find_checkpoint(run.path) == run.last
    assert runs.find_checkpoint(run.last) == run.last
    assert runs.open_run(run.path).last == run.last


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_no_run_no_resume(name: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(CheckpointError, match=f"{name} has no checkpoints/last.safetensors"):
        runs.open_run(Path(name))


def test_no_runs_at_all() -> None:
    with pytest.raises(CheckpointError, match=r"there is no run under .*runs; train one"):
        runs.find_checkpoint(None)


def test_the_run_of_a_checkpoint() -> None:
    run = make_run(Path("r"))
    found = runs.run_of(run.numbered(5))
    assert found is not None
    assert found.path == run.path
    assert runs.run_of(Path("r/other/last.safetensors")) is None
    run.config.unlink()
    assert runs.run_of(run.last) is None
