"""Making a run: from a user's words to a trainer, its steps, and what they would cost here."""
