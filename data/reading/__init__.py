"""The reading of files into pixels: photos and label maps, whole or in rows."""
