"""What the monitor says of real runs, healthy and deliberately collapsed, and of made-up lines at its bounds."""

import json
from pathlib import Path
from typing import Any

import pytest

from slotseg.config import TrainConfig
from slotseg.values import to_dict, with_values
from slotseg.watching.diagnosis import IN_A_ROW, Finding, diagnose

RUNS = Path(__file__).parent.parent / "golden" / "monitor"
"""Named by what is to be said of them, and what they are."""


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings and metrics of a run; a file's first line has the settings."""
    first, *lines = (json.loads(text) for text in path.read_text().splitlines())
    return to_dict(with_values(TrainConfig(), first["settings"])), lines


def history(config: dict[str, Any], lines: list[dict[str, Any]]) -> list[list[Finding]]:
    """What was said after each line."""
    return [diagnose(lines[:number], config) for number in range(len(lines) + 1)]


@pytest.mark.parametrize("path", sorted(RUNS.glob("*.jsonl")), ids=lambda p: p.stem)
def test_real_runs(path: Path) -> None:
    config, lines = read(path)
    said = [finding.kind for findings in history(config, lines) for finding in findings]
    expected = path.stem.split("_")[0]
    if expected == "healthy":
        assert said == []  # at no time
    else:
        assert expected in said


def test_there_are_enough_real_runs() -> None:
    kinds = [path.stem.split("_")[0] for path in RUNS.glob("*.jsonl")]
    assert kinds.count("healthy") >= 4
    assert len(kinds) - kinds.count("healthy") >= 4


CONFIG = to_dict(with_values(TrainConfig(), {"model.num_prototypes": 256, "optimizer.warmup_epochs": 2}))


def line(step: int, **values: float) -> dict[str, Any]:
    """A healthy line, with some metrics changed."""
    healthy = {
        "step": step,
        "epoch": step / 100,
        "grouping_loss": 1000 / (step + 50),
        "active_prototypes": 200,
        "common_prototypes": 120,
        "largest_share": 0.05,
        "entropy_per_pixel": 0.3,
        "entropy_overall": 0.9,
        "agreement": 0.5,
        "feature_similarity": 0.1,
        "skipped_steps": 0,
    }
    return {**healthy, **values}


def lines_that_turn(at: int, number: int = 10, **values: float) -> list[dict[str, Any]]:
    """Lines of which those from an index on are ill, 50 steps apart, the first after 50."""
    return [line(50 * (i + 1), **(values if i >= at else {})) for i in range(number)]


ILL = {
    "few": {"common_prototypes": 3, "largest_share": 0.5, "entropy_overall": 0.2},
    "undecided": {"entropy_per_pixel": 0.98},
    "alike": {"feature_similarity": 0.95},
    "stuck": {"grouping_loss": 12.0},
    "skipped": {"skipped_steps": 60},
}


ABRUPT = sorted(set(ILL) - {"stuck"})


@pytest.mark.parametrize("kind", ABRUPT)
def test_a_finding_needs_some_lines_in_a_row_and_dates_from_the_first(kind: str) -> None:
    said = history(CONFIG, lines_that_turn(5, **ILL[kind]))
    assert [len(findings) for findings in said] == [0] * (5 + IN_A_ROW) + [1] * (6 - IN_A_ROW)
    (finding,) = said[-1]
    assert (finding.kind, finding.since_step) == (kind, 300)
    assert "since step 300 (epoch 3)" in finding.what
    assert finding.advice


@pytest.mark.parametrize("kind", ABRUPT)
def test_a_single_healthy_line_ends_it(kind: str) -> None:
    assert diagnose([*lines_that_turn(5, **ILL[kind]), line(600)], CONFIG) == []


@pytest.mark.parametrize(("kind", "epochs"), [("undecided", 2), ("alike", 2), ("stuck", 4)])
def test_what_a_run_has_not_learned_is_not_held_against_it_during_warm_up(kind: str, epochs: int) -> None:
    lines = lines_that_turn(0, number=20, **ILL[kind])
    said = history(CONFIG, lines)
    first = next(number for number, findings in enumerate(said) if findings)
    assert lines[first - IN_A_ROW]["epoch"] == epochs
    assert said[first][0].kind == kind


def test_a_loss_that_jumps_about_where_it_started_is_stuck() -> None:
    losses = [10, *[9, 12] * 10, 9]  # on average no better than 10
    lines = [line(50 * (i + 1), grouping_loss=loss) for i, loss in enumerate(losses)]
    (finding,) = diagnose(lines, CONFIG)
    assert finding.kind == "stuck"
    assert "The grouping loss is 9, no better than 10 at the start" in finding.what


def test_words() -> None:
    (finding,) = diagnose(lines_that_turn(5, **ILL["few"]), CONFIG)
    assert finding.what == "3 of 256 prototypes hold 90 % of the pixels since step 300 (epoch 3)."
    one = {"common_prototypes": 1, "largest_share": 0.94, "entropy_overall": 0.1}
    (finding,) = diagnose(lines_that_turn(5, **one), CONFIG)
    assert finding.what == "1 of 256 prototypes holds 94 % of the pixels since step 300 (epoch 3)."


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"model.teacher_temperature": 0.2}, "below the student's, 0.1"),
        ({"model.center_momentum": 1.0}, "the centre stays"),
        ({"batch_size": 2}, "batch of 2 photos"),
        ({"optimizer.name": "adamw", "optimizer.learning_rate": 1.0}, "high for AdamW"),
    ],
)
def test_advice_names_the_setting_that_is_the_cause(values: dict[str, Any], word: str) -> None:
    config = to_dict(with_values(TrainConfig(), {**values, "model.num_prototypes": 256}))
    (finding,) = diagnose(lines_that_turn(5, **ILL["few"]), config)
    assert word in finding.advice


def test_skipped_steps_are_said_beside_a_collapse() -> None:
    lines = lines_that_turn(5, **ILL["few"], **ILL["skipped"])
    assert [finding.kind for finding in diagnose(lines, CONFIG)] == ["skipped", "few"]


def test_of_few_prototypes_one_may_be_common() -> None:
    """Two or three classes, most pixels in one: a fact of the photos."""
    config = to_dict(with_values(TrainConfig(), {"model.num_prototypes": 2}))
    for share, kinds in ((0.96, []), (0.99, ["few"])):
        lines = lines_that_turn(0, common_prototypes=1, largest_share=share, entropy_overall=0.2)
        assert [finding.kind for finding in diagnose(lines, config)] == kinds


@pytest.mark.parametrize(
    "odd", [{}, {"step": 5}, {"step": 500, "epoch": None, "grouping_loss": "x", "largest_share": [1]}]
)
def test_lines_without_metrics_break_no_rule(odd: dict[str, Any]) -> None:
    assert diagnose([odd] * 5, CONFIG) == []
    assert diagnose([odd] * 5, {}) == []


def test_a_run_whose_first_line_is_late_is_not_called_stuck() -> None:
    lines = [line(1000 * (i + 1), grouping_loss=1.0) for i in range(10)]
    assert diagnose(lines, CONFIG) == []
