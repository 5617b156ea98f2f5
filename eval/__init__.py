"""Everything that scores. Installed as ``slotseg.eval``.

This room has no subfolders, though it holds about 2,000 lines: every file is one step on the way from a labelled set
to a page of scores, each has fewer than 240 lines, and they are read one after the other.
"""
