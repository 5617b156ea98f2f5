"""The page of a run: its progress, its curves, its preview sheets, its settings.

The page is a single file that loads nothing. It can be written while the run is going on. Python prepares plain
values. ``run_page.html`` lays them out and escapes every name in them.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

import slotseg
from slotseg import amounts
from slotseg.pages import Picture, check_replaceable, data_uri, render_page, write_page
from slotseg.runs.record import RunRecord
from slotseg.segment_config import ReadingConfig
from slotseg.values import flatten, from_dict
from slotseg.watching.charts import CHARTS
from slotseg.watching.curves import HEIGHT, WIDTH, Drawing, draw, number_text
from slotseg.watching.diagnosis import Finding

MAX_SHEETS = 24
"""Most preview sheets on a page."""
MAX_SHEET_BYTES = 3_000_000
"""Most bytes of all preview sheets on a page together."""
NUM_FAILURES = 20
"""Most unreadable photos that are named."""
UNKNOWN = "not known"
"""Source of a setting for which none is recorded."""


@dataclass(frozen=True, kw_only=True)
class Sheet(Picture):
    """A preview sheet inside the page."""

    step: int
    """Step after which the sheet was painted."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A value of the configuration."""

    name: str
    """Dotted name, as for ``--set``."""
    value: str
    """Text of the value."""
    source: str
    """Source of the value, as in ``config.json``."""


def write_run_page(file: Path, run: RunRecord, findings: Sequence[Finding] = (), *, overwrite: bool = False) -> None:
    """Write the page of a run, atomically. An older page of a run is replaced.

    Args:
        file: Path of the page.
        run: Run to show.
        findings: Findings of the monitor.
        overwrite: Whether a file that is no page of a run is replaced too.

    Raises:
        DataError: If there is a file that may not be replaced, or the page cannot be written.
    """
    if not overwrite:
        check_replaceable(file, "report", "page of a run")
    write_page(file, render(run, findings))


def render(run: RunRecord, findings: Sequence[Finding] = ()) -> str:
    """The page's HTML."""
    drawings = [
        drawing
        for chart in CHARTS
        if (drawing := draw(chart, run.lines, run.num_prototypes if "active_prototypes" in chart.keys else None))
    ]
    all_settings = settings(run.settings)
    return render_page(
        "slotseg.watching",
        "run_page.html",
        {
            "number": number_text,
            "date": amounts.date,
            "duration": amounts.duration,
            "bytes": amounts.size,
            "count": amounts.count,
            "tenths": amounts.tenths,
        },
        version=slotseg.__version__,
        run=run,
        summary=summary(run),
        findings=findings,
        drawings=drawings,
        points=points(drawings, run.steps_per_epoch),
        width=WIDTH,
        height=HEIGHT,
        sheets=sheets(run.previews),
        changed=[s for s in all_settings if s.source != "default"],
        defaults=[s for s in all_settings if s.source == "default"],
        num_failures=NUM_FAILURES,
    )


def summary(run: RunRecord) -> str:
    """Sentences on how the run stands."""
    computed = run.header.get("computed_in")
    where = ""
    if isinstance(computed, dict):
        where = f" on {computed.get('device', 'an unknown device')} in {computed.get('precision', 'unknown precision')}"
    started, ago = amounts.date(run.started), amounts.duration(run.now - run.heard)
    left = "" if run.seconds_left is None else f" About {amounts.duration(run.seconds_left)} left at its speed so far."
    learned = f" {sentence}" if (sentence := decoder_sentence(run)) else ""
    learned += "".join(f" {sentence}" for sentence in reading_sentences(run))
    left += learned
    ended, took = amounts.date(run.heard), amounts.duration(run.heard - run.started)
    return {
        "finished": f"Finished {ended}{where}; it took {took} since it was last started.{learned}",
        "imported": f"Imported {started} and not trained further; --resume goes on from there.",
        "interrupted": f"Interrupted {ended}, after {took}{where}; --resume goes on from there.{left}",
        "running": f"Running since {started}{where}, last heard of {ago} ago.{left}",
        "silent": f"Started {started}{where} and not heard of for {ago}: it was stopped, or hangs.{left}",
    }[run.state]


def decoder_sentence(run: RunRecord) -> str:
    """Sentence on what the decoder has learned; empty where that is not known."""
    agreement = run.decoder_agreement
    if agreement is None or agreement[0] == agreement[1]:
        return ""
    untrained, own = map(amounts.percent, agreement)
    said = (
        f"The decoder agrees with its targets in {own} of the pixels of held-out photos, {untrained} without learning."
    )
    if agreement[1] < agreement[0]:
        said += " So new photos may be painted worse than without it: train on more, or with decoder.steps=0."
    return said


def weights_sentence(run: RunRecord) -> str:
    """Sentence on weights that took the place of the default ones; empty where none did."""
    sources = run.settings.get("sources")
    source = sources.get("backbone.init") if isinstance(sources, dict) else None
    if not isinstance(source, str) or not source.startswith("instead of "):
        return ""
    return f"The network starts from {flatten(run.config).get('backbone.init')} {source}."


def reading_sentences(run: RunRecord) -> list[str]:
    """Sentences on the bands and the range of the photos, and on what reading them left out or changed."""
    config = from_dict(ReadingConfig, run.config.get("reading", {}))
    notes = run.settings.get("photo_notes")
    said = [f"Photos were read with {words}." for words in (config.sentence(),) if words]
    return said + [f"{note}." for note in (notes if isinstance(notes, list) else [])]


def points(drawings: Sequence[Drawing], steps_per_epoch: int | None) -> dict[str, Any]:
    """Values of the curves for the page's script, JSON-ready."""
    charts = [
        {
            "span": drawing.span,
            "steps": drawing.steps,
            "values": [curve.values for curve in drawing.curves],
            "percent": drawing.chart.percent,
        }
        for drawing in drawings
    ]
    return {"charts": charts, "stepsPerEpoch": steps_per_epoch}


def sheets(previews: Sequence[tuple[int, Path]]) -> list[Sheet]:
    """The first and the last preview sheet and evenly chosen ones between, as many as a page can hold."""
    sizes = [_size(file) for _, file in previews]
    number = min(MAX_SHEETS, len(previews), MAX_SHEET_BYTES // max([1, *sizes]) or 1)
    if number > 1:
        chosen = [round(i * (len(previews) - 1) / (number - 1)) for i in range(number)]
    else:
        chosen = [len(previews) - 1] if previews else []
    return [sheet for i in chosen if (sheet := _sheet(*previews[i]))]


def settings(values: Mapping[str, Any]) -> list[Setting]:
    """Every setting of a run's ``config.json``: those given by hand first, defaults last."""
    sources = values.get("sources")
    sources = sources if isinstance(sources, dict) else {}
    found = [
        Setting(name=name, value=_value_text(value), source=str(sources.get(name, UNKNOWN)))
        for name, value in flatten(values["config"]).items()
    ]
    last = ("default", UNKNOWN)
    return sorted(found, key=lambda s: (s.source in last, s.source.startswith("preset"), s.source == "weights"))


def _size(file: Path) -> int:
    """Size of a file in bytes, 0 if it is gone."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _sheet(step: int, file: Path) -> Sheet | None:
    """A preview sheet, or None if the file is no picture or gone."""
    try:
        content = file.read_bytes()
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            size = image.size
    except (OSError, Image.DecompressionBombError):
        return None
    return Sheet(step=step, uri=data_uri(content, "JPEG"), size=size)


def _value_text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(v) for v in value)
    return str(value) if value != {} else "none"
