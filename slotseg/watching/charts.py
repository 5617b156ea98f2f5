"""The metrics of a run that are drawn, in one list for the page and for TensorBoard.

Metrics of ``metrics.jsonl`` that are not named here are not drawn.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Metrics of one unit, drawn together."""

    title: str
    """Title that people read."""
    group: str
    """First part of the TensorBoard tags."""
    keys: dict[str, str]
    """Keys of ``metrics.jsonl``, and the name of each within the chart."""
    note: str = ""
    """Explanation for the reader."""
    low: float | None = None
    """Lowest value of the axis. None takes that of the metrics."""
    high: float | None = None
    """Highest value of the axis. None takes that of the metrics."""
    percent: bool = False
    """Whether 0..1 is shown as 0 to 100 %."""
    quiet: bool = False
    """Whether the chart is left out while all its metrics are 0."""

    def tags(self) -> dict[str, str]:
        """TensorBoard tag of each key, such as ``loss/total``."""
        return {key: f"{self.group}/{name.replace(' ', '_')}" for key, name in self.keys.items()}


CHARTS = (
    Chart(
        title="Loss",
        group="loss",
        keys={"loss": "total", "grouping_loss": "grouping", "slot_loss": "slot"},
        note="The total is twice the weighted mean of the two parts.",
    ),
    Chart(
        title="Prototypes in use",
        group="prototypes",
        keys={"active_prototypes": "active", "common_prototypes": "common"},
        note="Active: win at least one cell of the batch. Common: so few win 90 % of its cells.",
        low=0,
    ),
    Chart(
        title="Largest share",
        group="prototypes",
        keys={"largest_share": "largest share"},
        note="Of the batch's cells, won by the most frequent prototype.",
        low=0,
        high=1,
        percent=True,
    ),
    Chart(
        title="Entropy",
        group="prototypes",
        keys={"entropy_overall": "entropy overall", "entropy_per_pixel": "entropy per pixel"},
        note="In units of log P, P being the number of trained prototypes. "
        "Overall: 0 is one prototype for everything. Per pixel: 1 is undecided.",
        low=0,
        high=1,
    ),
    Chart(
        title="Agreement",
        group="views",
        keys={"agreement": "agreement"},
        note="Where the views overlap: how often student and teacher choose the same prototype.",
        low=0,
        high=1,
        percent=True,
    ),
    Chart(
        title="Likeness of features",
        group="features",
        keys={"feature_similarity": "mean cosine"},
        note="Of two of the batch's features. At 1 all are the same.",
        low=0,
        high=1,
    ),
    Chart(
        title="Decoder's loss",
        group="decoder",
        keys={"decoder_loss": "decoder's loss"},
        note="Cross-entropy with the refined assignments of its round. It falls with each round as they get surer.",
    ),
    Chart(
        title="Decoder's agreement",
        group="decoder",
        keys={"decoder_agreement": "decoder's agreement", "untrained_agreement": "without the decoder"},
        note="On held-out photos: how often decoder and refined assignment choose the same prototype.",
        high=1,
        percent=True,
    ),
    Chart(
        title="Learning rate",
        group="schedule",
        keys={"learning_rate": "learning rate"},
        note="Of the heads.",
        low=0,
    ),
    Chart(
        title="Teacher momentum",
        group="schedule",
        keys={"teacher_momentum": "teacher momentum"},
        note="What is left of the teacher in a step; the rest is the student.",
    ),
    Chart(
        title="Photos per second",
        group="speed",
        keys={"photos_per_second": "photos per second"},
        note="Mean since the run was last started.",
        low=0,
    ),
    Chart(
        title="Skipped steps",
        group="steps",
        keys={"skipped_steps": "skipped"},
        note="Steps so far whose loss or gradient was no number.",
        low=0,
        quiet=True,
    ),
)
