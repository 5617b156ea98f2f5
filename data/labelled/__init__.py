"""Labelled photos for scoring, label sets, and the places on disk of the sets of the field.

The room is large because labels come in many forms.
"""
