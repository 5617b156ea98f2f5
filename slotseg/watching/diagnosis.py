"""What the metrics of a run say of its health, in words. Needs no torch, so that a page can say it too.

A rule looks at a line of ``metrics.jsonl`` together with those just before it. It makes a finding once the newest
lines break it one after another. The finding dates from the first of these. The bounds lie between what healthy
and deliberately collapsed runs showed (``docs/experiments.md``).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slotseg.values import is_number

IN_A_ROW = 3
"""Number of successive lines that must break a rule."""
STEPS_TO_START = 100
"""Least number of steps before a run is judged by what it has learned."""
STEPS_AT_START = 50
"""Most steps after which a line still tells where the run started."""
FEW = 0.3
"""Entropy of the mean assignment below which few prototypes hold nearly everything, in units of log P."""
UNDECIDED = 0.97
"""Entropy of a pixel's assignment above which the pixel is undecided, in units of log P."""
ALIKE = 0.9
"""Mean cosine of two features above which all are the same."""
STUCK = 0.97
"""Mean grouping loss of the newest lines above which a run has not learned, in units of its first."""
LINES_TO_AVERAGE = 5
"""Number of newest lines over which the grouping loss is averaged, as tiny batches make it jump."""
SKIPPED = 0.05
"""Share of skipped steps above which they are too many."""

