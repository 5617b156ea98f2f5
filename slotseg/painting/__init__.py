"""From maps to files: masks, overlays, legends, and files that annotation tools read."""
