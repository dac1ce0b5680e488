"""The format of typed records in a log: one block of bytes per batch, for SQLite and Kafka alike.

    header     magic, format, positions, counts, the catalogue's mapping, CRC-32 of everything else
    columns    little-endian, one after the other, the widest first, so that all of them are aligned
    ids        where they are texts: as many bytes for each as the longest of the batch has
    rejections JSON, where there are any: for each its problems [[reason, field, problem, expected], …]
    change     JSON, of a batch that is one: what decides from here on

The original bytes are not part of it: they are kept separately, and not for as long. Why this format:
docs/decisions/0016.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import (
    ID_BYTES_MAX,
    ID_TEXT,
    Change,
    EntryKind,
    IdText,
    Labels,
    LogBatch,
    Rejected,
    Transactions,
)
from zaslon.domain.rejections import Reason, RecordProblem

FORMAT = 4  # raise it with any change of what is written
# Of a batch without a change, which format 4 writes as before: a standby of an earlier release reads on until there
# is one. In a change of format 3, the ledger's entry is in the words only.
_WITHOUT_ENTRY = 3
_MAGIC = b"ZLOG"
_PRELUDE = struct.Struct("<4sI")  # magic and checksum of everything behind it
_LABEL, _REJECTED = int(EntryKind.LABEL), int(EntryKind.REJECTED)
_INT64, _FLOAT64 = np.dtype("<i8"), np.dtype("<f8")
_UINT64, _UINT32, _INT8, _UINT8 = np.dtype("<u8"), np.dtype("<u4"), np.dtype("i1"), np.dtype("u1")


class _Header(NamedTuple):
    """The header before the columns. Widths are bytes of each id; rejections are bytes in all."""

    magic: bytes
    checksum: int
    format: int
    transaction_id_width: int
    label_id_width: int
    records: int
    first_position: int
    mapping: bytes
    transactions: int
    labels: int
    rejections: int
    labels_are_live: bool


_HEADER = struct.Struct("<4sIHBBIq8sIII?3x")


def encode(batch: LogBatch, catalogue: Catalogue) -> bytes:
    """The typed part of a batch as bytes; the same batch always gives the same bytes."""
    rejections = _rejections(batch.rejected)
    transactions, labels = batch.transactions, batch.labels
    widths = _width(transactions.id_text), _width(labels.id_text)
    header = _Header(
        _MAGIC, 0, _WITHOUT_ENTRY if batch.change is None else FORMAT, *widths, len(batch), batch.first_position, _mapping(catalogue),
        len(transactions), len(labels), len(rejections), labels.are_live,
    )  # fmt: skip
    parts = [column.astype(dtype, copy=False).tobytes() for dtype, column in _columns(batch, catalogue)]
    texts = (transactions.id_text, labels.id_text)
    parts += [_cut(text, width) for text, width in zip(texts, widths, strict=True)]
    content = b"".join([_HEADER.pack(*header)[_PRELUDE.size :], *parts, rejections, _change(batch.change)])
    return _PRELUDE.pack(_MAGIC, zlib.crc32(content)) + content


def decode(content: bytes, catalogue: Catalogue) -> LogBatch:
    """The batch that `encode` wrote, without original bytes.

    Raises:
        ArtefactError: it is damaged, of another format, or was written with another catalogue's fields.
    """
    block = bytearray(content)  # ours: arrays that can be written, as compiled code expects them
    header = _checked_header(block, catalogue)
    columns = _Columns(block, header.records, header.transactions, header.labels)
    try:
        return _batch(columns, header, catalogue)
    except (ValueError, TypeError, orjson.JSONDecodeError) as error:
        raise _damaged(header) from error


def _columns(batch: LogBatch, catalogue: Catalogue) -> Iterator[tuple[np.dtype[Any], NDArray[Any]]]:
    """All columns in the order in which they are written; `_batch` reads them in the same."""
    transactions, labels = batch.transactions, batch.labels
    yield _INT64, batch.arrival_time_seconds
    yield _INT64, transactions.transaction_id
    yield _INT64, transactions.event_time_seconds
    yield _INT64, transactions.amount_minor
    for name in catalogue.entities:
        yield _INT64, transactions.entity_keys[name]
    yield _UINT64, transactions.digest
    for name in catalogue.number_fields:
        yield _FLOAT64, transactions.numbers[name]
    yield _INT64, labels.transaction_id
    yield _UINT32, transactions.flags
    yield _UINT8, batch.kind
    yield _UINT8, batch.degradation
    yield _INT8, transactions.is_fraud
    yield _INT8, transactions.scenario
    yield _UINT8, labels.is_fraud


class _Columns:
    """Reads columns from the front of a block to its end."""

    def __init__(self, block: bytearray, records: int, transactions: int, labels: int) -> None:
        self._block, self._offset = block, _HEADER.size
        self.records, self.transactions, self.labels = records, transactions, labels

    def next(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        column = np.frombuffer(self._block, dtype, count, self._offset)
        self._offset += column.nbytes
        return column

    def id_text(self, width: int, count: int, *, are_texts: bool) -> IdText | None:
        texts = self.next(_UINT8, width * count).reshape(count, width)
        if not are_texts:
            return None
        wide = np.zeros((count, ID_BYTES_MAX), np.uint8)
        wide[:, :width] = texts
        return wide.view(ID_TEXT).reshape(count)

    def rest(self, rejections: int) -> tuple[bytes, bytes]:
        """The bytes of the rejections and of the change."""
        end = self._offset + rejections
        return bytes(self._block[self._offset : end]), bytes(self._block[end:])


def _batch(columns: _Columns, header: _Header, catalogue: Catalogue) -> LogBatch:
    records, transactions, labels = header.records, header.transactions, header.labels
    arrival = columns.next(_INT64, records)
    identifier, moment, amount = (columns.next(_INT64, transactions) for _ in range(3))
    keys = {name: columns.next(_INT64, transactions) for name in catalogue.entities}
    digest = columns.next(_UINT64, 2 * transactions).reshape(-1, 2)
    numbers = {name: columns.next(_FLOAT64, transactions) for name in catalogue.number_fields}
    label_id = columns.next(_INT64, labels)
    flags = columns.next(_UINT32, transactions)
    kind, degradation = (columns.next(_UINT8, records) for _ in range(2))
    is_fraud, scenario = (columns.next(_INT8, transactions) for _ in range(2))
    verdict = columns.next(_UINT8, labels).astype(np.bool_)
    texts = columns.id_text(header.transaction_id_width, transactions, are_texts=catalogue.has_text_ids)
    label_texts = columns.id_text(header.label_id_width, labels, are_texts=catalogue.has_text_ids)
    rejections, change = columns.rest(header.rejections)
    return LogBatch(
        header.first_position, kind, degradation, arrival,
        Transactions(identifier, moment, amount, keys, numbers, flags, digest, is_fraud, scenario, texts),
        Labels(label_id, verdict, arrival[kind == _LABEL], label_texts, header.labels_are_live),
        _rejected(rejections, np.flatnonzero(kind == _REJECTED)),
        change=_read_change(change, header.format) if change else None,
    )  # fmt: skip


def _checked_header(block: bytearray, catalogue: Catalogue) -> _Header:
    if len(block) < _HEADER.size or block[:4] != _MAGIC:
        raise ArtefactError("A batch of the log is damaged: it has no header.", hint=_RESTORE)
    header = _Header(*_HEADER.unpack_from(block))
    if header.checksum != zlib.crc32(memoryview(block)[_PRELUDE.size :]):
        raise _damaged(header)
    if header.format not in (_WITHOUT_ENTRY, FORMAT):
        raise ArtefactError(
            f"The log has format {header.format} at position {header.first_position}; this version reads"
            f" format {FORMAT}.",
            hint="Use the version of Zaslon that wrote it, or begin a new log: `zaslon run`.",
        )
    if header.mapping != _mapping(catalogue):
        raise ArtefactError(
            f"The log was written with other fields than those of {catalogue.label} at position"
            f" {header.first_position}.",
            hint="Use the catalogue it was written with, or begin a new log: `zaslon run`.",
        )
    return header


_RESTORE = "Restore the log from a backup."


def _damaged(header: _Header) -> ArtefactError:
    return ArtefactError(
        f"The log is damaged: the batch at position {header.first_position} was changed.", hint=_RESTORE
    )


def _mapping(catalogue: Catalogue) -> bytes:
    """What the columns depend on."""
    return bytes.fromhex(catalogue.mapping_hash).ljust(8, b"\0")


def _width(texts: IdText | None) -> int:
    return 0 if texts is None or not len(texts) else int(np.strings.str_len(texts).max())


def _cut(texts: IdText | None, width: int) -> bytes:
    if texts is None or not width:
        return b""
    return np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), ID_BYTES_MAX)[:, :width].tobytes()


def _rejections(rejected: Rejected) -> bytes:
    if not len(rejected):
        return b""
    return orjson.dumps([[list(problem) for problem in problems] for problems in rejected.problems])


def _change(change: Change | None) -> bytes:
    return b"" if change is None else orjson.dumps(change)


def _read_change(content: bytes, version: int) -> Change:
    read = Change.with_entry_in_words if version == _WITHOUT_ENTRY else Change
    return read(**orjson.loads(content))


def _rejected(content: bytes, index: NDArray[np.int64]) -> Rejected:
    rows = orjson.loads(content) if content else []
    if len(rows) != len(index):
        raise ValueError("rejections and their records disagree")
    return Rejected(index, [tuple(_problem(*problem) for problem in row) for row in rows])


def _problem(reason: int, field: str | None, problem: str, expected: str | None) -> RecordProblem:
    return RecordProblem(Reason(reason), field, problem, expected)
