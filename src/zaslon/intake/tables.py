"""Rows of typed columns as text, one column behind the other, and their fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.rejections import Reason
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake.fields import Fields, line_columns, problem_of_reason
from zaslon.intake.number_texts import (
    INTEGER_BYTES_MAX,
    MOMENT_BYTES_MAX,
    write_integers,
    write_moments,
)
from zaslon.intake.splitting import byte_classes, check_texts

Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class Table:
    """The values of n rows, each as the text that a person would write for it.

    Attributes:
        columns: their names, in the order of the file.
        is_free: by column whether it holds texts that somebody wrote, and not numbers and times.
        separator: one byte, between the values of a row's line.
        buffer: the bytes of all values.
        start, length: int64[columns, n]; a length of -1 is a null.
    """

    columns: tuple[str, ...]
    is_free: tuple[bool, ...]
    separator: str
    buffer: UInt8
    start: Int64
    length: Int64

    def __len__(self) -> int:
        return int(self.start.shape[1])

    def part(self, begin: int, end: int) -> Table:
        """Rows [begin, end)."""
        return replace(self, start=self.start[:, begin:end], length=self.length[:, begin:end])

    def of(self, record: int) -> list[bytes]:
        """The values of one row, without blanks around them; empty for a null."""
        (values,) = self._rows([record])
        return [b"" if value is None else value.strip(b" \t") for value in values]

    def lines(self, records: Sequence[int]) -> list[bytes]:
        """Rows as lines of separated text, with quotes where they are needed (RFC 4180)."""
        separator = self.separator.encode()
        meaning = re.compile(b'[\r\n"' + re.escape(separator) + b"]")
        return [
            separator.join(_in_line(value, meaning) for value in values) for values in self._rows(records)
        ]

    def _rows(self, records: Sequence[int]) -> Iterable[list[bytes | None]]:
        content, chosen = self.buffer.data, np.asarray(records, np.int64)
        starts, lengths = self.start[:, chosen].T.tolist(), self.length[:, chosen].T.tolist()
        for places in zip(starts, lengths, strict=True):
            yield [
                None if size < 0 else bytes(content[at : at + size]) for at, size in zip(*places, strict=True)
            ]


def _in_line(value: bytes | None, meaning: re.Pattern[bytes]) -> bytes:
    """A value in a line. An empty text has quotes, which distinguish it from a null."""
    if value is None:
        return b""
    return b'"' + value.replace(b'"', b'""') + b'"' if not value or meaning.search(value) else value


def table_of(frame: pl.DataFrame, is_free: Sequence[bool], separator: str) -> Table:
    """A table of columns of texts, bytes, integers of 64 bits, days, and moments in UTC."""
    start, length = (np.empty((frame.width, len(frame)), np.int64) for _ in range(2))
    pieces, at = [], 0
    for number, column in enumerate(frame):
        piece = _write(column, start[number], length[number])
        start[number] += at
        at += len(piece)
        pieces.append(piece)
    return Table(tuple(frame.columns), tuple(is_free), separator, np.concatenate(pieces), start, length)


def table_of_row(columns: tuple[str, ...], values: Sequence[bytes | None], separator: str) -> Table:
    """A table of one row of texts."""
    content = b"".join(value or b"" for value in values)
    length = np.array([[-1 if value is None else len(value)] for value in values], np.int64)
    start = np.cumsum([0, *(max(size, 0) for size in length[:-1, 0].tolist())]).reshape(-1, 1)
    return Table(columns, (True,) * len(columns), separator, np.frombuffer(content, np.uint8), start, length)


def _write(column: pl.Series, start: Int64, length: Int64) -> UInt8:
    """The texts of a column's values, one behind the other, and where each begins among them."""
    if column.dtype in (pl.String, pl.Binary):
        return _joined(column, start, length)
    value = column.to_physical().cast(pl.Int64).fill_null(0).to_numpy()
    is_null = column.is_null().to_numpy()
    if column.dtype == pl.Int64:
        buffer = np.empty(len(column) * INTEGER_BYTES_MAX, np.uint8)
        return buffer[: write_integers(value, is_null, buffer, start, length)]
    buffer = np.empty(len(column) * MOMENT_BYTES_MAX, np.uint8)
    if column.dtype == pl.Date:
        seconds = value * SECONDS_PER_DAY
        return buffer[: write_moments(seconds, is_null, 1, False, buffer, start, length)]
    per_second = _PER_SECOND[column.dtype.time_unit]  # type: ignore[attr-defined]
    return buffer[: write_moments(value, is_null, per_second, True, buffer, start, length)]


def _joined(column: pl.Series, start: Int64, length: Int64) -> UInt8:
    if column.dtype == pl.Binary:
        content, sizes = b"".join(column.drop_nulls().to_list()), column.bin.size()
    else:
        content, sizes = column.str.join("").item().encode(), column.str.len_bytes()
    length[:] = sizes.cast(pl.Int64).fill_null(-1).to_numpy()
    np.cumsum(np.maximum(length[:-1], 0), out=start[1:])
    start[0] = 0
    return np.frombuffer(content, np.uint8)


def fields_of_table(table: Table, catalogue: Catalogue) -> Fields:
    """The fields of a table's rows, by the rules that hold for those of a line."""
    shape = (len(catalogue.fields), len(table))
    fields = Fields(
        table.buffer, np.zeros(shape, np.int64), np.full(shape, -1, np.int64), np.zeros(len(table), np.uint8)
    )
    classes, most = byte_classes(table.separator), catalogue.record.max_record_bytes
    for column, number in enumerate(line_columns(catalogue, table.columns)):
        start, length = fields.start[number], fields.length[number]
        start[:], length[:] = table.start[column], table.length[column]
        if table.is_free[column]:
            check_texts(table.buffer, classes, start, length, fields.reason)
    fields.reason[_too_long(table, most)] = Reason.TOO_LONG
    for i in np.flatnonzero(fields.reason).tolist():
        reason = Reason(int(fields.reason[i]))
        fields.reject(i, reason, *problem_of_reason(reason, most))
    fields.length[:, fields.reason != 0] = -1
    return fields


def _too_long(table: Table, bytes_max: int) -> list[int]:
    """The rows whose lines are longer than a record may be; lines are made only of those that might be."""
    most = 2 * np.maximum(table.length, 0).sum(axis=0) + 3 * len(table.columns)  # all bytes doubled
    doubtful = np.flatnonzero(most > bytes_max).tolist()
    lines = zip(doubtful, table.lines(doubtful), strict=True)
    return [i for i, line in lines if len(line) > bytes_max]
