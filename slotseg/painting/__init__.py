"""From maps to files: masks, overlays, legends, and files that annotation tools read.

The room is large because each annotation format is a file here, and painting alone writes them.
"""
