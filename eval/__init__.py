"""Everything that scores. Installed as ``slotseg.eval``.

The room is large because its files are read one after the other: each is one step on the way from a labelled set to a
page of scores.
"""
