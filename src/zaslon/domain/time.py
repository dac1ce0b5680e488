"""Durations and dates as the catalogue and the reports write them. Time is passed in, never taken."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import lru_cache

from zaslon.domain.errors import ZaslonError

SECONDS_PER_DAY = 86_400
# Event times are kept as unsigned 32-bit seconds since 1970: 1970-01-01 … 2106-02-07.
EVENT_TIME_SECONDS_MAX = 2**32 - 2
DAYS_MAX = EVENT_TIME_SECONDS_MAX // SECONDS_PER_DAY + 1

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": SECONDS_PER_DAY, "w": 7 * SECONDS_PER_DAY}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


def parse_duration_seconds(text: str) -> int:
    """Seconds in `text` such as `30s`, `15m`, `6h`, `7d`, `2w`.

    Raises:
        ZaslonError: the text is not such a duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ZaslonError(
            f"'{text}' is not a duration.",
            hint="Write a whole number and a unit: 30s, 15m, 6h, 7d or 2w.",
        )
    return int(found[1]) * _UNITS[found[2]]


def duration_text(seconds: int) -> str:
    """A duration as settings write it, exactly: `0s`, `90m`, `7d`."""
    unit = next((u for u in "dhm" if seconds and seconds % _UNITS[u] == 0), "s")
    return f"{seconds // _UNITS[unit]}{unit}"


def checked_duration(text: str) -> str:
    """The text, for files and settings that are checked as a whole and name the place of a mistake.

    Raises:
        ValueError: the text is not a duration.
    """
    try:
        parse_duration_seconds(text)
    except ZaslonError as error:
        raise ValueError(str(error)) from error
    return text


@lru_cache(maxsize=4096)
def day_text(day: int) -> str:
    """`YYYY-MM-DD` of a day number."""
    return datetime.fromtimestamp(day * SECONDS_PER_DAY, UTC).date().isoformat()


def parse_day(text: str) -> int:
    """Day number of `YYYY-MM-DD`.

    Raises:
        ZaslonError: the text is not such a date.
    """
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError as error:
        raise ZaslonError(f"'{text}' is not a date.", hint="Write YYYY-MM-DD.") from error


def days_spanned(first_seconds: int, last_seconds: int) -> int:
    """Days from the one moment to the other, with both and those between on which nothing happened."""
    return int(last_seconds // SECONDS_PER_DAY - first_seconds // SECONDS_PER_DAY) + 1


def parse_time(text: str) -> int:
    """Seconds since 1970 of `YYYY-MM-DD HH:MM:SS`.

    Raises:
        ValueError: the text is not such a time.
    """
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


# Every decision has its time as text: assembled from parts it takes a third of the time of strftime.
_TWO_DIGITS = tuple(f"{number:02d}" for number in range(60))
_MINUTES = tuple(f"{hour:02d}:{minute}" for hour in range(24) for minute in _TWO_DIGITS)


def time_text(event_time_seconds: int) -> str:
    """`YYYY-MM-DD HH:MM:SS` of an event time."""
    day, second = divmod(event_time_seconds, SECONDS_PER_DAY)
    return f"{day_text(day)} {_MINUTES[second // 60]}:{_TWO_DIGITS[second % 60]}"
