"""When files arrived: declared by the user, or now."""

from __future__ import annotations

from zaslon.domain.errors import ZaslonError
from zaslon.domain.time import parse_duration_seconds, time_text
from zaslon.services.context import Context


def arrival_of_files(context: Context, declared_seconds: int | None) -> int:
    """The declared arrival in seconds since 1970, or now for None.

    Raises:
        ZaslonError: the declared one lies in the future, by more than clocks differ.
    """
    now = int(context.adapters.clock.now_seconds())
    if declared_seconds is None:
        return now
    skew = context.catalogue.record.clock_skew
    if declared_seconds > now + parse_duration_seconds(skew):
        raise ZaslonError(
            f"Nothing can have arrived at {time_text(declared_seconds)}: it is {time_text(now)} (UTC) now,"
            f" and clocks differ by {skew} at most (record.clock_skew).",
            hint="Give a time that has passed, or none for now.",
        )
    return declared_seconds
