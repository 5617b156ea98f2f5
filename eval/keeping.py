"""Parts of a result that the scored run keeps: the match, to paint class names, and the metrics, for its pages."""

import logging
from pathlib import Path

from slotseg import distributed
from slotseg.eval.evaluate import label_map
from slotseg.eval.result import Result
from slotseg.files import write_json
from slotseg.labels.label_map import NAMED, read_labels
from slotseg.runs.folder import find_checkpoint, run_of
from slotseg.runs.results import write_result

log = logging.getLogger(__name__)


def keep_match(result: Result, checkpoint: Path | None) -> None:
    """Write the match of a result into the scored run: to ``labels.json`` and to the file of its data set.

    Neither a match from a limited number of images nor a person's naming is written. Names that a person gave are
    never replaced.

    Args:
        result: Result of the run.
        checkpoint: Run folder or checkpoint, as given to ``run_predictor``.
    """
    file = find_checkpoint(checkpoint)
    run = run_of(file)
    if result.protocol.limit is not None or result.protocol.matching == NAMED or distributed.rank() > 0:
        return
    if run is None:
        log.info("%s lies in no run, so the match is not kept.", file)
    elif run.labels.is_file() and read_labels(run.labels).origin == NAMED:
        log.info("%s holds names given by a person and is left as it is.", run.labels)
    else:
        write_json(run.labels_of(result.protocol.dataset), label_map(result).to_dict())
        write_json(run.labels, label_map(result).to_dict())
        log.info("The match is in %s; `slotseg segment` now paints class names.", run.labels)


def keep_result(result: Result, checkpoint: Path | None) -> None:
    """Keep the metrics of a result in the scored run, for its pages.

    Metrics from a limited number of images are not kept.

    Args:
        result: Result of the run.
        checkpoint: Run folder or checkpoint, as given to ``run_predictor``.
    """
    run = run_of(find_checkpoint(checkpoint))
    if run is None or result.protocol.limit is not None or distributed.rank() > 0:
        return
    values = result.to_dict()
    try:
        write_result(run, {key: values[key] for key in ("miou", "pixel_accuracy", "ceiling", "protocol")})
    except OSError as error:
        log.warning("The scores are not kept in %s: it cannot be written (%s).", run.path, error.strerror)
