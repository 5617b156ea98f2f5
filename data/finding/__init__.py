"""The search for photos: the files that a path, a pattern or a list stands for."""
