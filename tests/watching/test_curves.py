"""Curves by hand: what is kept of many points, where lines break, axes, and metrics that are no numbers."""

import math
from typing import Any

import numpy as np
import pytest

from slotseg.watching.charts import CHARTS, Chart
from slotseg.watching.curves import HEIGHT, NUM_BUCKETS, WIDTH, draw, number_text, svg_path, thinned, tick_labels, ticks

LOSS = Chart(title="Loss", group="loss", keys={"loss": "total", "slot_loss": "slot"})
SHARE = Chart(title="Share", group="share", keys={"share": "share"}, low=0, high=1, percent=True)
QUIET = Chart(title="Skipped", group="steps", keys={"skipped_steps": "skipped"}, low=0, quiet=True)


def lines(key: str, values: list[Any], every: int = 1) -> list[dict[str, Any]]:
    return [{"step": every * (i + 1), key: value} for i, value in enumerate(values)]


def test_few_points_are_all_kept() -> None:
    steps = np.arange(2 * NUM_BUCKETS)
    assert np.array_equal(thinned(steps, np.zeros((1, len(steps)))), steps)


def test_thinning_keeps_peaks_of_every_curve_both_ends_and_gaps() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 50_000))
    peaks = {(0, 12_345): 99.0, (1, 12_346): -99.0, (2, 777): 1e9}
    for place, value in peaks.items():
        values[place] = value
    values[1, 40_000] = math.nan
    kept = thinned(np.arange(50_000), values)
    assert {12_345, 12_346, 777, 40_000, 0, 49_999} <= set(kept.tolist())
    assert len(kept) < 8 * NUM_BUCKETS
    assert np.array_equal(kept, np.unique(kept))


def test_thinning_divides_steps_and_not_points() -> None:
    steps = np.concatenate([np.arange(10_000), np.arange(10_000, 1_000_000, 10_000)])  # log_every was raised
    kept = steps[thinned(steps, np.sin(steps)[None])]
    assert set(range(20_000, 1_000_000, 10_000)) <= set(kept.tolist())


def test_thinning_of_nothing_but_gaps() -> None:
    assert thinned(np.arange(1_000), np.full((1, 1_000), math.nan))[[0, -1]].tolist() == [0, 999]


def test_path_breaks_at_gaps_and_shows_lone_points() -> None:
    x = np.arange(7.0)
    y = np.array([math.nan, 1, 2, math.nan, 3, math.nan, 4])
    assert svg_path(x, y) == "M1.0 1.0L2.0 2.0M4.0 3.0h0M6.0 4.0h0"
    assert svg_path(x, np.full(7, math.nan)) == ""


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 0.001, ["0", "0.0002", "0.0004", "0.0006", "0.0008", "0.0010"]),
        (-1.2, 1.1, ["-1.0", "-0.5", "0", "0.5", "1.0"]),
        (0, 250_000, ["0", "50,000", "100,000", "150,000", "200,000", "250,000"]),
        (0.99612, 0.99971, ["0.997", "0.998", "0.999"]),
        (0, 1e-6, ["0", "2.0e-07", "4.0e-07", "6.0e-07", "8.0e-07", "1.0e-06"]),
        (0, 4e8, ["0", "1e+08", "2e+08", "3e+08", "4e+08"]),
    ],
)
def test_ticks_are_round_and_written_alike(low: float, high: float, expected: list[str]) -> None:
    assert tick_labels(ticks(low, high)) == expected


@pytest.mark.parametrize("spread", [1e-300, 1e-9, 1e-3, 1, 1e6, 1e300])
@pytest.mark.parametrize("offset", [-1, 0, 0.3])
def test_ticks_lie_within_the_axis_and_differ(spread: float, offset: float) -> None:
    found = ticks(offset * spread, (offset + 1.23) * spread)
    assert 3 <= len(found) <= 8
    assert offset * spread * (1 + 1e-9) <= found[0] + 1e-9 * spread
    assert found[-1] <= (offset + 1.23) * spread * (1 + 1e-9)
    assert len(set(tick_labels(found))) == len(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (12_345, "12,345"),
        (0.12345, "0.1235"),
        (1.5e-6, "1.50e-06"),
        (5, "5"),
        (-2.5, "-2.5"),
        (3e9, "3.00e+09"),
    ],
)
def test_numbers_have_four_digits(value: float, expected: str) -> None:
    assert number_text(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(0, "0 %"), (0.375, "37.5 %"), (1, "100 %"), (0.99999, "100 %")])
def test_shares_are_percent(value: float, expected: str) -> None:
    assert number_text(value, percent=True) == expected


