"""Separated text and JSON lines as blocks of whole records, whatever the pieces in which a file comes.

A line end inside quotes belongs to its field, so a quote that is opened and never closed would take all
that follows into one record. It does not: see `SEARCH_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import RECORD_BYTES_MAX
from zaslon.intake.splitting import byte_classes, find_record_ends

# So far the end of a record is looked for: as far as the longest record that a catalogue may allow.
# What is open until then was never closed, and the record ends at the last line end within the
# catalogue's max_record_bytes: text that a record can hold is never read as records, and of those that
# follow a stray quote no more are lost.
SEARCH_BYTES = RECORD_BYTES_MAX
# Of a longer record this many bytes more are kept: a line end that it may have, and one to see that it is too long.
_KEPT_BEHIND_SEARCH = 3
_QUOTE = b'"'


class TextForm(NamedTuple):
    """How records end.

    Attributes:
        separator: between fields; None for JSON lines, which have no line breaks inside.
        line_end: one byte, LF or CR; a CR before LF belongs to the line.
        record_bytes_max: the catalogue's.
    """

    separator: str | None
    line_end: bytes
    record_bytes_max: int


class Block(NamedTuple):
    """Whole records: record i is `buffer[starts[i] : ends[i]]`, without what is not kept of a long one.

    Attributes:
        offset, line: where the buffer begins, in bytes and as the number of its first line, from 1.
        inner_ends: the line ends in the buffer that end no record, because they are in quotes, in order.
    """

    offset: int
    line: int
    buffer: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    inner_ends: NDArray[np.int64]

    def first_lines(self) -> NDArray[np.int64]:
        """Of each record the number of its first line, from 1."""
        return self.line + np.arange(len(self.starts)) + np.searchsorted(self.inner_ends, self.starts)


class RecordReader:
    """Reads a file as blocks of whole records; the records are the same whatever `chunk_bytes` is.

    A record of more than SEARCH_BYTES gives only its beginning, which is longer than a record may be.

    Args:
        file: read from its current position, `chunk_bytes` at a time.
        first: what was already read of it, from `offset` on, which is the beginning of line `line`.
    """

    def __init__(
        self, file: IO[bytes], first: bytes, offset: int, chunk_bytes: int, form: TextForm, line: int = 1
    ) -> None:
        self._line = line
        self._file, self._chunk_bytes, self._form = file, chunk_bytes, form
        self._rest, self._offset = first, offset
        self._skipped = 0  # bytes of the line in `_rest` that were not kept
        self._is_searched = False  # whether `_rest` has no end of a record
        self._is_over = False

    def __iter__(self) -> Iterator[Block]:
        """The blocks that are left."""
        while not self._is_over:
            piece = self._file.read(self._chunk_bytes) if self._is_searched else b""
            self._is_over = self._is_searched and not piece
            block = self._long_line(piece) if self._is_long() else self._records(self._rest + piece)
            if block is not None and len(block.ends):
                yield block

    def read_again(self, block: Block, record: int, separator: str) -> None:
        """Continue at a record of the last block, with another separator."""
        self._form = self._form._replace(separator=separator)
        if record < len(block.starts):
            begin = int(block.starts[record])
            self._rest = block.buffer[begin:].tobytes()  # with what followed its last record
            self._offset, self._is_searched, self._is_over = block.offset + begin, False, False
            self._line = int(block.first_lines()[record])

    def _records(self, content: bytes) -> Block:
        block, used = _block(self._offset, self._line, content, self._form, is_last=self._is_over)
        self._line += len(block.ends) + len(block.inner_ends)
        self._rest, self._is_searched = content[used:], True
        self._offset += used
        return block

    def _is_long(self) -> bool:
        return self._is_searched and len(self._rest) >= SEARCH_BYTES + _KEPT_BEHIND_SEARCH

    def _long_line(self, piece: bytes) -> Block | None:
        """Keep the beginning of a record without end, which ends with its line, and give it then."""
        kept_bytes = SEARCH_BYTES + _KEPT_BEHIND_SEARCH
        end = piece.find(self._form.line_end)
        self._skipped += len(self._rest) - kept_bytes + (len(piece) if end < 0 else end)
        self._rest = self._rest[:kept_bytes]
        if end < 0 and not self._is_over:
            return None
        buffer, end_of_record = np.frombuffer(self._rest, np.uint8), np.array([len(self._rest)])
        inner_ends = np.flatnonzero(buffer == self._form.line_end[0])
        block = Block(self._offset, self._line, buffer, np.zeros(1, np.int64), end_of_record, inner_ends)
        self._line += len(inner_ends) + 1
        self._offset += len(self._rest) + self._skipped + 1
        self._rest, self._skipped, self._is_searched = piece[end + 1 :], 0, False
        return block


def _block(offset: int, line: int, content: bytes, form: TextForm, *, is_last: bool) -> tuple[Block, int]:
    """The whole records of a content, and how many bytes of it they are with their line ends."""
    buffer, inner_ends = np.frombuffer(content, np.uint8), np.zeros(0, np.int64)
    ends = np.flatnonzero(buffer == form.line_end[0])
    if is_last and content and not content.endswith(form.line_end):
        ends = np.append(ends, len(buffer))
    if form.separator is not None and _QUOTE in content:
        found = np.empty(len(ends), np.int64)
        classes, line_end = byte_classes(form.separator), form.line_end[0]
        count = find_record_ends(
            buffer, classes, line_end, form.record_bytes_max, SEARCH_BYTES, is_last, found
        )
        passed = ends[: np.searchsorted(ends, found[count - 1], "right")] if count else inner_ends
        if len(passed) > count:
            inner_ends = np.setdiff1d(passed, found[:count], assume_unique=True)
        ends = found[:count]
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else np.zeros(0, np.int64)
    kept = np.minimum(ends, starts + SEARCH_BYTES + _KEPT_BEHIND_SEARCH)
    block = Block(offset, line, buffer, starts.astype(np.int64), kept.astype(np.int64), inner_ends)
    return block, int(ends[-1]) + 1 if len(ends) else 0
