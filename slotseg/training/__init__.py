"""Making a run: from a user's words to a trainer, its steps, and their cost on this machine.

The room is large because a run and what a person asks of it beforehand share the learner, and no other room knows it.
"""
