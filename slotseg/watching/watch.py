"""What people see of a run while it goes on: findings in the log, preview sheets, TensorBoard."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from slotseg import distributed
from slotseg.config import TrainConfig
from slotseg.data.views.sources import Source
from slotseg.method.model import Encoder
from slotseg.runs.folder import RunFolder
from slotseg.values import to_dict
from slotseg.watching.diagnosis import diagnose
from slotseg.watching.preview import Previews
from slotseg.watching.tensorboard import Board

log = logging.getLogger(__name__)


class Watch:
    """Shows a run; of several processes, the first does. Nothing here changes what is learned.

    Args:
        run: Where sheets and event files go.
        config: Of the run.
        source: Its photos.
        device: The one that trains.
        step: Steps done; sheets of later ones are removed.
        total_steps: Of the whole run.
        lines: Of ``metrics.jsonl`` so far; what they say was said before.

    Raises:
        ConfigError: If TensorBoard is asked for and not installed, or its files cannot be written.
    """

    def __init__(
        self,
        run: RunFolder,
        config: TrainConfig,
        source: Source,
        device: torch.device,
        *,
        step: int,
        total_steps: int,
        lines: Sequence[dict[str, Any]],
    ) -> None:
        self.settings, self.total_steps, self.number = to_dict(config), total_steps, config.previews
        shown = distributed.rank() == 0
        self.board = Board(run.tensorboard, step) if config.tensorboard and shown else None
        self.previews = Previews(source, config, run, device) if config.previews and shown else None
        if self.previews:
            self.previews.drop_after(step)
        self.said = {finding.kind for finding in diagnose(lines, self.settings)}

    def add_metrics(self, lines: Sequence[dict[str, Any]]) -> None:
        """Show the last of the lines so far, and say what the monitor newly finds in them."""
        if self.board:
            self.board.add(lines[-1])
        findings = diagnose(lines, self.settings)
        for finding in findings:
            if finding.kind not in self.said and distributed.rank() == 0:
                log.warning("%s %s", finding.what, finding.advice)
        self.said = {finding.kind for finding in findings}

    def after_step(self, step: int, teacher: Encoder) -> None:
        """Paint a sheet if one is due."""
        if self.previews and is_due(step, self.total_steps, self.number):
            sheet = self.previews.write(teacher, step)
            if self.board and sheet:
                self.board.add_picture(sheet, step)


def is_due(step: int, total: int, number: int) -> bool:
    """Whether a step, 1-based, is one of ``number`` evenly spread over ``total``, of which one is the last."""
    return step * number // total > (step - 1) * number // total
