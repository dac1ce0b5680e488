"""Event log and outcome store in one SQLite file: one transaction per batch."""

from __future__ import annotations

import os
import secrets
import sqlite3
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from itertools import starmap
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np

from zaslon.adapters.embedded.id_columns import INTEGER_MAX, column_value, first_of, only_of
from zaslon.adapters.embedded.sqlite_file import BUSY_MS, open_file
from zaslon.admission.log_format import decode, encode
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import ArtefactError, SystemRefusedError
from zaslon.domain.events import LogBatch, Originals, TransactionId
from zaslon.domain.outcomes import ChangeMade, Decision, Outcome, Rejection, Serving, Versions
from zaslon.domain.recorded import Recorded, read_rejection
from zaslon.system.durable import sync_directory

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (identity TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS batches (
    first_position INTEGER PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS originals (
    first_position INTEGER PRIMARY KEY,
    arrival INTEGER NOT NULL,
    lengths BLOB NOT NULL,
    content BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS originals_by_arrival ON originals (arrival);
CREATE TABLE IF NOT EXISTS outcomes (
    position INTEGER PRIMARY KEY,
    transaction_id INTEGER,
    kind INTEGER NOT NULL,
    outcome BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS outcomes_by_transaction ON outcomes (transaction_id, kind)
    WHERE transaction_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS cursors (source TEXT PRIMARY KEY, done INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS serving (
    from_position INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    policy TEXT NOT NULL,
    catalogue TEXT NOT NULL,
    engine INTEGER NOT NULL
) STRICT;
"""
_READ_TYPED = """
SELECT first_position, content FROM batches
WHERE first_position >= coalesce((
    SELECT first_position FROM batches WHERE first_position <= ?1 ORDER BY first_position DESC LIMIT 1
), 0) AND first_position < ?2 ORDER BY first_position
"""
_READ_ALL = """
SELECT b.first_position, b.content, o.lengths, o.content, o.checksum
FROM batches AS b LEFT JOIN originals AS o USING (first_position)
WHERE b.first_position >= coalesce((
    SELECT first_position FROM batches WHERE first_position <= ?1 ORDER BY first_position DESC LIMIT 1
), 0) AND b.first_position < ?2 ORDER BY b.first_position
"""
_NEWEST_DECISION = """
SELECT position, outcome FROM outcomes
WHERE transaction_id = ? AND kind = 0 AND position < ? ORDER BY position DESC
"""
_REJECTIONS = """
SELECT position, outcome FROM outcomes WHERE position >= ? AND position < ? AND kind = ?
"""
_DUE_ORIGINALS = """
SELECT first_position, length(lengths) / 8, length(content) FROM originals
WHERE arrival < ? ORDER BY arrival LIMIT ?
"""
# How many bytes take as long to remove as a record does; how many records a batch by itself and a rejection,
# whose outcome is written again, take as long as.
_BYTES_AS_RECORD, _BATCH_AS_RECORDS, _REJECTION_AS_RECORDS = 1_000, 40, 40
_FORMAT = 5
_DECISION, _LABEL, _REJECTION, _CHANGE = 0, 1, 2, 3  # in column `kind`
_INSERTED_MAX = 128  # outcomes with one statement
_PREPARED = 2 * _INSERTED_MAX  # statements: one for every number of outcomes, and the others


class SqliteJournal:
    """`zaslon.ports.Journal` in a file; WAL, every commit on disk before it returns.

    Every batch carries a checksum, so that a damaged file is not taken for another history. Original
    bytes are in a separate table; SQLite overwrites with zeros what is removed there.
    """

    def __init__(self, path: Path, catalogue: Catalogue, *, read_only: bool = False) -> None:
        """Open or create the journal; `read_only` opens what another thread or process writes.

        Args:
            path: the file.
            catalogue: whose fields the typed records have.
            read_only: for those who only look.

        Raises:
            ArtefactError: the file is not a journal, is damaged, or is of another format.
            SystemRefusedError: the machine will not let it be opened or written.
        """
        self._path, self._catalogue = path, catalogue
        self._is_removing = True  # a process before this one may have been killed while it did
        self._reads: WeakSet[Generator[Any, None, None]] = WeakSet()
        with self._explained():
            self._connection = open_file(path, read_only=read_only, cached_statements=_PREPARED)
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA secure_delete = ON")
            self._set_up()
            if not read_only:
                sync_directory(path.parent)
            self._identity = str(self._one("SELECT identity FROM log")[0])
            self._next_position = self._recorded()
            self._file = path.stat()

    def _set_up(self) -> None:
        """Check that the tables are ours, or make them in one transaction."""
        found = int(self._one("PRAGMA user_version")[0])
        if found == _FORMAT:
            return
        if found:
            raise ArtefactError(
                f"Journal '{self._path}' has format {found}; this version reads format {_FORMAT}.",
                hint="Use the version of Zaslon that wrote it, or begin a new log: `zaslon run` again.",
            )
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
            self._connection.execute(
                "INSERT INTO log SELECT ? WHERE NOT EXISTS (SELECT * FROM log)", (secrets.token_hex(8),)
            )
            self._connection.execute(f"PRAGMA user_version = {_FORMAT}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as sentences."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise SystemRefusedError(
                f"Journal '{self._path}' cannot be used: {error}.",
                hint="Look at the free space and the permissions there.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise ArtefactError(
                f"Journal '{self._path}' is damaged or not a journal: {error}.",
                hint="Restore it from a backup, or name another home.",
            ) from error

    @property
    def identity(self) -> str:
        """Names this log and no other."""
        return self._identity

    @property
    def next_position(self) -> int:
        """Position of the next record."""
        return self._next_position

    def refresh(self) -> bool:
        """See what was recorded since; a run puts another file in this place (see the port)."""
        with self._explained():
            self._next_position = self._recorded()
            return self._path.exists() and os.path.samestat(self._path.stat(), self._file)

    def _recorded(self) -> int:
        row = self._one("SELECT position FROM outcomes ORDER BY position DESC LIMIT 1")
        return int(row[0]) + 1 if row else 0

    def record(
        self, batch: LogBatch, outcomes: Sequence[Outcome], cursor: tuple[str, int] | None
    ) -> list[bytes]:
        """Append a batch and its outcomes in one transaction (see the port)."""
        if batch.first_position != self._next_position or len(outcomes) != len(batch):
            raise ValueError("the batch does not continue the journal, or lacks outcomes")
        recorded = [outcome.to_json() for outcome in outcomes]
        if not recorded and cursor is None:
            return recorded
        with self._explained(), self._connection:  # commits, or rolls back if anything raises
            self._connection.execute("BEGIN IMMEDIATE")
            if recorded:
                self._insert_batch(batch)
                named = zip(outcomes, recorded, strict=True)
                self._insert([(o.position, *_columns_of(o), json) for o, json in named])
                if batch.change is not None:
                    self._insert_serving_of(outcomes[0])
            if cursor is not None:
                self._connection.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", cursor)
        self._next_position += len(batch)
        return recorded

    def _insert_batch(self, batch: LogBatch) -> None:
        row = (batch.first_position, encode(batch, self._catalogue))
        self._connection.execute("INSERT INTO batches VALUES (?, ?)", row)
        if batch.originals is not None:
            blobs = _lengths_and_content(batch.originals, self._catalogue.record.max_record_bytes)
            arrival = int(batch.arrival_time_seconds.max())
            row_of_originals = (batch.first_position, arrival, *blobs, _checksum(blobs))
            self._connection.execute("INSERT INTO originals VALUES (?, ?, ?, ?, ?)", row_of_originals)

    def _insert(self, rows: Sequence[tuple[int, int | None, int, bytes]]) -> None:
        """Insert outcomes, many with each statement: at every statement another thread may go first."""
        for begin in range(0, len(rows), _INSERTED_MAX):
            part = rows[begin : begin + _INSERTED_MAX]
            values = [value for row in part for value in row]
            places = ",".join(["(?,?,?,?)"] * len(part))
            statement = f"INSERT INTO outcomes VALUES {places}"  # noqa: S608  places only
            self._connection.execute(statement, values)

    def read(
        self, from_position: int, to_position: int | None = None, *, originals: bool = True
    ) -> Iterator[LogBatch]:
        """The records of [from_position, to_position), in order.

        Raises:
            ArtefactError: a batch is damaged.
        """
        end = self._next_position if to_position is None else to_position
        query = _READ_ALL if originals else _READ_TYPED
        for row in self._rows(query, (from_position, end)):
            batch = self._decoded(row[1])
            if originals and row[2] is not None:
                batch = replace(batch, originals=self._originals(row))
            part = batch.part(from_position - batch.first_position, end - batch.first_position)
            if len(part):
                yield part

    def _decoded(self, content: bytes) -> LogBatch:
        try:
            return decode(content, self._catalogue)
        except ArtefactError as error:
            raise ArtefactError(f"Journal '{self._path}': {error.message}", hint=error.hint) from error

    def _originals(self, row: tuple[int, bytes, bytes, bytes, int]) -> Originals:
        first_position, _, lengths_blob, content, checksum = row
        if _checksum((lengths_blob, content)) != checksum:
            raise ArtefactError(
                f"Journal '{self._path}': The log is damaged: the original bytes of the batch at position"
                f" {first_position} were changed.",
                hint="Restore the log from a backup.",
            )
        lengths = np.frombuffer(lengths_blob, "<i8").astype(np.int64)
        return Originals(np.frombuffer(content, np.uint8), np.cumsum(lengths) - lengths, lengths)

    def outcome(self, position: int) -> bytes | None:
        """The recorded JSON of one outcome."""
        if not 0 <= position <= INTEGER_MAX:
            return None
        row = self._one("SELECT outcome FROM outcomes WHERE position = ?", (position,))
        return row[0] if row else None

    def find(self, transaction_id: TransactionId) -> list[Recorded]:
        """Every outcome of a transaction, oldest first."""
        query = "SELECT position, outcome FROM outcomes WHERE transaction_id = ? ORDER BY position"
        return only_of(transaction_id, self._rows(query, (column_value(transaction_id),)))

    def newest_decision(
        self, transaction_id: TransactionId, before_position: int | None = None
    ) -> Recorded | None:
        """The newest decision about a transaction before a position."""
        values = (column_value(transaction_id), INTEGER_MAX if before_position is None else before_position)
        return first_of(transaction_id, self._rows(_NEWEST_DECISION, values))

    def newest_decisions(
        self, transactions: Sequence[tuple[TransactionId, int]]
    ) -> list[tuple[TransactionId, Recorded]]:
        """The newest decision about each transaction (see `zaslon.ports.archives.ServedDecisions`)."""
        found = ((named, self.newest_decision(named)) for named, _ in transactions)
        return [(named, decision) for named, decision in found if decision is not None]

    def outcomes(self, from_position: int = 0) -> Iterator[Recorded]:
        """All outcomes from a position on."""
        query = "SELECT position, outcome FROM outcomes WHERE position >= ? ORDER BY position"
        return starmap(Recorded, self._rows(query, (from_position,)))

    def page(self, before_position: int | None, count: int) -> list[Recorded]:
        """Up to `count` outcomes before a position, newest first."""
        query = "SELECT position, outcome FROM outcomes WHERE position < ? ORDER BY position DESC LIMIT ?"
        before = INTEGER_MAX if before_position is None else before_position
        return [Recorded(*row) for row in self._rows(query, (before, count))]

    def cursor(self, source: str) -> int:
        """How many records of a source are done."""
        row = self._one("SELECT done FROM cursors WHERE source = ?", (source,))
        return int(row[0]) if row else 0

    def serve(self, versions: Versions) -> None:
        """Note which versions decide from the next position on."""
        if self.serving(self._next_position) == versions:
            return
        with self._explained():
            self._insert_serving(self._next_position, versions)

    def _insert_serving_of(self, outcome: Outcome) -> None:
        """Note what a change made decide; one that was rejected made nothing."""
        if isinstance(outcome, ChangeMade):
            self._insert_serving(outcome.position, outcome.versions)

    def _insert_serving(self, from_position: int, versions: Versions) -> None:
        row = (from_position, *astuple(versions))
        self._connection.execute("INSERT OR REPLACE INTO serving VALUES (?, ?, ?, ?, ?)", row)

    def serving(self, position: int) -> Versions | None:
        """Which versions decided at a position."""
        if not 0 <= position <= INTEGER_MAX:
            return None
        row = self._one(
            "SELECT model, policy, catalogue, engine FROM serving WHERE from_position <= ? "
            "ORDER BY from_position DESC LIMIT 1",
            (position,),
        )
        return Versions(*row) if row else None

    def servings(self) -> Iterator[Serving]:
        """Everything that has decided, newest first."""
        query = (
            "SELECT from_position, model, policy, catalogue, engine FROM serving ORDER BY from_position DESC"
        )
        for position, *versions in list(self._rows(query, ())):
            batch = next(self.read(position, position + 1, originals=False), None)
            seconds = None if batch is None else int(batch.arrival_time_seconds[0])
            yield Serving(position, seconds, Versions(*versions), None if batch is None else batch.change)

    def forget_originals(self, before_seconds: int, records_max: int) -> bool:
        """Remove the original bytes of the oldest batches (see the port)."""
        most = records_max // _BATCH_AS_RECORDS + 2
        due = list(self._rows(_DUE_ORIGINALS, (before_seconds, most)))
        with self._explained():
            if due:
                self._is_removing = True
                with self._connection:
                    self._connection.execute("BEGIN IMMEDIATE")
                    due = self._forget_batches(due, records_max)
            if self._is_removing and not due:
                self._is_removing = not self._cut_write_ahead_log()
        return bool(due)

    def _forget_batches(
        self, due: Sequence[tuple[int, int, int]], records_max: int
    ) -> list[tuple[int, int, int]]:
        """Remove the original bytes of the first of some batches; returns the others."""
        cost = 0
        for done, (first_position, records, size) in enumerate(due):
            cost += _BATCH_AS_RECORDS + records + size // _BYTES_AS_RECORD
            if done and cost > records_max:
                return list(due[done:])
            cost += _REJECTION_AS_RECORDS * self._forget_batch(first_position)
        return []

    def _cut_write_ahead_log(self) -> bool:
        """Write it back and cut it off: it holds pages as they were. False where a reader needs it."""
        self._connection.execute("PRAGMA busy_timeout = 0")  # decisions do not wait for a reader
        is_busy, *_ = self._one("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        return not is_busy

    def _forget_batch(self, first_position: int) -> int:
        """Remove the original bytes of a batch; returns how many of its records are rejections."""
        (content,) = self._one("SELECT content FROM batches WHERE first_position = ?", (first_position,))
        batch = self._decoded(content)
        self._connection.execute("DELETE FROM originals WHERE first_position = ?", (first_position,))
        if len(batch.rejected):
            typed = encode(batch.without_originals(), self._catalogue)
            self._connection.execute(
                "UPDATE batches SET content = ? WHERE first_position = ?", (typed, first_position)
            )
        rows = list(self._rows(_REJECTIONS, (first_position, batch.end_position, _REJECTION)))
        for position, outcome in rows:
            row = (read_rejection(outcome).forgotten().to_json(), position)
            self._connection.execute("UPDATE outcomes SET outcome = ? WHERE position = ?", row)
        return len(rows)

    def close(self) -> None:
        """Close the file; the journal cannot be used afterwards, and who still reads in it is at its end."""
        for rows in tuple(self._reads):  # one left open would keep SQLite's files open beside it
            rows.close()
        self._connection.close()

    def _rows(self, query: str, values: Sequence[object]) -> Iterator[Any]:
        rows = self._fetched(query, values)
        self._reads.add(rows)
        return rows

    def _fetched(self, query: str, values: Sequence[object]) -> Generator[Any, None, None]:
        with self._explained():
            yield from self._connection.execute(query, values)

    def _one(self, query: str, values: Sequence[object] = ()) -> Any:
        """The first row, or None."""
        return next(self._rows(query, values), None)


def _columns_of(outcome: Outcome) -> tuple[int | None, int]:
    """Transaction and kind of an outcome; what is rejected is not found by its transaction."""
    if isinstance(outcome, Rejection | ChangeMade):
        return None, _REJECTION if isinstance(outcome, Rejection) else _CHANGE
    return column_value(outcome.transaction_id), _DECISION if isinstance(outcome, Decision) else _LABEL


def _checksum(blobs: Sequence[bytes]) -> int:
    """CRC-32 of a batch's columns."""
    found = 0
    for blob in blobs:
        found = zlib.crc32(blob, found)
    return found


def _lengths_and_content(originals: Originals, bytes_max: int) -> tuple[bytes, bytes]:
    """The lengths of records, and their bytes one after the other without what may lie between them.

    A longer record was rejected as `too_long`, and is cut: a call may have megabytes.
    """
    starts, lengths = originals.starts, np.minimum(originals.lengths, bytes_max)
    cut = Originals(originals.buffer, starts, lengths)
    ends = starts + lengths
    if len(starts) == 1 or np.array_equal(ends[:-1], starts[1:]):
        content = cut.buffer[int(starts[0]) : int(ends[-1])].tobytes()
    else:
        content = b"".join(cut.of(i) for i in range(len(starts)))
    return lengths.astype("<i8").tobytes(), content
