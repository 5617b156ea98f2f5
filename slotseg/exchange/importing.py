"""Import of a checkpoint of the published code as a run of ours, whole or not at all."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slotseg.errors import CheckpointError, ConfigError
from slotseg.exchange.official import converted
from slotseg.exchange.official_settings import NAME
from slotseg.exchange.unpickling import load_plain
from slotseg.files import write_json, writing
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder, new_run

log = logging.getLogger(__name__)


def import_run(file: Path, out: Path | None = None) -> RunFolder:
    """Write a run that continues where a full checkpoint of the published code ends.

    Args:
        file: Checkpoint of the published code.
        out: Folder of the run, by default the next free ``runs/official-<n>``.

    Returns:
        The run, with ``config.json`` and its last checkpoint.

    Raises:
        CheckpointError: If the file cannot be read or is no full checkpoint, or the run cannot be written.
        ConfigError: If the folder is not empty or cannot be written.
    """
    if not file.is_file():
        raise CheckpointError(f"{file} is not a file; expected a full checkpoint of the published code")
    new_run(out, NAME)  # before minutes may be spent on reading
    try:
        content = converted(load_plain(file))
    except CheckpointError as error:
        said = str(error)
        raise error if said.startswith(str(file)) else CheckpointError(f"{file} cannot be imported: {said}") from error
    run = new_run(out, NAME)
    notes = {name: content.info[name] for name in checkpoint.NOTES if name in content.info}
    with writing(run.path, "choose another --out", ConfigError), _whole_or_nothing(run):
        write_json(run.config, {"config": content.info["config"], **notes})
        checkpoint.save(run.last, content.tensors, content.info, readable=True)
    _describe(run, content.info)
    return run


@contextmanager
def _whole_or_nothing(run: RunFolder) -> Iterator[None]:
    """After an error or an interruption, restore what was there before."""
    missing = [p for p in (run.path, *run.path.parents) if not p.exists()]
    try:
        yield
    except BaseException:
        shutil.rmtree(run.last.parent, ignore_errors=True)
        run.config.unlink(missing_ok=True)
        for folder in missing:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


def _describe(run: RunFolder, info: dict[str, Any]) -> None:
    """Log what was read, and what can be done with it."""
    config = info["config"]
    log.info("%s: %s, %d prototypes", run.path, config["backbone"]["name"], config["model"]["num_prototypes"])
    log.info("  step %d of %d, %d steps an epoch", info["step"], info["total_steps"], info["steps_per_epoch"])
    photos = info["steps_per_epoch"] * config["batch_size"]
    log.info("  paint photos:    slotseg segment photo.jpg -o mask.png --checkpoint %s", run.path)
    if info["step"] < info["total_steps"]:
        log.info("  go on training:  slotseg train PHOTOS --resume %s  (the %s or a few more)", run.path, f"{photos:,}")
