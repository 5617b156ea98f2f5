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
    """Shows a run while it trains. Nothing here changes what is learned.

    If several processes train, only the first one shows anything.

    Args:
        run: Folder of the run, where sheets and event files go.
        config: Configuration of the run.
        source: Photos of the run.
        device: Device that trains.
        step: Steps done. Sheets of later steps are removed.
        total_steps: Steps of the whole run.
        lines: Lines of ``metrics.jsonl`` so far. Their findings are not logged again.

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
        """Show the last of the lines so far, and log the findings that are new with it."""
        if self.board:
            self.board.add(lines[-1])
        findings = diagnose(lines, self.settings)
        for finding in findings:
            if finding.kind not in self.said and distributed.rank() == 0:
                log.warning("%s %s", finding.what, finding.advice)
        self.said = {finding.kind for finding in findings}

    def after_step(self, step: int, teacher: Encoder) -> None:
        """Paint a preview sheet if one is due."""
        if self.previews and is_due(step, self.total_steps, self.number):
            sheet = self.previews.write(teacher, step)
            if self.board and sheet:
                self.board.add_picture(sheet, step)


def is_due(step: int, total: int, number: int) -> bool:
    """Whether a preview sheet is due after a step.

    The sheets are spread evenly over the run. The last one is due after the last step.

    Args:
        step: Step, 1-based.
        total: Steps of the whole run.
        number: Sheets of the whole run.
    """
    return step * number // total > (step - 1) * number // total
