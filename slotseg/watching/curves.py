"""Curves of a run: which points are drawn, where they lie, and the axes around them. No picture library.

Letters: N lines of ``metrics.jsonl``, S figures of a chart.
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
"""Units of a drawing; it is stretched to its place on the page."""
NUM_BUCKETS = 300
"""Stretches of a curve of which the lowest and the highest point are kept."""
LARGEST = 1e300
"""Beyond this, a figure is none."""
FLAT = 1e-4
"""A curve that varies by less than this part of its values is drawn flat; labels have room for no more digits."""
TICKS = 5
"""About how many lines there are behind a curve."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line behind the curves."""

    at: float
    """Its place, 0..1 from the left or from the top."""
    label: str
    """What stands beside it."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One figure over the steps."""

    name: str
    """What it is called within its chart."""
    path: str
    """Of an SVG, in ``WIDTH`` x ``HEIGHT``."""
    values: list[float | None]
    """At the chart's ``steps``; None where it is no number."""
    last: float | None
    """The newest that is a number."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A chart with its points."""

    chart: Chart
    """What it shows."""
    steps: list[int]
    """Of the points that are drawn."""
    curves: list[Curve]
    """One for each figure that the lines have."""
    rows: list[Tick]
    """Horizontal lines."""
    columns: list[Tick]
    """Vertical lines."""
    span: tuple[int, int]
    """The first step and the last."""


def draw(chart: Chart, lines: Sequence[Mapping[str, Any]], high: float | None = None) -> Drawing | None:
    """Draw a chart of the lines of a run, which are sorted by step.

    Args:
        chart: What to draw.
        lines: Of ``metrics.jsonl``.
        high: Largest value of the axis, where the chart names none.

    Returns:
        The drawing; None where there is nothing to draw.
    """
    steps = np.array([line["step"] for line in lines], np.int64)
    figures = {key: _column(lines, key) for key in chart.keys}
    figures = {key: column for key, column in figures.items() if np.isfinite(column).any()}
    if not figures or (chart.quiet and not any(np.nan_to_num(column).any() for column in figures.values())):
        return None
    values = np.stack(list(figures.values()))
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
            for i, key in enumerate(figures)
        ],
        rows=rows,
        columns=_columns(*span),
        span=span,
    )


def thinned(steps: NDArray[np.int64], values: Floats, num_buckets: int = NUM_BUCKETS) -> NDArray[np.int64]:
    """Which points to keep so that no peak is lost.

    Args:
        steps: Ascending, ``(N,)``.
        values: ``(S, N)``; what is no number is a gap.
        num_buckets: The steps are divided into so many stretches of equal length.

    Returns:
        Ascending indices: of each stretch and figure the lowest and the highest point and a gap, if there is
        one, and the first and the last point of all. All of them where there are few.
    """
    number = len(steps)
    if number <= 2 * num_buckets:
        return np.arange(number)
    edges = np.linspace(steps[0], steps[-1] + 1, num_buckets + 1)
    kept = {0, number - 1}
    for start, end in pairwise(np.searchsorted(steps, edges).tolist()):
        for figure in values[:, start:end]:
            numbers = np.flatnonzero(np.isfinite(figure))
            if len(numbers):
                kept |= {start + int(numbers[f(figure[numbers])]) for f in (np.argmin, np.argmax)}
            if len(numbers) < len(figure):
                kept.add(start + int(np.argmin(np.isfinite(figure))))
    return np.array(sorted(kept), np.int64)


def svg_path(x: Floats, y: Floats) -> str:
    """Straight lines through points, each ``(N,)``; broken where ``y`` is no number, a dot where one stands alone."""
    drawn = np.isfinite(y)
    parts = []
    for i in np.flatnonzero(drawn).tolist():
        begins = i == 0 or not drawn[i - 1]
        alone = begins and (i + 1 == len(y) or not drawn[i + 1])
        parts.append(f"{'M' if begins else 'L'}{x[i]:.1f} {y[i]:.1f}{'h0' if alone else ''}")
    return "".join(parts)


def ticks(low: float, high: float, number: int = TICKS) -> list[float]:
    """About ``number`` round values from ``low`` to ``high``; ``low`` < ``high``."""
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.7)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_labels(values: Sequence[float], *, percent: bool = False) -> list[str]:
    """Values of ``ticks`` for people, all written alike and with as many digits as tell them apart."""
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
    """A figure for people, four digits of it: 12,345; 0.1235; 1.5e-06; or as per cent."""
    if percent:
        return f"{100 * value:.3g} %"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2e}"


def _column(lines: Sequence[Mapping[str, Any]], key: str) -> Floats:
    """A figure of every line, NaN where it is none."""
    return np.array([_number(line.get(key)) for line in lines], np.float64)


def _number(value: object) -> float:
    if is_number(value) and abs(value) < LARGEST:
        return float(value)
    return math.nan


def _axis(values: Floats, low: float | None, high: float | None, *, percent: bool) -> tuple[float, float, list[Tick]]:
    """Both ends of the vertical axis, and the lines across it; the ends lie a little beyond the figures."""
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
