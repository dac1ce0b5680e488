"""Compiled: where the elements of a JSON array lie, and how deep JSON is nested.

Only strings, brackets and commas are looked at. Whether an element is valid JSON is found when it is
read as a record: a bad one is one rejection. Where brackets or quotes do not match, the text is not an array.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.system.compiled import Integer, compiled

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]

_QUOTE, _BACKSLASH, _COMMA = ord('"'), ord("\\"), ord(",")
_OPEN_ARRAY, _CLOSE_ARRAY, _OPEN_OBJECT, _CLOSE_OBJECT = map(ord, "[]{}")
_SPACE, _TAB, _NEWLINE, _RETURN = map(ord, " \t\n\r")


def nesting(text: bytes) -> int:
    """The most brackets of JSON that are open at one place, brackets in strings aside."""
    if text.count(b"{") + text.count(b"[") <= 1:  # most bodies: no second look
        return text.count(b"{") + text.count(b"[")
    return int(_nesting(np.frombuffer(text, np.uint8)))


def array_elements(text: bytes) -> list[bytes] | None:
    """The bytes of each element of a JSON array, without blanks around them; None for anything else."""
    buffer = np.frombuffer(text, np.uint8)
    begins, ends = np.zeros((2, text.count(b",") + 1), np.int64)
    count = int(_find_elements(buffer, begins, ends))
    if count < 0:
        return None
    places = zip(begins[:count].tolist(), ends[:count].tolist(), strict=True)
    return [text[begin:end] for begin, end in places]


@compiled
def _nesting(buffer: UInt8) -> Integer:
    level = deepest = place = 0
    while place < len(buffer):
        byte = buffer[place]
        if byte == _QUOTE:
            place = _string_end(buffer, place)
        elif byte in (_OPEN_ARRAY, _OPEN_OBJECT):
            level += 1
            deepest = max(deepest, level)
        elif byte in (_CLOSE_ARRAY, _CLOSE_OBJECT):
            level -= 1
        place += 1
    return deepest


@compiled
def _find_elements(buffer: UInt8, begins: Int64, ends: Int64) -> Integer:
    """How many elements there are; -1 where the text is not one array and nothing else."""
    end = len(buffer)
    while end > 0 and _is_blank(buffer[end - 1]):
        end -= 1
    place = 0
    while place < end and _is_blank(buffer[place]):
        place += 1
    if end - place < 2 or buffer[place] != _OPEN_ARRAY or buffer[end - 1] != _CLOSE_ARRAY:
        return -1
    count, level, begin, place, end = 0, 0, place + 1, place + 1, end - 1
    while place < end:
        byte = buffer[place]
        if byte == _QUOTE:
            place = _string_end(buffer, place)
        elif byte in (_OPEN_ARRAY, _OPEN_OBJECT):
            level += 1
        elif byte in (_CLOSE_ARRAY, _CLOSE_OBJECT):
            level -= 1
            if level < 0:  # the array ends before the text does
                return -1
        elif byte == _COMMA and level == 0:
            _note(buffer, begin, place, begins, ends, count)
            count, begin = count + 1, place + 1
        place += 1
    if place > end or level != 0:  # in a string, or in brackets, that do not end
        return -1
    _note(buffer, begin, end, begins, ends, count)
    return count if count == 0 and begins[0] == ends[0] else count + 1


@compiled
def _note(buffer: UInt8, begin: Integer, end: Integer, begins: Int64, ends: Int64, count: Integer) -> None:
    while begin < end and _is_blank(buffer[begin]):
        begin += 1
    while end > begin and _is_blank(buffer[end - 1]):
        end -= 1
    begins[count], ends[count] = begin, end


@compiled
def _string_end(buffer: UInt8, place: Integer) -> Integer:
    """Where the string that opens here has its closing quote; behind the buffer where it has none."""
    place += 1
    while place < len(buffer) and buffer[place] != _QUOTE:
        place += 2 if buffer[place] == _BACKSLASH else 1
    return place


@compiled
def _is_blank(byte: Integer) -> Integer:
    return byte in (_SPACE, _TAB, _NEWLINE, _RETURN)
