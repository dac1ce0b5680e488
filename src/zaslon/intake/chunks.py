"""Consecutive records of one source: lines of a text, or rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.rejections import RecordProblem
from zaslon.intake.fields import Fields, fields_of_broken, fields_of_json, fields_of_lines
from zaslon.intake.layouts import Layout
from zaslon.intake.record_blocks import Block
from zaslon.intake.splitting import Values
from zaslon.intake.tables import Table, fields_of_table

Int64 = NDArray[np.int64]


class RecordValues(Protocol):
    """The values of records, every column of them."""

    def of(self, record: int) -> list[bytes]:
        """The values of one record, without blanks and quotes around them."""
        ...


class Lines(NamedTuple):
    """The lines of one record: the number of its first one in the source, from 1, and of each offset and bytes."""

    first: int
    offsets: list[int]
    contents: list[bytes]

    def place(self, source: str) -> str:
        """Where they are, for people."""
        return f"lines {self.first} to {self.first + len(self.contents) - 1} of '{source}'"


class Chunk(Protocol):
    """Consecutive records of one source."""

    @property
    def source(self) -> str:
        """Its address."""
        ...

    @property
    def first_record(self) -> int:
        """Number of record 0 within the source, from 1; headers do not count."""
        ...

    @property
    def headers(self) -> int:
        """How many headers were among the records, which are none."""
        ...

    @property
    def problem(self) -> RecordProblem | None:
        """Why its only record is rejected, where that breaks our own code before its fields are read."""
        ...

    @property
    def layout(self) -> Layout:
        """How a record's bytes are to be read."""
        ...

    def __len__(self) -> int: ...

    def part(self, begin: int, end: int) -> Chunk:
        """Records [begin, end) of the chunk."""
        ...

    def broken(self, problem: RecordProblem) -> Chunk:
        """The same one record, which breaks our own code."""
        ...

    def originals(self, records: Sequence[int]) -> list[bytes]:
        """The original bytes of records; of one that is too long, its beginning."""
        ...

    def offsets(self, records: Int64) -> Int64:
        """Byte offsets of records in the unpacked source; -1 where it has no lines."""
        ...

    def fields(self, catalogue: Catalogue) -> Fields:
        """Where the fields of the records are."""
        ...

    def values(self) -> RecordValues:
        """The values of all columns of separated records, also of those that are not read."""
        ...

    def over_lines(self) -> Int64:
        """The records that span lines, because they have line breaks in quotes."""
        ...

    def lines_of(self, record: int) -> Lines:
        """The lines of a record."""
        ...