Line = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong with a run."""

    kind: str
    """Name of the rule that was broken."""
    what: str
    """Sentence on what is seen."""
    advice: str
    """Sentences on what to try."""
    since_step: int
    """First step of the lines that break the rule."""


def diagnose(lines: Sequence[Line], config: Mapping[str, Any]) -> list[Finding]:
    """Find what is wrong with a run, as far as its newest lines show it.

    Args:
        lines: Lines of ``metrics.jsonl``, ascending by step. A line without the metrics of a rule doesn't break it.
        config: All settings, nested, as in ``config.json``.

    Returns:
        Findings on skipped steps and on the gravest sign of a collapse. Empty for a healthy run.
    """
    lines = [line for line in lines if "decoder_loss" not in line]  # the rules are about SlotCon
    if not lines:
        return []
    run = _Run(lines[0], config)
    found = [finding for rule in COLLAPSES if (finding := _finding(rule, lines, run))][:1]
    skipped = _finding(SKIPS, lines, run)
    return [skipped, *found] if skipped else found


@dataclass(frozen=True)
class _Run:
    """A run as the rules see it, besides its newest lines."""

    first: Line
    """First line, which tells where the run started."""
    config: Mapping[str, Any]
    """All settings, nested."""

    def setting(self, name: str) -> Any:
        """A setting by its dotted name, None where there is none."""
        value: Any = self.config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def number(self, name: str, default: float = math.nan) -> float:
        """A setting by its dotted name, or the default where it is no number."""
        value = _number_or_nan(self.setting(name))
        return default if math.isnan(value) else value

    @property
    def num_prototypes(self) -> int:
        """Number of trained prototypes, P."""
        return int(max(self.number("model.num_prototypes", 0), self.number("model.trained_prototypes", 0)))

    def has_learned(self, line: Line, patience: float = 1) -> bool:
        """Whether a run is past ``STEPS_TO_START`` and ``patience`` warm-ups, and can be judged by what it learned."""
        step, epoch = _number(line, "step"), _number(line, "epoch")
        return step >= STEPS_TO_START and epoch >= patience * self.number("optimizer.warmup_epochs", 0)


@dataclass(frozen=True, kw_only=True)
class _Rule:
    kind: str
    broken: Callable[[Sequence[Line], _Run], bool]
    """Function that says whether the last of some lines breaks the rule."""
    words: Callable[[Line, _Run], str]
    """Function that says what is seen in the newest line, without the time."""
    advice: str
    """Advice where no setting is known to be the cause."""


def _finding(rule: _Rule, lines: Sequence[Line], run: _Run) -> Finding | None:
    streak = 0
    while streak < len(lines) and rule.broken(lines[: len(lines) - streak][-LINES_TO_AVERAGE:], run):
        streak += 1
    if streak < IN_A_ROW:
        return None
    since = lines[len(lines) - streak]
    when = f"since step {since['step']:,} (epoch {_number(since, 'epoch'):.3g})"
    causes = [words.format(run=run) for applies, words in CAUSES if applies(run)]
    return Finding(
        kind=rule.kind,
        what=f"{rule.words(lines[-1], run)} {when}.",
        advice=" ".join(causes) or rule.advice,
        since_step=since["step"],
    )


def _few(lines: Sequence[Line], run: _Run) -> bool:
    line = lines[-1]
    common, largest = _number(line, "common_prototypes"), _number(line, "largest_share")
    return _number(line, "entropy_overall") < FEW and (common <= run.num_prototypes / 8 or largest > 0.98)


def _few_words(line: Line, run: _Run) -> str:
    number, prototypes = line["common_prototypes"], f"of {run.num_prototypes:,} prototypes"
    if number == 1:
        return f"1 {prototypes} holds {100 * line['largest_share']:.0f} % of the pixels"
    return f"{number:,} {prototypes} hold 90 % of the pixels"


def _undecided(lines: Sequence[Line], run: _Run) -> bool:
    return run.has_learned(lines[-1]) and _number(lines[-1], "entropy_per_pixel") > UNDECIDED


def _alike(lines: Sequence[Line], run: _Run) -> bool:
    return run.has_learned(lines[-1]) and _number(lines[-1], "feature_similarity") > ALIKE


def _stuck(lines: Sequence[Line], run: _Run) -> bool:
    start, loss = (
        _number(run.first, "grouping_loss"),
        sum(_number(line, "grouping_loss") for line in lines) / len(lines),
    )
    since_start = _number(run.first, "step") <= STEPS_AT_START
    return since_start and run.has_learned(lines[-1], patience=2) and loss > STUCK * start


def _skipping(lines: Sequence[Line], run: _Run) -> bool:
    return _number(lines[-1], "skipped_steps") > SKIPPED * _number(lines[-1], "step")


def _number(line: Line, name: str) -> float:
    """A metric of a line, or NaN where it is no number. NaN breaks no rule."""
    return _number_or_nan(line.get(name))


def _number_or_nan(value: object) -> float:
    return value if is_number(value) else math.nan


COLLAPSES = (
    _Rule(
        kind="few",
        broken=_few,
        words=_few_words,
        advice="Try a higher model.teacher_temperature, a lower model.center_momentum or a lower learning rate.",
    ),
    _Rule(
        kind="undecided",
        broken=_undecided,
        words=lambda line, run: (
            f"Pixels are spread evenly over all {run.num_prototypes:,} prototypes "
            f"({100 * line['entropy_per_pixel']:.0f} % of the largest entropy)"
        ),
        advice="Try a lower model.teacher_temperature, or a larger batch.",
    ),
    _Rule(
        kind="alike",
        broken=_alike,
        words=lambda line, run: (
            f"All pixels have nearly the same features (mean cosine {line['feature_similarity']:.2f})"
        ),
        advice="Try a lower learning rate, a larger batch or a lower model.grouping_weight.",
    ),
    _Rule(
        kind="stuck",
        broken=_stuck,
        words=lambda line, run: (
            f"The grouping loss is {line['grouping_loss']:.3g}, no better than {run.first['grouping_loss']:.3g} "
            "at the start,"
        ),
        advice="Try another learning rate, or a larger batch.",
    ),
)
"""Signs of a collapse, the gravest first."""
SKIPS = _Rule(
    kind="skipped",
    broken=_skipping,
    words=lambda line, run: (
        f"{line['skipped_steps']:,} of {line['step']:,} steps were skipped, their loss was no number,"
    ),
    advice="Try --precision fp32, or a lower learning rate.",
)
CAUSES: tuple[tuple[Callable[[_Run], bool], str], ...] = (
    (
        lambda run: run.number("model.teacher_temperature") >= run.number("model.student_temperature"),
        "The teacher's temperature, {run.config[model][teacher_temperature]}, must be below the student's, "
        "{run.config[model][student_temperature]}, so that it knows better: change model.teacher_temperature.",
    ),
    (
        lambda run: run.number("model.center_momentum") > 0.999,
        "With model.center_momentum {run.config[model][center_momentum]} the centre stays where it is: try 0.9.",
    ),
    (
        lambda run: run.number("batch_size") < 8,
        "A batch of {run.config[batch_size]} photos is too small to tell concepts apart: try --batch-size 16 or more.",
    ),
    (
        lambda run: run.setting("optimizer.name") == "adamw" and run.number("optimizer.learning_rate") > 0.02,
        "The learning rate, {run.config[optimizer][learning_rate]}, is high for AdamW: try 0.001.",
    ),
)
"""Settings that are known to lead to a collapse, and the advice on each."""
