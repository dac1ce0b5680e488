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
from zaslon.domain.rejections import RecordProblem
from zaslon.intake.ordinary import problem_of_fault
from zaslon.intake.splitting import byte_classes, find_record_ends
from zaslon.system.isolation import is_fault_of_ours

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
        problem: why its only record is rejected, where that breaks our own code.
    """

    offset: int
    line: int
    buffer: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    inner_ends: NDArray[np.int64]
    problem: RecordProblem | None = None

    def first_lines(self) -> NDArray[np.int64]:
        """Of each record the number of its first line, from 1."""
        return self.line + np.arange(len(self.starts)) + np.searchsorted(self.inner_ends, self.starts)


def only_record(content: bytes, offset: int = 0, line: int = 1, line_end: bytes = b"\n") -> Block:
    """A block of one record; the line ends in it end none."""
    buffer = np.frombuffer(content, np.uint8)
    inner_ends = np.flatnonzero(buffer == line_end[0])
    return Block(offset, line, buffer, np.zeros(1, np.int64), np.array([len(content)]), inner_ends)


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

    def _records(self, content: bytes) -> Block | None:
        try:
            found = _block(self._offset, self._line, content, self._form, is_last=self._is_over)
        except Exception as error:
            if not is_fault_of_ours(error):
                raise
            return self._isolated(content, error)
        return self._taken(content, *found)

    def _taken(self, content: bytes, block: Block, used: int) -> Block:
        self._line += len(block.ends) + len(block.inner_ends)
        self._rest, self._is_searched = content[used:], True
        self._offset += used
        return block

    def _isolated(self, content: bytes, error: Exception) -> Block | None:
        """The records before the piece that breaks our code, or else that piece; what follows is searched again."""
        self._check(error)
        lines = _lines_that_work(content, self._form)
        before = content[: _end_of_line(content, lines, self._form) + 1]
        block, used = _block(self._offset, self._line, before, self._form, is_last=False)
        if used:
            self._taken(content, block, used)
        else:
            end = _end_of_piece(content, lines + 1, self._form)
            if end < 0 and not self._is_over:
                self._rest, self._is_searched = content, True
                return None
            piece = content if end < 0 else content[:end]
            block = only_record(piece, self._offset, self._line, self._form.line_end)
            block = block._replace(problem=problem_of_fault(error))
            self._taken(content, block, len(piece) + 1)
        self._is_searched = self._is_over = False
        return block

    def _check(self, error: Exception) -> None:
        """Do nothing where an ordinary record can be found, too; otherwise raise `error`: no record is to blame."""
        row = b"1" if self._form.separator is None else b'1%s"1"' % self._form.separator.encode()
        try:
            _block(0, 1, row + self._form.line_end, self._form, is_last=True)
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None

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
        block = only_record(self._rest, self._offset, self._line, self._form.line_end)
        self._line += len(block.inner_ends) + 1
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


def _lines_that_work(content: bytes, form: TextForm) -> int:
    """How many of the first lines of a content that breaks our code do not, found by doubling and halving."""
    count = content.count(form.line_end)
    works, step = 0, 1
    while works + step <= count and _works(content, works + step, form):
        works, step = works + step, 2 * step
    fails = min(works + step, count + 1)
    while fails - works > 1:
        middle = (works + fails) // 2
        works, fails = (middle, fails) if _works(content, middle, form) else (works, middle)
    return works


def _works(content: bytes, lines: int, form: TextForm) -> bool:
    try:
        _block(0, 1, content[: _end_of_line(content, lines, form) + 1], form, is_last=False)
    except Exception as error:
        if not is_fault_of_ours(error):
            raise
        return False
    return True


def _end_of_line(content: bytes, number: int, form: TextForm) -> int:
    """Where the line with this number, from 1, ends; -1 for 0, and where it has no end."""
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == form.line_end[0])
    return int(ends[number - 1]) if 0 < number <= len(ends) else -1


def _end_of_piece(content: bytes, lines: int, form: TextForm) -> int:
    """Where the record ends whose line with this number breaks our code; -1 where the content ends before.

    A quote that seems to be open there is closed first, within `record_bytes_max`: text that may be in quotes
    is never read as records.
    """
    end = line = _end_of_line(content, lines, form)
    if form.separator is None or end < 0:
        return end
    is_open = content.count(_QUOTE, 0, end) % 2 == 1
    while is_open and end <= form.record_bytes_max:
        begin, end = end, content.find(form.line_end, end + 1)
        if end < 0:
            return -1 if len(content) <= form.record_bytes_max else line
        is_open ^= content.count(_QUOTE, begin, end) % 2 == 1
    return line if is_open else end
