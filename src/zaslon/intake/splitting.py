"""Compiled: where records end in separated text and where their fields are (RFC 4180).

A field that begins with a double quote ends with the next one that is not doubled; in between are
separators and line breaks that belong to it. Blanks around the quotes do not count. A quote anywhere
else is a character like any other, and a backslash means nothing. Both functions here follow the same
grammar, so what ends a record and what ends a field can never disagree.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.rejections import Reason
from zaslon.system.compiled import Integer, compiled, inlined

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]

_EMPTY, _TOO_LONG, _NOT_TEXT = int(Reason.EMPTY), int(Reason.TOO_LONG), int(Reason.NOT_TEXT)
_WRONG_COUNT = int(Reason.WRONG_FIELD_COUNT)
_TAB, _NEWLINE, _RETURN, _SPACE, _QUOTE = 9, 10, 13, 32, 34

# Classes of bytes; class 0 is text without a meaning.
_SEPARATOR, _IN_QUOTES, _BLANK, _BREAK, _CONTROL, _NOT_ASCII = 1, 2, 3, 4, 5, 6

# The grammar: the state at a byte, and at the next one, by the byte's class. Columns:
# text, separator, quote, blank, line break, control byte, not ASCII. A line break here ends no record.
_AT_FIELD, _PLAIN, _QUOTED, _AFTER_QUOTE, _CLOSED, _TOO_FAR = 0, 1, 2, 3, 4, 5
_NEXT = np.array([
    [_PLAIN, _AT_FIELD, _QUOTED, _AT_FIELD, _PLAIN, _PLAIN, _PLAIN],
    [_PLAIN, _AT_FIELD, _PLAIN, _PLAIN, _PLAIN, _PLAIN, _PLAIN],
    [_QUOTED, _QUOTED, _AFTER_QUOTE, _QUOTED, _QUOTED, _QUOTED, _QUOTED],
    [_PLAIN, _AT_FIELD, _QUOTED, _CLOSED, _CLOSED, _PLAIN, _PLAIN],
    [_PLAIN, _AT_FIELD, _PLAIN, _CLOSED, _CLOSED, _PLAIN, _PLAIN],
    [_TOO_FAR] * 7,
])  # fmt: skip

# Values of `found` of `split_records` instead of the number of fields.
UNCLOSED_QUOTE, TEXT_BEHIND_QUOTE = -1, -2


@lru_cache(maxsize=16)
def byte_classes(separator: str) -> UInt8:
    """uint8[256], the class of every byte in text that is separated by `separator`."""
    classes = np.zeros(256, np.uint8)
    classes[:_SPACE], classes[127], classes[128:] = _CONTROL, _CONTROL, _NOT_ASCII
    classes[[_NEWLINE, _RETURN]] = _BREAK
    classes[[_TAB, _SPACE]] = _BLANK
    classes[_QUOTE] = _IN_QUOTES
    classes[ord(separator)] = _SEPARATOR
    return classes


@compiled
def find_record_ends(
    buffer: UInt8, classes: UInt8, line_end: Integer, record_bytes_max: Integer, search_bytes: Integer,
    is_last: bool, ends: Int64,
) -> Integer:  # fmt: skip
    """Find the line ends that end records, and the end of the input if it `is_last`; returns how many.

    A record that has no end within `search_bytes` because a quote in it is open is taken for one whose
    quote was never closed: it ends at the last line end within `record_bytes_max`, or else at its first
    one. So does a record of more than `record_bytes_max` that is open when the input ends; a shorter one
    ends with the last line of the input. One without an open quote ends with its line, however long that is.
    """
    begin, at, count, state = 0, 0, 0, _AT_FIELD
    near, first = -1, -1  # line ends in an open quote: the last within `record_bytes_max`, and the first
    while True:
        is_open_at_end = is_last and at == buffer.size and at - begin > record_bytes_max
        if state == _QUOTED and first >= 0 and (at - begin > search_bytes or is_open_at_end):
            ends[count] = near if near >= 0 else first
            begin = at = ends[count] + 1
            count, state, near, first = count + 1, _AT_FIELD, -1, -1
        if at == buffer.size:
            break
        byte = buffer[at]
        if byte == line_end and state != _QUOTED:
            ends[count] = at
            count, begin, state, near, first = count + 1, at + 1, _AT_FIELD, -1, -1
        else:
            if byte == line_end:
                first = at if first < 0 else first
                near = at if at - begin <= record_bytes_max else near
            state = _TOO_FAR if at - begin > search_bytes else _NEXT[state, classes[byte]]
        at += 1
    if is_last and begin < buffer.size:
        ends[count] = buffer.size - (buffer[buffer.size - 1] == line_end)
        count += 1
    return count


@compiled
def split_records(
    buffer: UInt8, starts: Int64, lengths: Int64, classes: UInt8, record_bytes_max: Integer,
    field_of_column: Int64, field_start: Int64, field_length: Int64,
    doubled: UInt8, reason: UInt8, found: Int64,
) -> Integer:  # fmt: skip
    """Find the fields of each record: int64[fields, n] starts and lengths, without blanks and quotes.

    Column c is field `field_of_column[c]`, or unused for -1. `doubled` marks fields in which a quote
    is doubled; returns how many there are. Sets TOO_LONG, EMPTY, NOT_TEXT and WRONG_FIELD_COUNT.
    `found`: 0, or of a record that does not have its fields, whether it is text or not: how many there are, or
    what is wrong with a quote.
    Text is UTF-8 without control bytes; line breaks are allowed in quotes in an unused column.
    """
    columns, doubled_fields = field_of_column.size, 0
    for i in range(starts.size):
        begin, end = starts[i], starts[i] + lengths[i]
        if end > begin and buffer[end - 1] == _NEWLINE:
            end -= 1
        if end > begin and buffer[end - 1] == _RETURN:
            end -= 1
        if end - begin > record_bytes_max:
            reason[i] = _TOO_LONG
            continue
        at, column, trouble = begin, 0, 0
        is_text, is_ascii, is_empty = True, True, False
        while True:
            field = field_of_column[column] if column < columns else -1
            while at < end and classes[buffer[at]] == _BLANK:
                at += 1
            left = right = at
            if at < end and classes[buffer[at]] == _IN_QUOTES:
                at += 1
                left, has_doubled, is_closed = at, False, False
                while at < end:
                    kind = classes[buffer[at]]
                    if kind == _IN_QUOTES:
                        if at + 1 == end or classes[buffer[at + 1]] != _IN_QUOTES:
                            is_closed = True
                            break
                        has_doubled = True
                        at += 1
                    elif kind >= _BREAK:
                        is_text = is_text and (kind == _NOT_ASCII or (kind == _BREAK and field < 0))
                        is_ascii = is_ascii and kind != _NOT_ASCII
                    at += 1
                left, right = _trimmed(buffer, classes, left, at)
                if has_doubled and field >= 0:
                    doubled[field, i] = 1
                    doubled_fields += 1
                if is_closed:
                    at += 1
                    while at < end and (classes[buffer[at]] == _BLANK or buffer[at] == _RETURN):
                        is_text = is_text and buffer[at] != _RETURN
                        at += 1
                    if at < end and classes[buffer[at]] != _SEPARATOR:
                        trouble = TEXT_BEHIND_QUOTE if trouble == 0 else trouble
                else:
                    trouble = UNCLOSED_QUOTE if trouble == 0 else trouble
            plain = at
            while at < end:
                kind = classes[buffer[at]]
                if kind == _SEPARATOR:
                    break
                if kind >= _BREAK:
                    is_text = is_text and kind == _NOT_ASCII
                    is_ascii = is_ascii and kind != _NOT_ASCII
                at += 1
            right = at if at > plain else right
            is_empty = column == 0 and left == end and trouble == 0
            if field >= 0:
                left, right = _trimmed(buffer, classes, left, right)
                field_start[field, i], field_length[field, i] = left, right - left
            column += 1
            if at >= end:
                break
            at += 1
        if trouble != 0 or column != columns:
            found[i] = trouble if trouble != 0 else column
        if not is_text or not (is_ascii or _is_utf8_text(buffer, begin, end)):
            reason[i] = _NOT_TEXT
        elif is_empty:
            reason[i] = _EMPTY
        elif found[i] != 0:
            reason[i] = _WRONG_COUNT
    return doubled_fields


@compiled
def check_texts(buffer: UInt8, classes: UInt8, start: Int64, length: Int64, reason: UInt8) -> None:
    """Take the blanks from the ends of the texts of one column, and set NOT_TEXT as `split_records` does."""
    for i in range(start.size):
        begin, end = start[i], start[i] + length[i]
        is_text, is_ascii = True, True
        for at in range(begin, end):
            kind = classes[buffer[at]]
            if kind >= _BREAK:
                is_text = is_text and kind == _NOT_ASCII
                is_ascii = is_ascii and kind != _NOT_ASCII
        if not is_text or not (is_ascii or _is_utf8_text(buffer, begin, end)):
            reason[i] = _NOT_TEXT
        if length[i] > 0:
            left, right = _trimmed(buffer, classes, begin, end)
            start[i], length[i] = left, right - left


class Values:
    """The fields of n records, every column of them.

    `is_split`: bool[n], which records have as many fields as there are columns, whether they are text or not.
    """

    def __init__(self, buffer: UInt8, starts: Int64, lengths: Int64, separator: str, columns: int) -> None:
        shape = (columns, len(starts))
        self._content, self._start, self._length = (
            buffer.tobytes(),
            np.zeros(shape, np.int64),
            np.full(shape, -1),
        )
        self._doubled, self.found = np.zeros(shape, np.uint8), np.zeros(len(starts), np.int64)
        reason = np.zeros(len(starts), np.uint8)
        split_records(
            buffer, starts, lengths, byte_classes(separator), len(buffer), np.arange(columns), self._start,
            self._length, self._doubled, reason, self.found,
        )  # fmt: skip
        self.is_split = self.found == 0

    def span(self, column: int, record: int) -> tuple[int, int]:
        """Where a field of a record begins and ends in the buffer; doubled quotes in it are as they are."""
        begin = int(self._start[column, record])
        return begin, begin + int(self._length[column, record])

    def of(self, record: int) -> list[bytes]:
        """The fields of one record, without blanks and quotes around them."""
        columns = (self._start, self._length, self._doubled)
        places = zip(*(column[:, record].tolist() for column in columns), strict=True)
        pieces = ((self._content[at : at + size], doubled) for at, size, doubled in places if size >= 0)
        return [piece.replace(b'""', b'"') if doubled else piece for piece, doubled in pieces]


def split_line(line: bytes, separator: str) -> list[bytes]:
    """The fields of one record."""
    return _values(line, separator).of(0)


def has_wrong_quotes(line: bytes, separator: str) -> bool:
    """Whether a quote in a record is not closed, or is followed by text."""
    return int(_values(line, separator).found[0]) < 0


def _values(line: bytes, separator: str) -> Values:
    whole = np.zeros(1, np.int64), np.array([len(line)])
    return Values(np.frombuffer(line, np.uint8), *whole, separator, line.count(separator.encode()) + 1)


def first_record(content: bytes, separator: str, line_end: bytes) -> bytes:
    """The first record, without its line end; only its first line, where a quote in it is wrong."""
    ends, size = np.zeros(content.count(line_end) + 1, np.int64), len(content)
    buffer, classes = np.frombuffer(content, np.uint8), byte_classes(separator)
    find_record_ends(buffer, classes, line_end[0], size, size + 1, True, ends)
    record = content[: ends[0]]
    return record.partition(line_end)[0] if has_wrong_quotes(record, separator) else record


@inlined
def _trimmed(buffer: UInt8, classes: UInt8, left: Integer, right: Integer) -> tuple[Integer, Integer]:
    """The range without blanks at its ends."""
    while left < right and classes[buffer[left]] == _BLANK:
        left += 1
    while right > left and classes[buffer[right - 1]] == _BLANK:
        right -= 1
    return left, right


@inlined
def _is_utf8_text(buffer: UInt8, begin: Integer, end: Integer) -> bool:
    """Whether bytes are UTF-8 (RFC 3629) without the control characters U+0080 to U+009F."""
    at = begin
    while at < end:
        lead = buffer[at]
        at += 1
        if lead < 0x80:
            continue
        if 0xC2 <= lead <= 0xDF:
            more, least, most = 1, 0xA0 if lead == 0xC2 else 0x80, 0xBF
        elif 0xE0 <= lead <= 0xEF:
            more, least, most = 2, 0xA0 if lead == 0xE0 else 0x80, 0x9F if lead == 0xED else 0xBF
        elif 0xF0 <= lead <= 0xF4:
            more, least, most = 3, 0x90 if lead == 0xF0 else 0x80, 0x8F if lead == 0xF4 else 0xBF
        else:
            return False
        if at + more > end or buffer[at] < least or buffer[at] > most:
            return False
        for k in range(1, more):
            if buffer[at + k] < 0x80 or buffer[at + k] > 0xBF:
                return False
        at += more
    return True
