"""Everything that scores; installed as ``slotseg.eval``."""