def test_drawing_by_hand() -> None:
    drawing = draw(SHARE, lines("share", [0.0, 0.5, None, 1.0], every=10))
    assert drawing
    assert (drawing.span, drawing.steps) == ((10, 40), [10, 20, 30, 40])
    (curve,) = drawing.curves
    assert curve.path == f"M0.0 {HEIGHT}.0L333.3 {HEIGHT / 2}M{WIDTH}.0 0.0h0"
    assert (curve.values, curve.last) == ([0, 0.5, None, 1], 1)
    assert [(round(row.at, 3), row.label) for row in drawing.rows] == [
        (1, "0 %"), (0.8, "20 %"), (0.6, "40 %"), (0.4, "60 %"), (0.2, "80 %"), (0, "100 %"),
    ]  # fmt: skip
    assert [(round(c.at, 3), c.label) for c in drawing.columns] == [
        (0, "10"), (0.167, "15"), (0.333, "20"), (0.5, "25"), (0.667, "30"), (0.833, "35"), (1, "40"),
    ]  # fmt: skip


def test_only_metrics_that_the_lines_have_are_drawn() -> None:
    drawing = draw(LOSS, lines("slot_loss", [3.0, 2.0]))
    assert drawing
    assert [curve.name for curve in drawing.curves] == ["slot"]


def test_last_value_is_the_newest_that_is_a_number() -> None:
    drawing = draw(LOSS, lines("loss", [3.0, 2.0, math.nan]))
    assert drawing
    assert drawing.curves[0].last == 2


@pytest.mark.parametrize(
    "values", [[], [None], [math.nan, math.inf, -math.inf], ["1", True, [1], {}], [1e301], [10**400]]
)
def test_nothing_is_drawn_of_what_is_no_number(values: list[Any]) -> None:
    assert draw(LOSS, lines("loss", values)) is None


def test_quiet_chart_is_drawn_once_it_has_something_to_say() -> None:
    assert draw(QUIET, lines("skipped_steps", [0, 0, None])) is None
    assert draw(QUIET, lines("skipped_steps", [0, 1, 1])) is not None


def test_one_point_lies_within_the_drawing() -> None:
    drawing = draw(LOSS, [{"step": 7, "loss": 3.0}])
    assert drawing
    assert drawing.curves[0].path == f"M0.0 {HEIGHT / 2}h0"
    assert [(c.at, c.label) for c in drawing.columns] == [(0, "7")]


@pytest.mark.parametrize("value", [0, 0.0, -3.5, 1e-12, 1e299, 5e-324, 7])
@pytest.mark.parametrize("chart", [LOSS, Chart(title="", group="", keys={"loss": "loss"}, low=0)])
def test_flat_curve_lies_within_its_axis(chart: Chart, value: float) -> None:
    drawing = draw(chart, lines("loss", [value] * 3))
    assert drawing
    assert all(0 <= y <= HEIGHT for y in heights(drawing.curves[0].path))
    labels = [row.label for row in drawing.rows]
    assert labels
    assert len(set(labels)) == len(labels)


def heights(path: str) -> list[float]:
    return [float(point.split()[1].removesuffix("h0")) for point in path.replace("M", "L").split("L")[1:]]


def test_huge_and_tiny_metrics_share_an_axis() -> None:
    drawing = draw(LOSS, lines("loss", [1e299, -1e299, 1e-300]))
    assert drawing
    assert all(0 <= y <= HEIGHT for y in heights(drawing.curves[0].path))


def test_metrics_beyond_a_given_end_are_inside_the_drawing() -> None:
    drawing = draw(SHARE, lines("share", [-0.5, 1.5]))
    assert drawing
    assert all(0 < y < HEIGHT for y in heights(drawing.curves[0].path))


def test_axis_ends_at_the_number_of_prototypes() -> None:
    chart = next(chart for chart in CHARTS if "active_prototypes" in chart.keys)
    drawing = draw(chart, lines("active_prototypes", [4, 8]), high=16)
    assert drawing
    assert heights(drawing.curves[0].path) == [0.75 * HEIGHT, 0.5 * HEIGHT]


def test_labels_of_steps_are_whole() -> None:
    drawing = draw(LOSS, [{"step": step, "loss": 1.0} for step in (1, 2)])
    assert drawing
    assert [c.label for c in drawing.columns] == ["1", "2"]


def test_label_has_room_beside_the_curve() -> None:
    for values in ([5.545177, 5.545178], [5.5451, 5.5459], [0.9999, 1.0], [99_999.1, 99_999.9]):
        drawing = draw(LOSS, lines("loss", values))
        assert drawing
        assert max(len(row.label) for row in drawing.rows) <= 8
