"""``slotseg export``."""

from pathlib import Path

import click

from slotseg.cli import options

FORMATS = ("timm", "torchvision", "detectron2", "mmseg")


@click.command("export")
@click.argument("form", metavar="|".join(FORMATS), type=click.Choice(FORMATS))
@click.option(
    "-o", "--output", type=options.PATH, metavar="FILE", help="The file.  [default: RUN-FORMAT and a suffix, here]"
)
@options.checkpoint
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def command(form: str, output: Path | None, checkpoint: Path | None, overwrite: bool) -> None:
    """Write the backbone a run has trained, for another library to load.

    timm takes any backbone; torchvision, detectron2 and mmseg take ResNets. How to load the file is said on
    the log, and in docs/exports.md.

    \b
    slotseg export timm
    slotseg export detectron2 --checkpoint runs/photos-1 -o photos-1.pkl
    """  # noqa: D301
    from slotseg.exports import default_output, export
    from slotseg.twins import read_backbone

    backbone = read_backbone(checkpoint)
    click.echo(f"Exporting the backbone of {backbone.source}", err=True)
    file = output or default_output(backbone.source, form)
    export(backbone, form, file, overwrite=overwrite)
    click.echo(str(file))
