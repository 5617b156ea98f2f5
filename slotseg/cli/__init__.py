"""The command line. Commands only translate options into one library call and print its result.

torch is imported inside the commands, so that ``--help`` answers at once.
"""

import atexit
import gc
import importlib
import logging
import os
import sys
from typing import Any

import click

import slotseg
from slotseg.errors import SlotSegError
from slotseg.training.signals import no_interrupt_lost

COMMANDS = {
    "discover": "From a folder of photos to concepts, masks and a report, in one go.",
    "train": "Find concepts in a folder of photos.",
    "segment": "Paint photos with what a run has found.",
    "concepts": "Show what a run has found, on a page to name it on.",
    "eval": "Score a run, or a baseline, against labels.",
    "report": "Write a page about a run: progress, curves, previews, settings.",
    "import": "Turn a checkpoint of SlotCon's published code into a run.",
    "export": "Write a run's backbone for timm, torchvision, detectron2 or mmsegmentation, or all of it as ONNX.",
    "doctor": "Check the machine, photos and a run, and try what training costs.",
    "demo": "Train, score and segment built-in scenes, in minutes.",
}


class SlotSegGroup(click.Group):
    """Loads a command's module when it is used, and turns errors into a sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module, ``slotseg.cli.<name>_command``."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"slotseg.cli.{cmd_name}_command").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. The exit code is 1 for an error of ours, with one sentence, and 130 for Ctrl-C."""
        try:
            with no_interrupt_lost():
                return super().invoke(ctx)
        except SlotSegError as error:
            raise click.ClickException(str(error)) from error
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted.", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            ctx.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=SlotSegGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(slotseg.__version__, prog_name="slotseg")
def main() -> None:
    """Find the concepts in a pile of unlabelled photos and paint them into masks."""
    atexit.register(gc.freeze)  # the search of all torch for cycles at exit took a fifth of a short command
    _log_to_stderr()


def _log_to_stderr() -> None:
    package = logging.getLogger("slotseg")
    # of torchrun's processes, the first one alone says how it goes
    package.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    package.propagate = False
    package.handlers = [handler := logging.StreamHandler(sys.stderr)]
    handler.setFormatter(logging.Formatter("%(message)s"))
