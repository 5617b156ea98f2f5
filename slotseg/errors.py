"""The errors a user can meet; each message says what was wrong, what was expected and what to do."""

from pathlib import Path


class SlotSegError(Exception):
    """Anything slotseg refuses to do; the command line prints it and exits with 1."""


class ConfigError(SlotSegError, ValueError):
    """A setting that is unknown, out of range, or in conflict with another."""


class DataError(SlotSegError):
    """An image, label or folder that cannot be used."""


class LabelError(DataError):
    """Ground truth that cannot be scored against; unlike an unreadable photo it is never skipped."""


class CheckpointError(SlotSegError):
    """A weights file or run folder that is missing, foreign, damaged or of another architecture."""


def none_readable(number: int, first: str, failures: Path | None = None) -> DataError:
    """Error for photos of which none could be read: nothing was made of them.

    Args:
        number: Number of photos.
        first: Message of the first one. It is all that is said of a single photo.
        failures: File that names all of them.
    """
    advice = f"see {failures}" if failures else "check them"
    many = f"none of the {number:,} photos could be read; expected one at least: {advice}. The first: {first}"
    return DataError(first if number == 1 else many)
