"""``slotseg eval``."""

from pathlib import Path

import click

from slotseg.cli import options
from slotseg.errors import ConfigError


@click.command("eval")
@click.option("--dataset", required=True, type=click.Choice(["scenes", "folder"]), help="What to score on.")
@click.option("--images", type=options.PATH, metavar="DIR", help="folder: the photos.")
@click.option("--labels", type=options.PATH, metavar="DIR", help="folder: their label maps, with classes.json.")
@options.checkpoint
@click.option("--baseline", type=click.Choice(["colour", "features"]), help="Score k-means instead of a run.")
@click.option("-k", "--num-prototypes", type=click.IntRange(min=2), help="Baseline: clusters.  [default: the classes]")
@click.option("--init", metavar="WEIGHTS", help="features: weights to take.  [default: those the run began with]")
@click.option("--backbone", metavar="NAME", help="features: timm model of --init.  [default: as the weights say]")
@click.option("--stride", type=int, help="features: pixels per cell.  [default: the run's]")
@click.option("--matching", type=click.Choice(["hungarian", "majority"]), default="hungarian", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Score the first so many images only, for a look.")
@options.size
@options.seed
@click.option("--json", "json_file", type=options.PATH, metavar="FILE", help="Write the result as JSON.")
@options.device
def command(
    dataset: str,
    images: Path | None,
    labels: Path | None,
    checkpoint: Path | None,
    baseline: str | None,
    num_prototypes: int | None,
    init: str | None,
    backbone: str | None,
    stride: int | None,
    matching: str,
    limit: int | None,
    size: int | None,
    seed: int | None,
    json_file: Path | None,
    device: str,
) -> None:
    r"""Score a run against labels: one table over all images, one matching of prototypes to classes.

    The matching is written into the run, and `slotseg segment` then paints class names.

    \b
    slotseg eval --dataset folder --images photos --labels labels
    slotseg eval --dataset folder --images photos --labels labels --baseline colour
    """
    if (dataset == "folder") != (images is not None) or (dataset == "folder") != (labels is not None):
        raise ConfigError("--images and --labels belong to --dataset folder; expected both with it, none with scenes")
    if num_prototypes and not baseline:
        raise ConfigError("--num-prototypes is for a baseline; a run has the number it was trained with")
    if (init or backbone or stride) and baseline != "features":
        raise ConfigError("--init, --backbone and --stride are for --baseline features; a run has its own backbone")
    from slotseg.data.labelled import LabelledFolder, LabelledScenes
    from slotseg.eval.report import result_table
    from slotseg.eval.scoring import score_baseline, score_run
    from slotseg.files import write_json

    data = LabelledFolder(images, labels) if images and labels else LabelledScenes()
    if baseline:
        result = score_baseline(
            baseline,
            data,
            num_clusters=num_prototypes,
            checkpoint=checkpoint,
            init=init,
            backbone=backbone,
            stride=stride,
            size=size,
            seed=seed or 0,
            matching=matching,
            limit=limit,
            device=device,
        )
    else:
        result = score_run(data, checkpoint=checkpoint, size=size, matching=matching, limit=limit, device=device)
    click.echo(result_table({result.protocol.predictor.split(",")[0]: result}))
    if json_file:
        write_json(json_file, result.to_dict())
    if result.skipped:
        click.echo(f"{len(result.skipped)} photos were unreadable and are not in the score.", err=True)
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)
