"""Making a run: from a user's words to a trainer, its steps, and their cost on this machine.

The room is large because a run is made here whole: two stages, their files, their interruption and their estimate.
"""
