"""``slotseg import``."""

from pathlib import Path

import click

from slotseg.cli import options


@click.command("import")
@click.argument("file", type=options.PATH)
@click.option(
    "-o", "--out", type=options.PATH, metavar="DIR", help="Folder of the new run.  [default: runs/official-N]"
)
def command(file: Path, out: Path | None) -> None:
    """Turn FILE, a full checkpoint of SlotCon's published code, into a run.

    Nothing in FILE is run: it is read only if it holds tensors and plain options. A file with a backbone alone
    needs no import: give it to `slotseg train --init`.

    \b
    slotseg import slotcon.pth
    slotseg segment photo.jpg -o mask.png --checkpoint runs/official-1
    slotseg train PHOTOS --resume runs/official-1
    """  # noqa: D301
    from slotseg.exchange.importing import import_run

    click.echo(str(import_run(file, out).path))
