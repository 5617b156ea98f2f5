"""A run's folder: its files, its checkpoints and its record, written and read."""
