"""From pixels to maps: scores of a photo, made finer and upsampled to the prototype of each pixel.

The room is large because photos of any size, several looks and three ways to follow edges meet here.
"""
