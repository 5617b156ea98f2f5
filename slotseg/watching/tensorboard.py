"""A run's metrics and preview sheets for TensorBoard, which is an extra.

The records are TensorBoard's own. They are appended to the event file one by one, so a killed run loses none. The
thread that trains appends them itself, so it notices a full disk.
"""

import io
import logging
import math
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from slotseg.errors import ConfigError
from slotseg.files import append, writing
from slotseg.watching.charts import CHARTS

log = logging.getLogger(__name__)

TAGS = {key: tag for chart in CHARTS for key, tag in chart.tags().items()}
"""Tag of each key of ``metrics.jsonl`` that is shown, such as ``loss/total``."""


class Board:
    """One event file, for ``tensorboard --logdir``.

    What a full disk has no room for is left out. This is logged once.

    Args:
        folder: Folder for the file, ``tensorboard/`` in a run's folder.
        step: Steps done. TensorBoard will pass over what older event files there say of later steps.

    Raises:
        ConfigError: If TensorBoard is not installed, or the file cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise ConfigError(
                "tensorboard is true and TensorBoard is not installed; expected it: "
                "pip install 'slotseg[tensorboard]', or leave the setting out"
            ) from error
        self._events: Any = event_pb2
        self._summaries: Any = summary_pb2
        self._record: Any = RecordWriter
        self._complained = False
        self.path = folder / f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}"
        start = self._bytes(file_version="brain.Event:2")
        if step:
            session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            start += self._bytes(step=step + 1, session_log=session)
        with writing(folder, "make room on its disk", ConfigError):
            folder.mkdir(parents=True, exist_ok=True)
            append(self.path, start)

    def add(self, line: Mapping[str, Any]) -> None:
        """Add the metrics of a line of ``metrics.jsonl``, except those that are no numbers."""
        metrics = {tag: line[key] for key, tag in TAGS.items() if key in line and math.isfinite(line[key])}
        self._add(line["step"], [self._summaries.Summary.Value(tag=t, simple_value=v) for t, v in metrics.items()])

    def add_picture(self, path: Path, step: int) -> None:
        """Add a preview sheet, a JPEG or PNG, as it is."""
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
        picture = self._summaries.Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)
        self._add(step, [self._summaries.Summary.Value(tag="preview", image=picture)])

    def _add(self, step: int, values: list[Any]) -> None:
        try:
            append(self.path, self._bytes(step=step, summary=self._summaries.Summary(value=values)))
        except OSError as error:
            if not self._complained:
                log.warning("%s cannot be written (%s); TensorBoard will miss what comes", self.path, error.strerror)
            self._complained = True

    def _bytes(self, **values: Any) -> bytes:
        record = io.BytesIO()
        self._record(record).write(self._events.Event(wall_time=time.time(), **values).SerializeToString())
        return record.getvalue()
