"""Members of JSON objects: which one is named twice. JSON parsers do not report it: they keep the last one.

RFC 8259 leaves open what a name that occurs twice means: whoever reads the first value and whoever
reads the last one would decide about different transactions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
