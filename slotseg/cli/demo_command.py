"""``slotseg demo``."""

from pathlib import Path

import click

from slotseg.cli import options


@click.command("demo")
@click.option("-o", "--output", type=options.PATH, default="demo", show_default=True, help="Folder for everything.")
@options.seed
@options.overwrite
@options.device
def command(output: Path, seed: int | None, overwrite: bool, device: str) -> None:
    """Train on the built-in scenes, score on others, and paint them; some minutes on two cores.

    Writes a run, a table with both scores, masks and an overlay sheet below the output folder.
    """
    from slotseg.eval.demo import run_demo

    click.echo(run_demo(output, seed=seed or 0, overwrite=overwrite, device=device))
