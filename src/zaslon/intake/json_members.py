"""Members of JSON objects, as bytes: which one is named twice, and where the value of each is.

JSON parsers do not report a second member of the same name: they keep the last one. RFC 8259 leaves open what it
means: whoever reads the first value and whoever reads the last one would decide about different transactions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.system.compiled import compiled

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]

# Classes of bytes; most are of class 0, text without a meaning here.
_QUOTE, _BACKSLASH, _COLON, _OPEN, _CLOSE = 1, 2, 3, 4, 5
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[list(b'"\\:{[}]')] = [_QUOTE, _BACKSLASH, _COLON, _OPEN, _OPEN, _CLOSE, _CLOSE]
# Strings, each with whether a colon follows; brackets.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"(?:[ \t\r\n]*(:))?|[{}\[\]]', re.DOTALL)
# One token behind any blanks: a text, a bracket or sign, or anything else without blanks and signs.
_NEXT = re.compile(rb'[ \t\r\n]*+("(?:[^"\\]|\\.)*+"|[{}\[\]:,]|[^"{}\[\]:, \t\r\n]++)', re.DOTALL)
_VALUE, _FIRST_VALUE, _NAME, _FIRST_NAME, _AFTER_NAME, _AFTER_VALUE = range(6)
_WORD = ord("v")
# By what is expected next: the first bytes that a token may have, "v" for a value without quotes and brackets.
_EXPECTED = (b'"v{[', b'"v{[]', b'"', b'"}', b":", b",}]")
_SIGNS, _BLANKS = b'"{}[]:,', b" \t\r\n"


class Member(NamedTuple):
    """A member of a JSON object at any depth: its name in quotes as it was written, and where its value is."""

    name: bytes
    begin: int
    end: int


def member_counts(records: Sequence[bytes]) -> list[int]:
    """How many members each JSON object has, those counted that a parser drops; of other texts, anything."""
    buffer = np.frombuffer(b"".join(records), np.uint8)
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    counts = np.zeros(len(records), np.int64)
    count_members(buffer, ends, _CLASSES, counts)
    return list(counts.tolist())


def names_twice(record: bytes) -> list[str]:
    """The names that occur twice or more in a JSON object itself, not in nested ones.

    A name is what its escapes stand for.
    """
    depth, seen, twice = 0, set[str](), dict[str, None]()
    for token in _TOKEN.finditer(record):
        if token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
        elif token[1] and depth == 1:
            name = orjson.loads(token[0].removesuffix(b":"))
            if name in seen:
                twice[name] = None
            seen.add(name)
    return list(twice)


def find_members(record: bytes) -> list[Member] | None:
    """The members of a JSON object and of all that is in it, by the places of their values; None of other texts.

    However deep it is nested. A value without quotes and brackets may be any word.
    """
    if not record.lstrip(_BLANKS).startswith(b"{"):
        return None
    found: list[Member] = []
    levels: list[tuple[int, bytes | None, int]] = []  # by open bracket: which, the member's name, its place
    expected, name, end = _VALUE, None, 0
    for token in _NEXT.finditer(record):
        is_next, (begin, end) = token.start() == end, token.span(1)  # else a quote is not closed
        sign = record[begin] if record[begin] in _SIGNS else _WORD
        if not is_next or sign not in _EXPECTED[expected]:
            return None
        if expected in (_NAME, _FIRST_NAME) and sign == ord('"'):
            expected, name = _AFTER_NAME, record[begin:end]
        elif sign == ord(":"):
            expected = _VALUE
        elif sign == ord(","):
            expected = _NAME if levels[-1][0] == ord("{") else _VALUE
        elif sign in b"{[":
            levels.append((sign, name, begin))
            expected, name = _FIRST_NAME if sign == ord("{") else _FIRST_VALUE, None
        else:
            start = begin
            if sign in b"}]":
                opened, name, start = levels.pop()
                if opened != sign - 2:  # as ASCII has them
                    return None
            if name is not None:
                found.append(Member(name, start, end))
            if not levels:
                return None if record[end:].strip(_BLANKS) else sorted(found, key=_place)
            expected, name = _AFTER_VALUE, None
    return None


def _place(member: Member) -> int:
    return member.begin


@compiled
def count_members(buffer: UInt8, ends: Int64, classes: UInt8, counts: Int64) -> None:
    """How many members the outermost object of each record has: its colons outside of strings."""
    at = np.uint64(0)  # without a sign nothing asks whether it is negative
    for i in range(ends.size):
        end, depth, found, is_in_string = np.uint64(ends[i]), 0, 0, False
        while at < end:
            kind = classes[buffer[at]]
            at += np.uint64(1)
            if kind == 0:
                continue
            if is_in_string:
                is_in_string = kind != _QUOTE
                at += np.uint64(kind == _BACKSLASH)  # what is behind it has no meaning
            elif kind == _QUOTE:
                is_in_string = True
            elif kind == _COLON:
                found += depth == 1
            elif kind == _OPEN:
                depth += 1
            elif kind == _CLOSE:
                depth -= 1
        counts[i] = found
        at = end
