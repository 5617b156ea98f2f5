"""Counts, times, sizes and shares as people read them, spelled alike in every message and page."""

from collections.abc import Sequence
from datetime import datetime
from math import inf


def count(number: int, noun: str) -> str:
    """A number and what it counts: 1 photo, 1,234 photos, 2 classes."""
    return f"{number:,} {noun if number == 1 else f'{noun}es' if noun.endswith('s') else f'{noun}s'}"


def listed(words: Sequence[str]) -> str:
    """Words as people list them: ``1, 2 and 3``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def tenths(value: float) -> str:
    """A number with one decimal unless it is whole: 9.7, 1,234.5, 800."""
    return f"{value:,.1f}".removesuffix(".0")


def date(seconds: float) -> str:
    """A time since the epoch in the reader's time zone, such as ``24 Nov 2026, 22:21``."""
    moment = datetime.fromtimestamp(seconds).astimezone()
    return f"{moment.day} {moment:%b %Y, %H:%M}"


def duration(seconds: float) -> str:
    """Seconds in one or two units: 42 s, 3 min, 2 h 10 min, 1 d 4 h."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    minutes = round(total / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days:,} d {hours} h" if hours else f"{days:,} d"


def about_duration(seconds: float) -> str:
    """Estimated seconds, as coarsely as they can be known: about 40 s, about 9 min, about 1 h 30 min."""
    steps = ((55, 10), (1200, 60), (3600, 300), (36_000, 1800), (inf, 3600))
    step = next(step for limit, step in steps if seconds < limit)
    return f"about {duration(max(step, step * round(seconds / step)))}"


def size(num_bytes: float) -> str:
    """Bytes of a file or of memory in kB, MB or GB (powers of ten): 12.0 kB, 30.4 MB, 1.3 GB."""
    unit, name = next((u, n) for u, n in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if num_bytes >= u or n == "kB")
    return f"{num_bytes / unit:,.1f} {name}"


def about_size(num_bytes: int) -> str:
    """Estimated bytes, rounded up to tenths of a GB: 700 MB, 1.3 GB."""
    tenths_of_gb = -(-num_bytes // 10**8)
    return f"{100 * tenths_of_gb} MB" if tenths_of_gb < 10 else f"{tenths_of_gb / 10:.1f} GB"


def percent(share: float) -> str:
    """A share of 0..1 with its sign: 62 %, 0.4 %."""
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.2g} %"


def percent_number(share: float | None, digits: int = 1) -> str:
    """A share of 0..1 in per cent without the sign, for tables and metrics; a dash for None."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def among_photos(count: int, first: str) -> str:
    """Photos of which something is said: the name of the first, and how many there are if there are several."""
    return first if count == 1 else f"{count} photos, the first {first}"
