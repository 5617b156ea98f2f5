"""Launch the command line from a checkout: ``python cli.py train …`` or ``torchrun cli.py train …``."""

from slotseg.cli import main

if __name__ == "__main__":
    main()
