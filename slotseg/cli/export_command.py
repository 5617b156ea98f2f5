"""``slotseg export``."""

from pathlib import Path

import click

from slotseg.cli import options

FORMATS = ("timm", "torchvision", "detectron2", "mmseg", "onnx")


@click.command("export")
@click.argument("form", metavar="|".join(FORMATS), type=click.Choice(FORMATS))
@click.option(
    "-o", "--output", type=options.PATH, metavar="FILE", help="The file.  [default: named after run and format, here]"
)
@options.checkpoint
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def command(form: str, output: Path | None, checkpoint: Path | None, overwrite: bool) -> None:
    """Write the backbone a run has trained, for another library to load, or its whole network as ONNX.

    timm takes any backbone; torchvision, detectron2 and mmseg take ResNets; onnx writes all that turns a photo into
    its class map. How to load the file is said on the log, and in docs/exports.md.

    \b
    slotseg export timm
    slotseg export onnx --checkpoint runs/photos-1 -o photos-1.onnx
    slotseg export detectron2 --checkpoint runs/photos-1 -o photos-1.pkl
    """  # noqa: D301
    if form == "onnx":
        click.echo(str(_export_onnx(output, checkpoint, overwrite=overwrite)))
        return
    from slotseg.exchange.exports import default_output, export
    from slotseg.exchange.twins import read_backbone

    backbone = read_backbone(checkpoint)
    click.echo(f"Exporting the backbone of {backbone.source}", err=True)
    file = output or default_output(backbone.source, form)
    export(backbone, form, file, overwrite=overwrite)
    click.echo(str(file))


def _export_onnx(output: Path | None, checkpoint: Path | None, *, overwrite: bool) -> Path:
    from slotseg.exchange.onnx_export import SUFFIX, export_onnx
    from slotseg.runs.folder import find_checkpoint, name_of
    from slotseg.segmenting.segmenter import Segmenter

    source = find_checkpoint(checkpoint)
    click.echo(f"Exporting {source}", err=True)
    file = output or Path(name_of(source) + SUFFIX)
    export_onnx(Segmenter.load(source, device="cpu"), file, overwrite=overwrite)
    return file