@dataclass(frozen=True)
class TextChunk:
    """Lines.

    Attributes:
        offset: byte offset of the chunk in the unpacked source.
        buffer, starts, lengths: record i is buffer[starts[i] : starts[i] + lengths[i]].
        split: their fields, where that is known already.
        first_lines: of each record the number of its first line in the source, from 1.
        inner_ends: the line ends in the buffer that are inside records, in order.
        problem: why its only record is rejected, where that breaks our own code before its fields are read.
    """

    source: str
    first_record: int
    offset: int
    buffer: NDArray[np.uint8]
    starts: Int64
    lengths: Int64
    layout: Layout
    first_lines: Int64
    inner_ends: Int64
    split: Fields | None = None
    headers: int = 0
    problem: RecordProblem | None = None

    @classmethod
    def of(cls, source: str, first_record: int, block: Block, layout: Layout) -> TextChunk:
        """The records of a block, which begin with number `first_record`."""
        return cls(
            source, first_record, block.offset, block.buffer, block.starts, block.ends - block.starts, layout,
            block.first_lines(), block.inner_ends, problem=block.problem,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, begin: int, end: int) -> TextChunk:
        """Records [begin, end) of the chunk."""
        if begin <= 0 and end >= len(self):
            return self
        rows = slice(begin, end)
        return replace(
            self, first_record=self.first_record + begin, starts=self.starts[rows],
            lengths=self.lengths[rows], first_lines=self.first_lines[rows],
            split=None if self.split is None else self.split.part(begin, end),
        )  # fmt: skip

    def broken(self, problem: RecordProblem) -> TextChunk:
        """The same one record, which breaks our own code."""
        return replace(self, problem=problem)

    def raw(self, index: int) -> bytes:
        """The original bytes of one record."""
        start = int(self.starts[index])
        return self.buffer[start : start + int(self.lengths[index])].tobytes()

    def originals(self, records: Sequence[int]) -> list[bytes]:
        """The original bytes of records; of one that is too long, its beginning."""
        return [self.raw(i) for i in records]

    def offsets(self, records: Int64) -> Int64:
        """Byte offsets of records in the unpacked source."""
        return np.asarray(self.offset + self.starts[records])

    def fields(self, catalogue: Catalogue) -> Fields:
        """Where the fields of the records are."""
        if self.problem is not None:
            return fields_of_broken(len(self), catalogue, self.problem)
        if self.split is not None:
            return self.split
        if self.layout.is_json:
            return fields_of_json(self.originals(range(len(self))), catalogue)
        return fields_of_lines(
            self.buffer, self.starts, self.lengths, catalogue,
            self.layout.columns, self.layout.separator,
        )  # fmt: skip

    def values(self) -> Values:
        """The values of all columns of separated lines."""
        columns = len(self.layout.columns)
        return Values(self.buffer, self.starts, self.lengths, self.layout.separator, columns)

    def over_lines(self) -> Int64:
        """The records that span lines."""
        if not len(self.inner_ends):
            return self.inner_ends
        before = np.searchsorted(self.inner_ends, self.starts)
        return np.flatnonzero(np.searchsorted(self.inner_ends, self.starts + self.lengths) > before)

    def lines_of(self, record: int) -> Lines:
        """The lines of a record."""
        start = int(self.starts[record])
        end = start + int(self.lengths[record])
        first, last = np.searchsorted(self.inner_ends, (start, end)).tolist()
        inner = self.inner_ends[first:last].tolist()
        begins = [start, *(at + 1 for at in inner)]
        contents = [self.buffer[a:b].tobytes() for a, b in zip(begins, [*inner, end], strict=True)]
        return Lines(int(self.first_lines[record]), [self.offset + at for at in begins], contents)


@dataclass(frozen=True)
class TableChunk:
    """Rows of typed columns, which have no bytes of their own: their lines are made where one is asked for."""

    source: str
    first_record: int
    table: Table
    headers: int = 0
    problem: RecordProblem | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def layout(self) -> Layout:
        """How the lines that are made of rows are to be read."""
        return Layout(False, self.table.columns, self.table.separator)

    def part(self, begin: int, end: int) -> TableChunk:
        """Rows [begin, end) of the chunk."""
        first_record, table = self.first_record + begin, self.table.part(begin, end)
        return replace(self, first_record=first_record, table=table)

    def broken(self, problem: RecordProblem) -> TableChunk:
        """The same one row, which breaks our own code."""
        return replace(self, problem=problem)

    def originals(self, records: Sequence[int]) -> list[bytes]:
        """Rows as lines."""
        return self.table.lines(records)

    def offsets(self, records: Int64) -> Int64:
        """-1 for each row."""
        return np.full(len(records), -1, np.int64)

    def fields(self, catalogue: Catalogue) -> Fields:
        """Where the fields of the rows are."""
        if self.problem is not None:
            return fields_of_broken(len(self), catalogue, self.problem)
        return fields_of_table(self.table, catalogue)

    def values(self) -> Table:
        """The values of all columns that are read."""
        return self.table

    def over_lines(self) -> Int64:
        """None: a row has no lines."""
        return np.zeros(0, np.int64)

    def lines_of(self, record: int) -> Lines:
        """A row as a line."""
        return Lines(self.first_record + record, [-1], self.originals([record]))
