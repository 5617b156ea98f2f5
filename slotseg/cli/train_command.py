"""``slotseg train``."""

from pathlib import Path
from typing import Any

import click

from slotseg import amounts
from slotseg.cli import options
from slotseg.data.views.unlabelled import Photos
from slotseg.errors import ConfigError

SETTINGS = {
    "backbone": "backbone.name",
    "stride": "backbone.stride",
    "init": "backbone.init",
    "bands": "reading.bands",
    "value_range": "reading.range",
    "num_prototypes": "model.num_prototypes",
    "image_size": "views.image_size",
    "batch_size": "batch_size",
    "epochs": "epochs",
    "steps": "steps",
    "learning_rate": "optimizer.learning_rate",
    "precision": "precision",
    "seed": "seed",
}


@click.command("train")
@click.argument("photos", nargs=-1, type=options.PATH)
@options.dataset
@options.data_dir
@click.option("--preset", metavar="NAME", help="photos, tiny, coco-r50, cocoplus-r50, imagenet-r50 or cocostuff27-r50.")
@options.init
@options.backbone
@click.option("--stride", type=int, help="Pixels per cell of the dense map.")
@options.num_prototypes
@click.option("--image-size", type=int, help="Side of a training crop in pixels.")
@click.option("--batch-size", type=int, help="Photos per step.")
@options.epochs
@options.steps
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@options.precision
@options.bands
@options.value_range
@options.extra
@options.seed
@options.device
@options.workers
@click.option("-o", "--out", type=options.PATH, metavar="DIR", help="Folder of the new run.  [default: runs/PRESET-N]")
@click.option("--resume", type=options.PATH, metavar="RUN", help="Continue this run, also longer or slower.")
def command(
    photos: tuple[Path, ...],
    dataset: str | None,
    data_dir: Path | None,
    preset: str | None,
    extra: tuple[str, ...],
    device: str,
    workers: int | None,
    out: Path | None,
    resume: Path | None,
    **values: Any,
) -> None:
    """Find concepts in PHOTOS: files or folders, searched recursively; no labels needed.

    Without PHOTOS it trains on the built-in scenes.

    \b
    slotseg train my-photos --init weights.safetensors
    slotseg train --resume runs/photos-1
    slotseg train --resume runs/photos-1 --steps 2000 --learning-rate 0.001
    slotseg train --dataset coco --data-dir coco
    torchrun --nproc-per-node 8 cli.py train --dataset coco --data-dir coco
    """  # noqa: D301
    settings = {SETTINGS[name]: value for name, value in values.items() if value is not None}
    settings.update(options.settings(extra))
    chosen = Photos(photos, dataset, data_dir)
    if resume and out and out.resolve() != resume.resolve():
        raise ConfigError(f"--resume {resume} goes on in its own folder and --out is {out}; expected no --out")
    from slotseg import distributed
    from slotseg.training.launch import new_training, resumed_training

    with distributed.joined():
        if resume:
            trainer = resumed_training(resume, chosen, settings, preset=preset, device=device, workers=workers)
        else:
            trainer = new_training(chosen, settings, preset=preset, out=out, device=device, workers=workers)
        trainer.train()
        if distributed.rank() > 0:
            return
    click.echo(str(trainer.run.path))
    unreadable = trainer.journal.unreadable
    if unreadable:
        click.echo(f"{amounts.count(len(unreadable), 'photo')} could not be read: see {trainer.run.failures}", err=True)
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)
