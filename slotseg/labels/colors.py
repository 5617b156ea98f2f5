"""Colours of words, each computed from nothing but its letters."""

import math

from slotseg.labels.label_map import Color

SALT = 1_623_283
"""Start of the hash, chosen so that the names of common label sets lie apart."""
LIGHTNESS = (0.48, 0.6, 0.72, 0.84)
"""Lightnesses of the colours, in OKLCH."""
CHROMA = (0.06, 0.14)
"""Chromas of the colours, in OKLCH; their hues are whole degrees."""


def hashed_color(word: str) -> Color:
    """The colour of a word: hue, lightness and chroma by its 32-bit FNV-1a hash."""
    number = 2_166_136_261 ^ SALT
    for byte in word.encode():
        number = (number ^ byte) * 16_777_619 % 2**32
    number ^= number >> 15
    rest, hue = divmod(number, 360)
    chroma, lightness = divmod(rest, len(LIGHTNESS))
    return oklch_color(LIGHTNESS[lightness], CHROMA[chroma % len(CHROMA)], math.radians(hue))


def oklch_color(lightness: float, chroma: float, hue: float) -> Color:
    """The clipped sRGB values of a colour in OKLCH (Ottosson, "A perceptual color space for image processing").

    Args:
        lightness: Lightness, 0..1.
        chroma: Chroma, 0 to about 0.3.
        hue: Hue in radians.
    """
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _channel(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _channel(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _channel(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def _channel(linear: float) -> int:
    """A channel in 8 bits, gamma-encoded."""
    value = min(1.0, max(0.0, linear))
    encoded = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return math.floor(255 * encoded + 0.5)
