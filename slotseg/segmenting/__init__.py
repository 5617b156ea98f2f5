"""From pixels to maps: scores of a photo, made finer and upsampled to the prototype of each pixel."""
