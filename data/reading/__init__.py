"""A file becomes pixels: photos and labels, whole or in rows."""
