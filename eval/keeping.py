"""What a run keeps of its scores: the match, with which it paints class names, and the figures, for its pages."""

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
    """Write a result's match into the ``labels.json`` of the run that was scored, and under its data set's name.

    A match from a limited look is not written, nor what a person named, and names that are there are never replaced.

    Args:
        result: The scores of the run.
        checkpoint: As it was given to ``run_predictor``.
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
    """Keep a result's scores in the run that was scored, for what shows the run; those of a limited look are not.

    Args:
        result: The scores of the run.
        checkpoint: As it was given to ``run_predictor``.
    """
    run = run_of(find_checkpoint(checkpoint))
    if run is None or result.protocol.limit is not None or distributed.rank() > 0:
        return
    values = result.to_dict()
    try:
        write_result(run, {key: values[key] for key in ("miou", "pixel_accuracy", "ceiling", "protocol")})
    except OSError as error:
        log.warning("The scores are not kept in %s: it cannot be written (%s).", run.path, error.strerror)
