"""Compiled readers of text fields. A field is a view: a buffer, a start and a length; -1 is absent.

Numbers are plain ASCII decimals: an optional sign, digits, at most one point. No exponent, no
underscore, no hex, no `inf`, no digits of other scripts. Each reader writes a value and a `Reason` (0 for fine).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.rejections import Reason
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX
from zaslon.system.compiled import Integer, compiled, inlined

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]

_MISSING = int(Reason.MISSING_FIELD)
_NOT_AN_INTEGER = int(Reason.NOT_AN_INTEGER)
_NOT_A_NUMBER = int(Reason.NOT_A_NUMBER)
_NOT_A_TIME = int(Reason.NOT_A_TIME)
_TOO_PRECISE = int(Reason.TOO_PRECISE)
_OUT_OF_RANGE = int(Reason.OUT_OF_RANGE)
_HOUR_24 = int(Reason.HOUR_24)
_IMPOSSIBLE = int(Reason.IMPOSSIBLE_TIME)

_MINUS, _PLUS, _POINT, _SPACE, _COLON, _DASH = 45, 43, 46, 32, 58, 45
_LETTER_T, _LETTER_Z, _ZERO, _NINE = 84, 90, 48, 57
# Every integer up to here, and every power of ten up to 10**22, is exact as a float64.
_EXACT_MANTISSA_MAX = np.uint64(2**53)
_EXACT_POWERS = np.array([float(10**e) for e in range(23)])


@inlined
def _lower(byte: Integer) -> Integer:
    return byte + 32 if 65 <= byte <= 90 else byte


@inlined
def _same(buffer: UInt8, start: Integer, length: Integer, text: UInt8, begin: Integer, end: Integer) -> bool:
    """Whether a field is text[begin:end], which is in lower case, in whatever case it is written."""
    if length != end - begin:
        return False
    for i in range(length):
        if _lower(buffer[start + i]) != text[begin + i]:
            return False
    return True


@inlined
def _is_listed(buffer: UInt8, start: Integer, length: Integer, words: UInt8, ends: Int64) -> bool:
    for w in range(ends.size - 1):
        if _same(buffer, start, length, words, ends[w], ends[w + 1]):
            return True
    return False


@compiled
def find_listed(
    buffer: UInt8, start: Int64, length: Int64, words: UInt8, ends: Int64, begins: UInt8,
    found: NDArray[np.bool_],
) -> bool:  # fmt: skip
    """True where the field is one of `words`, in any case; returns whether any is.

    Args:
        words, ends: in lower case, one after the other; word w is words[ends[w]:ends[w + 1]].
        begins: uint8[256], whether a word begins with the byte, in lower or upper case.
    """
    is_any = False
    for i in range(start.size):
        if length[i] > 0 and begins[buffer[start[i]]]:
            found[i] = _is_listed(buffer, start[i], length[i], words, ends)
            is_any = is_any or found[i]
    return is_any


@inlined
def _is_read(length: Integer, is_required: bool, reason: UInt8, i: Integer) -> bool:
    """Whether field i has a text and no reason yet; a required one without a text gets its reason here."""
    if reason[i]:
        return False
    if length <= 0 and is_required:
        reason[i] = _MISSING
    return bool(length > 0)


@inlined
def _sign_length(byte: Integer) -> Integer:
    return 1 if byte in (_MINUS, _PLUS) else 0


@compiled
def read_integers(
    buffer: UInt8, start: Int64, length: Int64, is_required: bool, has_one_form: bool,
    least: Integer, most: Integer, value: Int64, reason: UInt8,
) -> None:  # fmt: skip
    """int64 values within [least, most]; fields that already have a reason are left alone.

    A fraction of zeros makes no difference, as of a float below 2**53; from there on it represents several.

    Args:
        has_one_form: whether 7 is the only way to write 7, and neither 07 nor +7 is read.
    """
    for i in range(start.size):
        if not _is_read(length[i], is_required, reason, i):
            continue
        at, end = start[i], start[i] + length[i]
        sign = buffer[at]
        at += _sign_length(sign)
        first, number, overflow = at, np.uint64(0), False
        while at < end:
            digit = buffer[at] - _ZERO
            if buffer[at] < _ZERO or buffer[at] > _NINE:
                break
            if number > np.uint64(922337203685477580) or (
                number == np.uint64(922337203685477580) and digit > 7
            ):
                overflow = True
            number = number * np.uint64(10) + np.uint64(digit)
            at += 1
        fits = at > first
        if has_one_form:
            has_zeros = at > first + 1 and buffer[first] == _ZERO
            fits = fits and not has_zeros and sign != _PLUS and (sign != _MINUS or number > 0)
        if at < end:
            fits = fits and buffer[at] == _POINT and at + 1 < end
            fits = fits and not overflow and number < _EXACT_MANTISSA_MAX
            for j in range(at + 1, end):
                fits = fits and buffer[j] == _ZERO
        if not fits:
            reason[i] = _NOT_AN_INTEGER
            continue
        found = -np.int64(number) if sign == _MINUS else np.int64(number)
        if overflow or found < least or found > most:
            reason[i] = _OUT_OF_RANGE
        else:
            value[i] = found


@compiled
def read_decimals(
    buffer: UInt8, start: Int64, length: Int64, is_required: bool, digits_kept: Integer,
    has_thousandths: bool, least: Integer, most: Integer, value: Int64, reason: UInt8,
) -> None:  # fmt: skip
    """Plain decimals as integers of 10**-digits_kept, within [least, most].

    Where fewer than three digits are kept, 1.000 is too precise: it may be a thousand. With
    `has_thousandths` it is one, and so it is with other than one to three digits before three.
    """
    for i in range(start.size):
        if not _is_read(length[i], is_required, reason, i):
            continue
        at, end = start[i], start[i] + length[i]
        negative = buffer[at] == _MINUS
        at += _sign_length(buffer[at])
        first, point = at, -1
        number, seen, after, precise, overflow = np.uint64(0), 0, -1, True, False
        while at < end:
            byte = buffer[at]
            if byte == _POINT and after < 0:
                after, point = 0, at
            elif _ZERO <= byte <= _NINE:
                seen += 1
                if after >= digits_kept:
                    precise = precise and byte == _ZERO
                else:
                    if number > np.uint64(922337203685477579):
                        overflow = True
                    number = number * np.uint64(10) + np.uint64(byte - _ZERO)
                    after += after >= 0
            else:
                break
            at += 1
        if at < end or seen == 0:
            reason[i] = _NOT_A_NUMBER
            continue
        if digits_kept < 3 and not has_thousandths and end - point == 4 and 1 <= point - first <= 3:
            precise = precise and buffer[first] == _ZERO
        for _ in range(digits_kept - max(after, 0)):
            if number > np.uint64(922337203685477579):
                overflow = True
            number *= np.uint64(10)
        found = -np.int64(number) if negative else np.int64(number)
        if not precise:
            reason[i] = _TOO_PRECISE
        elif overflow or found < least or found > most:
            reason[i] = _OUT_OF_RANGE
        else:
            value[i] = found


@compiled
def read_numbers(
    buffer: UInt8, start: Int64, length: Int64, is_required: bool,
    value: NDArray[np.float64], reason: UInt8, is_long: UInt8,
) -> None:  # fmt: skip
    """Plain decimals as the nearest float64; `is_long` marks those too long to be done exactly here.

    Up to 2**53 without the point and 22 digits behind it one division is correctly rounded
    (Clinger, "How to read floating point numbers accurately", 1990).
    """
    for i in range(start.size):
        if not _is_read(length[i], is_required, reason, i):
            continue
        at, end = start[i], start[i] + length[i]
        negative = buffer[at] == _MINUS
        at += _sign_length(buffer[at])
        number, seen, after = np.uint64(0), 0, -1
        while at < end:
            byte = buffer[at]
            if byte == _POINT and after < 0:
                after = 0
            elif _ZERO <= byte <= _NINE:
                seen += 1
                after += after >= 0
                number = min(number, _EXACT_MANTISSA_MAX) * np.uint64(10) + np.uint64(byte - _ZERO)
            else:
                break
            at += 1
        if at < end or seen == 0:
            reason[i] = _NOT_A_NUMBER
        elif number > _EXACT_MANTISSA_MAX or after > 22:
            is_long[i] = 1
        else:
            found = np.float64(number) / _EXACT_POWERS[max(after, 0)]
            value[i] = -found if negative and found != 0 else found


@inlined
def _two(buffer: UInt8, at: Integer) -> Integer:
    """Two digits, or -1."""
    tens, ones = np.int64(buffer[at]) - _ZERO, np.int64(buffer[at + 1]) - _ZERO
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return np.int64(-1)
    return tens * 10 + ones


@inlined
def _days_before(year: Integer, month: Integer, day: Integer) -> Integer:
    """Days from 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms", 2013)."""
    y = year - (month <= 2)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


