"""The reading of files into pixels: photos and label maps, whole or in rows; and where a photo lies on a map.

The room is large because photos come in many forms.
"""
