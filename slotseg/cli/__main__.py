"""``python -m slotseg.cli`` is ``slotseg``."""

from slotseg.cli import main

main(prog_name="slotseg")
