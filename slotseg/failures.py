"""``failures.jsonl``: the photos that could not be used, a line each, written as it happens."""

import json
from pathlib import Path

from slotseg.files import append, writing


def note_failure(file: Path, name: str, message: str) -> None:
    """Add a line, so that an interruption does not lose it.

    Args:
        file: ``failures.jsonl``; its folder exists.
        name: Of the photo.
        message: What is wrong with it, a sentence.

    Raises:
        DataError: If it cannot be written.
    """
    line = json.dumps({"file": name, "error": message}, ensure_ascii=False) + "\n"
    with writing(file):
        append(file, line.encode(errors="backslashreplace"))
