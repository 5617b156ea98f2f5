"""``slotseg discover``."""

import shlex
from pathlib import Path
from typing import Any

import click

from slotseg import amounts
from slotseg.cli import options
from slotseg.cli.train_command import SETTINGS
from slotseg.training.signals import no_interrupt_lost

EPILOG = """\b
Everything goes to OUT: index.html, a report; concepts/, a page to name concepts on; masks/ with
overlay/; run/, as of slotseg train. A names.json saved to OUT is painted with at the next call.
Exit code 3: done, but some photos could not be read."""


class _RecordingCommand(click.Command):
    """A command that keeps what the user typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the arguments, then parse them as usual."""
        ctx.meta["typed"] = shlex.join(["slotseg", "discover", *args])
        return super().parse_args(ctx, args)


@click.command("discover", cls=_RecordingCommand, epilog=EPILOG)
@click.argument("photos", nargs=-1, required=True, type=options.PATH)
@click.option("-o", "--output", required=True, type=options.PATH, metavar="OUT", help="Folder for everything.")
@click.option("--names", type=options.PATH, metavar="FILE", help="Names to paint with.  [default: OUT/names.json]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["geotiff"]),
    help="Also write masks as GeoTIFF, with the georeference of their photo.",
)
@options.init
@options.backbone
@options.num_prototypes
@options.epochs
@options.steps
@options.bands
@options.value_range
@options.extra
@options.seed
@options.device
@options.workers
def command(
    photos: tuple[Path, ...],
    output: Path,
    names: Path | None,
    form: str | None,
    extra: tuple[str, ...],
    device: str,
    workers: int | None,
    **values: Any,
) -> None:
    """From PHOTOS, files or folders, to concepts, masks and a report; no labels needed.

    It says what it will cost before it starts. After Ctrl-C, the same command goes on where it stopped.

    \b
    slotseg discover my-photos -o found
    slotseg discover my-photos -o found --init weights.safetensors -k 20
    """  # noqa: D301
    context = click.get_current_context()
    settings = {SETTINGS[name]: value for name, value in values.items() if value is not None}
    settings.update(options.settings(extra))
    from slotseg.discovery.discover import discover

    try:
        with no_interrupt_lost():
            found = discover(
                photos,
                output,
                settings,
                names=names,
                geotiff=form is not None,
                command=context.meta["typed"],
                device=device,
                workers=workers,
            )
    except KeyboardInterrupt:
        begun = (output / "discover.json").is_file()
        click.echo("The same command goes on from here." if begun else "Nothing was begun.", err=True)
        raise
    done = "" if found.anything_done else "There was nothing left to do: "
    failed = f"; {amounts.count(found.num_failures, 'photo')} failed: see the report" if found.num_failures else ""
    click.echo(
        f"{done}{amounts.count(found.num_concepts, 'concept')} in {amounts.count(found.num_photos, 'photo')}: "
        f"open {found.report}{failed}"
    )
    if found.num_failures:
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)
