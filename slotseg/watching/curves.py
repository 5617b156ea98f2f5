"""Curves of a run: which points are drawn, where they lie, and the axes around them. No picture library.

Letters: N lines of ``metrics.jsonl``, S metrics of a chart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slotseg.values import is_number
from slotseg.watching.charts import Chart

WIDTH, HEIGHT = 1000, 240
"""Size of a drawing, in units of its own. The page stretches it to its place."""
NUM_BUCKETS = 300
"""Number of stretches of a long curve. The lowest and the highest point of each are kept."""
LARGEST = 1e300
"""Bound of absolute values. A metric from here on counts as no number."""
FLAT = 1e-4
"""Relative variation below which a curve is drawn flat, as labels have no room for more digits."""
TICKS = 5
"""Approximate number of lines behind a curve."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line behind the curves."""

    at: float
    """Position, 0..1 from the left or from the top."""
    label: str
    """Text beside the line."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric over the steps."""

    name: str
    """Name of the metric within its chart."""
    path: str
    """SVG path, in ``WIDTH`` x ``HEIGHT``."""
    values: list[float | None]
    """Values at the drawing's ``steps``. None where a value is no number."""
    last: float | None
    """Newest value that is a number."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart with its points."""

    chart: Chart
    """Chart that is drawn."""
    steps: list[int]
    """Steps of the points that are drawn."""
    curves: list[Curve]
    """Curve of each metric that the lines have."""
    rows: list[Tick]
    """Horizontal lines."""
    columns: list[Tick]
    """Vertical lines."""
    span: tuple[int, int]
    """First and last step."""


def draw(chart: Chart, lines: Sequence[Mapping[str, Any]], high: float | None = None) -> Drawing | None:
    """Draw a chart of a run.

    Args:
        chart: Chart to draw.
        lines: Lines of ``metrics.jsonl``, sorted by step.
        high: Highest value of the axis, where the chart names none.

    Returns:
        The drawing, or None where there is nothing to draw.
    """
    lines = [line for line in lines if any(key in line for key in chart.keys)]  # each stage has its own
    steps = np.array([line["step"] for line in lines], np.int64)
    metrics = {key: _column(lines, key) for key in chart.keys}
    metrics = {key: column for key, column in metrics.items() if np.isfinite(column).any()}
    if not metrics or (chart.quiet and not any(np.nan_to_num(column).any() for column in metrics.values())):
        return None
    values = np.stack(list(metrics.values()))
    high = chart.high if chart.high is not None else high
    low, high, rows = _axis(values, chart.low, high, percent=chart.percent)
    kept = thinned(steps, values)
    span = int(steps[0]), int(steps[-1])
    x = (steps[kept] - span[0]) / max(span[1] - span[0], 1) * WIDTH
    y = (1 - (values[:, kept] - low) / (high - low)) * HEIGHT
    return Drawing(
        chart=chart,
        steps=steps[kept].tolist(),
        curves=[
            Curve(
                name=chart.keys[key],
                path=svg_path(x, y[i]),
                values=[_rounded(v) for v in values[i, kept].tolist()],
                last=float(values[i][np.isfinite(values[i])][-1]),
            )
            for i, key in enumerate(metrics)
        ],
        rows=rows,
        columns=_columns(*span),
        span=span,
    )


def thinned(steps: NDArray[np.int64], values: Floats, num_buckets: int = NUM_BUCKETS) -> NDArray[np.int64]:
    """Choose the points to keep so that no peak is lost.

    Args:
        steps: Steps, ascending, ``(N,)``.
        values: Values of the metrics, ``(S, N)``. What is no number is a gap.
        num_buckets: Number of stretches of equal length into which the steps are divided.

    Returns:
        Ascending indices of the points. Kept are the first and the last point of all and, of each stretch and
        metric, the lowest point, the highest point, and a gap if there is one. Few points are all kept.
    """
    number = len(steps)
    if number <= 2 * num_buckets:
        return np.arange(number)
    edges = np.linspace(steps[0], steps[-1] + 1, num_buckets + 1)
    kept = {0, number - 1}
    for start, end in pairwise(np.searchsorted(steps, edges).tolist()):
        for metric in values[:, start:end]:
            numbers = np.flatnonzero(np.isfinite(metric))
            if len(numbers):
                kept |= {start + int(numbers[f(metric[numbers])]) for f in (np.argmin, np.argmax)}
            if len(numbers) < len(metric):
                kept.add(start + int(np.argmin(np.isfinite(metric))))
    return np.array(sorted(kept), np.int64)