@inlined
def _month_days(year: Integer, month: Integer) -> Integer:
    if month == 2:
        is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if is_leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


@compiled
def read_times(
    buffer: UInt8, start: Int64, length: Int64, value: Int64, reason: UInt8, dropped: UInt8
) -> None:
    """`YYYY-MM-DD HH:MM:SS` (or T, a fraction, Z) as seconds since 1970; `dropped` marks fractions."""
    for i in range(start.size):
        if not _is_read(length[i], True, reason, i):
            continue
        at, size = start[i], length[i]
        if size > 19 and buffer[at + size - 1] == _LETTER_Z:
            size -= 1
        if (
            size < 19
            or buffer[at + 4] != _DASH
            or buffer[at + 7] != _DASH
            or (buffer[at + 10] != _SPACE and buffer[at + 10] != _LETTER_T)
            or buffer[at + 13] != _COLON
            or buffer[at + 16] != _COLON
        ):
            reason[i] = _NOT_A_TIME
            continue
        century, year = _two(buffer, at), _two(buffer, at + 2)
        month, day = _two(buffer, at + 5), _two(buffer, at + 8)
        hour, minute, second = _two(buffer, at + 11), _two(buffer, at + 14), _two(buffer, at + 17)
        fits = min(century, year, month, day, hour, minute, second) >= 0
        if size > 19:
            fits = fits and buffer[at + 19] == _POINT and 20 < size <= 29
            for j in range(at + 20, at + size):
                fits = fits and _ZERO <= buffer[j] <= _NINE
                if fits and buffer[j] != _ZERO:
                    dropped[i] = 1
        if not fits:
            reason[i] = _NOT_A_TIME
            continue
        year += century * 100
        valid_day = 1 <= month <= 12 and day >= 1 and day <= _month_days(year, month)
        if valid_day and hour == 24 and minute == 0 and second == 0:
            reason[i] = _HOUR_24
            continue
        seconds = np.int64(-1)
        if valid_day and hour < 24 and minute < 60 and second < 60:
            seconds = _days_before(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
        if seconds < 0 or seconds > EVENT_TIME_SECONDS_MAX:
            reason[i] = _IMPOSSIBLE
        else:
            value[i] = seconds
