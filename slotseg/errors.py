"""The errors a user can meet; each message says what was wrong, what was expected and what to do."""


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
