"""Words and folders become files: the photos that a path, a pattern or a list stands for."""
