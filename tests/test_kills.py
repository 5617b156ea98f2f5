"""A run killed at any moment, also while it saves, continues and ends as if nothing had been."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize(("num_runs", "kind"), [(20, []), (12, ["kept"])], ids=["views", "kept maps"])
def test_killed_runs_end_as_the_uninterrupted_one_bit_for_bit(tmp_path: Path, num_runs: int, kind: list[str]) -> None:
    command = [sys.executable, str(Path(__file__).with_name("kill_runs.py")), str(tmp_path), "0", str(num_runs), *kind]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert process.returncode == 0, process.stderr
    runs = [json.loads(line) for line in process.stdout.splitlines()]
    assert len(runs) == num_runs
    for run in runs:
        assert run["equal"], run
        assert run["same_metrics"], run
        assert run["leftovers"] == [], run
    assert sum(run["killed_while_saving"] for run in runs) >= num_runs // 4
    stopped = [step for run in runs for step in run["killed_after_step"] if step is not None]
    assert len(set(stopped)) >= 5  # at different moments
