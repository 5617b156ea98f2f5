"""Everything that reads images and labels; installed as ``slotseg.data``."""
