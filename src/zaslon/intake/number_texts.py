"""Compiled: integers and moments of typed columns as text, which the readers of text then check."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.system.compiled import Integer, compiled, inlined

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]

# The longest text that each function writes for one value.
INTEGER_BYTES_MAX = len("-9223372036854775808")
MOMENT_BYTES_MAX = len("0001-01-01 00:00:00.000000001")

# Years that a date in text has: from 0001-01-01 to 9999-12-31.
_FIRST_SECOND, _SECOND_AFTER_LAST = -62_135_596_800, 253_402_300_800
_NANOSECONDS = 1_000_000_000
_ZERO, _MINUS, _POINT, _COLON, _SPACE = 48, 45, 46, 58, 32
_TEN = np.uint64(10)


@compiled
def write_integers(
    value: Int64, is_null: NDArray[np.bool_], buffer: UInt8, start: Int64, length: Int64
) -> Integer:
    """Write integers in plain digits, one behind the other; returns how many bytes they have.

    Args:
        buffer: of INTEGER_BYTES_MAX for each value.
        start, length: where each text is from now on; a length of -1 is a null.
    """
    at = 0
    for i in range(value.size):
        start[i], length[i] = at, -1
        if not is_null[i]:
            length[i] = _write_integer(buffer, at, value[i])
            at += length[i]
    return at


@compiled
def write_moments(
    value: Int64, is_null: NDArray[np.bool_], per_second: Integer, has_time: bool,
    buffer: UInt8, start: Int64, length: Int64,
) -> Integer:  # fmt: skip
    """Write moments as `YYYY-MM-DD HH:MM:SS`, with a fraction where there is one; as `write_integers`.

    A moment whose year has not four digits is written as its number: no text of a time.

    Args:
        value: since 1970, in units of which a second has `per_second`.
        has_time: False writes only the date.
        buffer: of MOMENT_BYTES_MAX for each value.
    """
    at = 0
    for i in range(value.size):
        start[i], length[i] = at, -1
        if is_null[i]:
            continue
        second = value[i] // per_second
        if _FIRST_SECOND <= second < _SECOND_AFTER_LAST:
            day = second // SECONDS_PER_DAY
            length[i] = _write_date(buffer, at, day)
            if has_time:
                nanoseconds = (value[i] - second * per_second) * (_NANOSECONDS // per_second)
                length[i] += _write_time(buffer, at + 10, second - day * SECONDS_PER_DAY, nanoseconds)
        else:
            length[i] = _write_integer(buffer, at, value[i])
        at += length[i]
    return at


@inlined
def _write_integer(buffer: UInt8, at: Integer, value: Integer) -> Integer:
    number = np.uint64(value)
    sign = 0
    if value < 0:
        number, sign = np.uint64(0) - number, 1
        buffer[at] = _MINUS
    digits, rest = 1, number // _TEN
    while rest > np.uint64(0):
        digits, rest = digits + 1, rest // _TEN
    _write_digits(buffer, at + sign, number, digits)
    return sign + digits


@inlined
def _write_digits(buffer: UInt8, at: Integer, number: np.uint64, digits: Integer) -> None:
    for k in range(digits - 1, -1, -1):
        buffer[at + k] = _ZERO + np.int64(number % _TEN)
        number //= _TEN


@inlined
def _write_date(buffer: UInt8, at: Integer, day: Integer) -> Integer:
    """The day by its number since 1970 (Hinnant, "chrono-compatible low-level date algorithms", 2013)."""
    z = day + 719468
    era = z // 146097
    of_era = z - era * 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    from_march = (5 * of_year + 2) // 153
    month = from_march + 3 if from_march < 10 else from_march - 9
    _write_digits(buffer, at, np.uint64(era * 400 + year + (month <= 2)), 4)
    buffer[at + 4] = buffer[at + 7] = _MINUS
    _write_digits(buffer, at + 5, np.uint64(month), 2)
    _write_digits(buffer, at + 8, np.uint64(of_year - (153 * from_march + 2) // 5 + 1), 2)
    return 10


@inlined
def _write_time(buffer: UInt8, at: Integer, second: Integer, nanoseconds: Integer) -> Integer:
    """The time of a day, behind a space, with 0, 3, 6 or 9 digits of a fraction."""
    buffer[at] = _SPACE
    buffer[at + 3] = buffer[at + 6] = _COLON
    _write_digits(buffer, at + 1, np.uint64(second // 3600), 2)
    _write_digits(buffer, at + 4, np.uint64(second // 60 % 60), 2)
    _write_digits(buffer, at + 7, np.uint64(second % 60), 2)
    if nanoseconds == 0:
        return 9
    digits, number = 9, nanoseconds
    while number % 1000 == 0:
        digits, number = digits - 3, number // 1000
    buffer[at + 9] = _POINT
    _write_digits(buffer, at + 10, np.uint64(number), digits)
    return 10 + digits
