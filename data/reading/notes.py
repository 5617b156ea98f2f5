"""Notes on what reading a photo leaves out or changes: short texts for the person whose photo it is.

A note is made if the result might surprise: pages that were not read, colours or depth that were not kept. Its text
completes ``photo.tif: …``, so it has neither a capital letter nor a full stop.
"""

from pathlib import Path

from PIL.ImageFile import ImageFile

DEEP = "the upper 8 of 16 bits"
CMYK = "CMYK converted without a profile"
TRANSPARENT = "transparency laid over white"
DARK = 32
"""Brightest value, of 255, below which a photo of 16 bits was likely stored with only 10 or 12 bits."""

_ACCOMPANIED = ("MPO",)  # a phone's JPEG: what follows the photo is a depth or brightness map, no page


def shown(source: Path | str | bytes) -> str:
    """Name of an image in messages: its path, with escapes for bytes that are no text."""
    return "the image" if isinstance(source, bytes) else str(source).encode(errors="backslashreplace").decode()


def header_notes(image: ImageFile) -> tuple[str, ...]:
    """Notes on what reading will change. Call this before the pixels are loaded."""
    return ((DEEP,) if is_deep(image) else ()) + ((CMYK,) if image.mode == "CMYK" else ())


def is_deep(image: ImageFile) -> bool:
    """Whether an image has 16 bits. Call this before the pixels are loaded."""
    args = image.tile[0][3] if image.tile else None
    raw_mode = str(args[0] if isinstance(args, tuple) else args)
    most = args[1] if image.format == "PPM" and isinstance(args, tuple) and len(args) > 1 else 0
    return image.mode.startswith("I") or ";16" in raw_mode or (isinstance(most, int) and most > 255)


def page_notes(image: ImageFile) -> tuple[str, ...]:
    """Note on frames behind the first, which are not read. Call this after the pixels are loaded."""
    try:
        count = int(getattr(image, "n_frames", 1))
    except Exception:  # damage behind the first frame raises nearly anything and is no reason to lose it
        return ("the first frame; those behind it are damaged",)
    if count == 1 or image.format in _ACCOMPANIED:
        return ()
    return (f"the first of {count} frames",)
