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

_QUOTE, _BACKSLASH, _COLON = ord('"'), ord("\\"), ord(":")
_OPEN_LIST, _OPEN_OBJECT, _CLOSE_LIST, _CLOSE_OBJECT = map(ord, "[{]}")
# Strings, each with whether a colon follows; brackets.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"(?:[ \t\r\n]*(:))?|[{}\[\]]', re.DOTALL)


def member_counts(records: Sequence[bytes]) -> list[int]:
    """How many members each JSON object has, those counted that a parser drops; of other texts, anything."""
    buffer = np.frombuffer(b"".join(records), np.uint8)
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    counts = np.zeros(len(records), np.int64)
    count_members(buffer, ends, counts)
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
def count_members(buffer: UInt8, ends: Int64, counts: Int64) -> None:
    """How many members the outermost object of each record has: its colons outside of strings."""
    at = 0
    for i in range(ends.size):
        depth, found, end = 0, 0, ends[i]
        while at < end:
            byte = buffer[at]
            if byte == _QUOTE:
                at += 1
                while at < end and buffer[at] != _QUOTE:
                    at += 2 if buffer[at] == _BACKSLASH else 1
            elif byte in (_OPEN_OBJECT, _OPEN_LIST):
                depth += 1
            elif byte in (_CLOSE_OBJECT, _CLOSE_LIST):
                depth -= 1
            elif byte == _COLON and depth == 1:
                found += 1
            at += 1
        counts[i] = found
        at = end
