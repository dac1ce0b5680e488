"""Money is an integer in the minor unit (kopecks, cents); it is written in the major one."""

from __future__ import annotations

# Sums and squares of amounts are exact integers: nine thousand amounts of this size in one window
# still fit into 64 and 128 bits.
AMOUNT_MINOR_MAX = 10**15


def amount_text(amount_minor: int, minor_digits: int = 2) -> str:
    """`1234.50` for 123450 with two minor digits."""
    if minor_digits == 0:
        return str(amount_minor)
    sign = "-" if amount_minor < 0 else ""
    whole, part = divmod(abs(amount_minor), 10**minor_digits)
    return f"{sign}{whole}.{part:0{minor_digits}d}"


def whole_text(amount_minor: float, minor_digits: int = 2) -> str:
    """`1,234,567`, rounded to the major unit; minor units are noise in a monthly sum."""
    return f"{round(amount_minor / 10**minor_digits):,}"