def svg_path(x: Floats, y: Floats) -> str:
    """SVG path of straight lines through the points ``x``, ``y``, each ``(N,)``.

    The line is broken where ``y`` is no number. A point that stands alone is a dot.
    """
    drawn = np.isfinite(y)
    parts = []
    for i in np.flatnonzero(drawn).tolist():
        begins = i == 0 or not drawn[i - 1]
        alone = begins and (i + 1 == len(y) or not drawn[i + 1])
        parts.append(f"{'M' if begins else 'L'}{x[i]:.1f} {y[i]:.1f}{'h0' if alone else ''}")
    return "".join(parts)


def ticks(low: float, high: float, number: int = TICKS) -> list[float]:
    """About ``number`` round values from ``low`` to ``high``, where ``low`` < ``high``."""
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.7)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_labels(values: Sequence[float], *, percent: bool = False) -> list[str]:
    """Labels for the values of ``ticks``, all written alike, with as many digits as tell them apart."""
    unit, shown = (" %", [100 * v for v in values]) if percent else ("", list(values))
    largest = max((abs(v) for v in shown), default=0.0)
    if largest == 0 or len(shown) < 2:
        return [number_text(v, percent=percent) for v in values]
    power = math.floor(math.log10(shown[1] - shown[0]) + 1e-9)
    if largest < 1e7 and (largest >= 1e-3 or power >= -5):
        return [f"{v:,.{max(0, -power)}f}{unit}" if v else f"0{unit}" for v in shown]
    digits = max(0, math.floor(math.log10(largest)) - power)
    return [f"{v:.{digits}e}{unit}" if v else f"0{unit}" for v in shown]


def number_text(value: float, *, percent: bool = False) -> str:
    """Text of a metric for people, such as 12,345 or 0.1235 or 1.50e-06, or 12.3 % with ``percent``."""
    if percent:
        return f"{100 * value:.3g} %"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2e}"


def _column(lines: Sequence[Mapping[str, Any]], key: str) -> Floats:
    """Values of a metric in all lines, NaN where it is no number."""
    return np.array([_number(line.get(key)) for line in lines], np.float64)


def _number(value: object) -> float:
    if is_number(value) and abs(value) < LARGEST:
        return float(value)
    return math.nan


def _axis(values: Floats, low: float | None, high: float | None, *, percent: bool) -> tuple[float, float, list[Tick]]:
    """Both ends of the vertical axis, a little beyond the values, and the lines across it."""
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    bottom = least if low is None else min(low, least)
    top = most if high is None else max(high, most)
    if top - bottom <= FLAT * max(abs(top), abs(bottom), 1e-300):
        around = max(abs(top), abs(bottom)) / 10 or 1
        bottom, top = bottom if bottom == low else bottom - around, top if top == high else top + around
    margin = 0.04 * (top - bottom)
    if low is None or least < low:
        bottom -= margin
    if high is None or most > high:
        top += margin
    marks = ticks(bottom, top)
    labels = tick_labels(marks, percent=percent)
    return (
        bottom,
        top,
        [
            Tick(at=1 - (value - bottom) / (top - bottom), label=label)
            for value, label in zip(marks, labels, strict=True)
        ],
    )


def _columns(first: int, last: int) -> list[Tick]:
    if first == last:
        return [Tick(at=0, label=f"{first:,}")]
    values = [v for v in ticks(first, last) if v == round(v)]
    return [Tick(at=(v - first) / (last - first), label=f"{round(v):,}") for v in values]


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
