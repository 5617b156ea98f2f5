"""``slotseg report``."""

from pathlib import Path

import click

from slotseg.cli import options


@click.command("report")
@click.argument("run", required=False, type=options.PATH)
@click.option("-o", "--output", type=options.PATH, metavar="FILE", help="The page.  [default: RUN/report.html]")
@click.option("--overwrite", is_flag=True, help="Replace a file that is no page of a run, too.")
def command(run: Path | None, output: Path | None, overwrite: bool) -> None:
    """Write a page about RUN, by default the newest: progress, curves, previews, settings, failures.

    It is one HTML file that loads nothing, and can be written while the run is going on.

    \b
    slotseg report
    slotseg report runs/photos-1 -o photos-1.html
    """  # noqa: D301
    from slotseg.runs.folder import newest_run
    from slotseg.runs.record import read_run
    from slotseg.watching.diagnosis import diagnose
    from slotseg.watching.run_page import write_run_page

    folder = run or newest_run(going_on=True).path
    file = output or folder / "report.html"
    record = read_run(folder)
    if record.step == 0:
        click.echo(f"{folder} has not learned anything: it is at step 0", err=True)
    if record.unread:
        click.echo(record.unread, err=True)
    write_run_page(file, record, diagnose(record.lines, record.config), overwrite=overwrite)
    click.echo(str(file))
