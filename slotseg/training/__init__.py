"""Making a run: from a user's words to a trainer, its steps, and their cost on this machine."""
