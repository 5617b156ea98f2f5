"""What a run writes down: nothing is lost by a full disk, nothing of a torn line is believed, one process writes."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slotseg.errors import ConfigError
from slotseg.files import read_json_lines
from slotseg.runs.folder import RunFolder
from slotseg.runs.journal import Journal


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_lines_that_a_full_disk_has_no_room_for_are_written_once_it_has(
    small_disk: Path, fill_disk: Callable[[Path, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(small_disk / "run")
    journal = Journal(run)
    lines = [{"step": step, "text": "x" * 500} for step in range(60)]
    with caplog.at_level(logging.INFO, "slotseg"), journal.opened({}, 0):
        for line in lines[:20]:
            journal.add_metrics(line)
        fill_disk(small_disk, 0)
        for line in lines[20:40]:
            journal.add_metrics(line)
            logging.getLogger("slotseg").info("y" * 500)
            assert all(text.endswith("}") for text in run.metrics.read_text().splitlines())  # none is torn
        assert len(read_json_lines(run.metrics)) < 40
        (small_disk / "ballast").unlink()
        for line in lines[40:]:
            journal.add_metrics(line)
        assert read_json_lines(run.metrics) == lines
    assert sum("metrics.jsonl cannot be written" in m for m in caplog.messages) == 1


def test_lines_that_wait_are_written_at_the_end(run: RunFolder) -> None:
    journal = Journal(run)
    with journal.opened({}, 0):
        run.metrics.mkdir()
        journal.add_metrics({"step": 1})
        run.metrics.rmdir()
    assert read_json_lines(run.metrics) == [{"step": 1}]


def test_going_on_drops_later_lines_torn_ones_and_leftovers_of_a_killed_process(run: RunFolder) -> None:
    run.last.parent.mkdir(parents=True)
    lines = [{"step": 1}, {"step": 2}, {"step": 3}]
    torn = b"\0\0\0\n[1]\n" + json.dumps({"step": 2}).encode()[:-3]
    run.metrics.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + torn)
    run.failures.write_text(json.dumps({"error": "a.jpg is empty"}) + "\n")
    leftovers = [run.path / ".config.json.77.part", run.last.parent / ".last.safetensors.77.part"]
    leftovers += [run.last.parent / ".tmpAb3xYz"]
    for path in (*leftovers, run.last):
        path.write_bytes(b"")
    journal = Journal(run)
    with journal.opened({"config": 1}, 2):
        assert journal.metrics == read_json_lines(run.metrics) == lines[:2]
        journal.add_unreadable(("a.jpg is empty", "b.jpg is empty"))
        journal.add_metrics({"step": 3})
    assert json.loads(run.config.read_text()) == {"config": 1}
    assert [line["error"] for line in read_json_lines(run.failures)] == ["a.jpg is empty", "b.jpg is empty"]
    assert read_json_lines(run.metrics) == lines
    assert list(run.last.parent.iterdir()) == [run.last]


def test_a_run_in_training_is_refused_to_another_process(run: RunFolder) -> None:
    pytest.importorskip("fcntl")
    other = (
        "import sys; from slotseg.runs.journal import *\nwith Journal(RunFolder(Path(sys.argv[1]))).opened({}, 0): pass"
    )
    command = [sys.executable, "-c", other, str(run.path)]
    with Journal(run).opened({"mine": 1}, 0):
        result = subprocess.run(command, capture_output=True, text=True)
        assert f"another process is training in {run.path}" in result.stderr
        assert json.loads(run.config.read_text()) == {"mine": 1}
    assert subprocess.run(command).returncode == 0


def test_an_unwritable_folder_is_one_sentence(run: RunFolder) -> None:
    run.path.mkdir()
    run.config.mkdir()
    with pytest.raises(ConfigError, match=r"run cannot be written \(.*\); make room"), Journal(run).opened({}, 0):
        pass
