"""Which days a challenger learns from, as the settings name them."""

from __future__ import annotations

from zaslon.domain.errors import ZaslonError
from zaslon.domain.time import SECONDS_PER_DAY, parse_duration_seconds

EXPANDING = "expanding"  # all of them
VALIDATED = "validated"  # whichever of some windows ranks the validation period best


def checked_window(text: str) -> str:
    """`expanding`, `validated`, or a duration of whole days.

    Raises:
        ValueError: the text is something else.
    """
    if text not in (EXPANDING, VALIDATED):
        window_days(text)
    return text


def window_days(text: str) -> int:
    """Days in a window such as `60d`.

    Raises:
        ValueError: the text is not a duration of whole days.
    """
    try:
        seconds = parse_duration_seconds(text)
    except ZaslonError as error:
        raise ValueError(
            f"'{text}' is neither {EXPANDING}, {VALIDATED} nor a duration such as 60d"
        ) from error
    if not seconds or seconds % SECONDS_PER_DAY:
        raise ValueError(f"'{text}' is not a number of whole days")
    return seconds // SECONDS_PER_DAY
