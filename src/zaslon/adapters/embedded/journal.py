"""Event log and outcome store in one SQLite file: one transaction per batch."""

from __future__ import annotations

import secrets
import sqlite3
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import orjson

from zaslon.adapters.embedded.id_columns import INTEGER_MAX, column_value, only_of
from zaslon.domain.errors import ArtefactError, SystemRefusedError
from zaslon.domain.events import RecordBatch, TransactionId
from zaslon.domain.outcomes import Decision, LabelAccepted, Outcome, Versions
from zaslon.system.durable import make_directory, sync_directory

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (identity TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS records (
    first_position INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    kinds BLOB NOT NULL,
    arrivals BLOB NOT NULL,
    lengths BLOB NOT NULL,
    content BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS outcomes (
    position INTEGER PRIMARY KEY,
    transaction_id INTEGER,
    outcome BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS outcomes_by_transaction ON outcomes (transaction_id)
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
_FORMAT = 3
_INSERTED_MAX = 128  # outcomes with one statement
_PREPARED = 2 * _INSERTED_MAX  # statements: one for every number of outcomes, and the others


class SqliteJournal:
    """`zaslon.ports.Journal` in a file; WAL, every commit on disk before it returns.

    Every batch carries a checksum, so that a damaged file is not taken for another history.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create the journal; `read_only` opens what another thread or process writes.

        Raises:
            ArtefactError: the file is no journal, is damaged, or is of another format.
            SystemRefusedError: the machine will not let it be opened or written.
        """
        self._path = path
        self._reads: WeakSet[Generator[Any, None, None]] = WeakSet()
        with self._explained():
            if not read_only:
                make_directory(path.parent)
            mode = "ro" if read_only else "rwc"
            address = f"{path.absolute().as_uri()}?mode={mode}"
            self._connection = sqlite3.connect(
                address, uri=True, isolation_level=None, cached_statements=_PREPARED
            )
            self._connection.execute("PRAGMA busy_timeout = 5000")
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
            self._set_up()
            if not read_only:
                sync_directory(path.parent)
            row = self._one("SELECT first_position + count FROM records ORDER BY first_position DESC LIMIT 1")
            self._identity = str(self._one("SELECT identity FROM log")[0])
        self._next_position = int(row[0]) if row else 0

    def _set_up(self) -> None:
        """Check that the tables are ours, or make them in one transaction."""
        found = int(self._one("PRAGMA user_version")[0])
        if found == _FORMAT:
            return
        if found:
            raise ArtefactError(
                f"Journal '{self._path}' has format {found}; this version reads format {_FORMAT}.",
                hint="Use the version of Zaslon that wrote it, or name another home.",
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
                f"Journal '{self._path}' is damaged or no journal: {error}.",
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

    def record(
        self, batch: RecordBatch, outcomes: Sequence[Outcome], cursor: tuple[str, int] | None
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
                self._connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", _as_row(batch))
                named = zip(outcomes, recorded, strict=True)
                self._insert([(o.position, _column_value(o), json) for o, json in named])
            if cursor is not None:
                self._connection.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", cursor)
        self._next_position += len(batch)
        return recorded

    def _insert(self, rows: Sequence[tuple[int, int | None, bytes]]) -> None:
        """Insert outcomes, many with each statement: at every statement another thread may go first."""
        for begin in range(0, len(rows), _INSERTED_MAX):
            part = rows[begin : begin + _INSERTED_MAX]
            values = [value for row in part for value in row]
            places = ",".join(["(?,?,?)"] * len(part))
            statement = f"INSERT INTO outcomes VALUES {places}"  # noqa: S608  places only
            self._connection.execute(statement, values)

    def read(self, from_position: int, to_position: int | None = None) -> Iterator[RecordBatch]:
        """The records of [from_position, to_position), in order.

        Raises:
            ArtefactError: a batch is damaged.
        """
        end = self._next_position if to_position is None else to_position
        rows = self._rows(
            "SELECT first_position, kinds, arrivals, lengths, content, checksum FROM records "
            "WHERE first_position + count > ? AND first_position < ? ORDER BY first_position",
            (from_position, end),
        )
        for row in rows:
            if _checksum(row[1:5]) != row[5]:
                raise ArtefactError(
                    f"Journal '{self._path}' is damaged: the batch at position {row[0]} was changed.",
                    hint="Restore it from a backup.",
                )
            yield _cut(_from_row(row), from_position, end)

    def outcome(self, position: int) -> bytes | None:
        """The recorded JSON of one outcome."""
        if not 0 <= position <= INTEGER_MAX:
            return None
        row = self._one("SELECT outcome FROM outcomes WHERE position = ?", (position,))
        return row[0] if row else None

    def find(self, transaction_id: TransactionId) -> list[tuple[int, bytes]]:
        """(position, JSON) of every outcome of a transaction, oldest first."""
        query = "SELECT position, outcome FROM outcomes WHERE transaction_id = ? ORDER BY position"
        found = list(self._rows(query, (column_value(transaction_id),)))
        return only_of(transaction_id, found)

    def possibly_known(self, transaction_ids: Sequence[TransactionId]) -> set[TransactionId]:
        """Which of these transactions may have outcomes."""
        values = {identifier: column_value(identifier) for identifier in transaction_ids}
        query = (
            "SELECT DISTINCT transaction_id FROM outcomes"
            " WHERE transaction_id IN (SELECT value FROM json_each(?))"
        )
        asked = orjson.dumps([value for value in values.values() if value is not None]).decode()
        found = {row[0] for row in self._rows(query, (asked,))}
        return {identifier for identifier, value in values.items() if value in found}

    def outcomes(self, from_position: int = 0) -> Iterator[tuple[int, bytes]]:
        """(position, JSON) of all outcomes from a position on."""
        query = "SELECT position, outcome FROM outcomes WHERE position >= ? ORDER BY position"
        return self._rows(query, (from_position,))

    def page(self, before_position: int | None, count: int) -> list[tuple[int, bytes]]:
        """(position, JSON) of up to `count` outcomes before a position, newest first."""
        query = "SELECT position, outcome FROM outcomes WHERE position < ? ORDER BY position DESC LIMIT ?"
        return list(self._rows(query, (INTEGER_MAX if before_position is None else before_position, count)))

    def cursor(self, source: str) -> int:
        """How many records of a source are done."""
        row = self._one("SELECT done FROM cursors WHERE source = ?", (source,))
        return int(row[0]) if row else 0

    def serve(self, versions: Versions) -> None:
        """Note which versions decide from the next position on."""
        if self.serving(self._next_position) == versions:
            return
        with self._explained():
            self._connection.execute(
                "INSERT OR REPLACE INTO serving VALUES (?, ?, ?, ?, ?)",
                (self._next_position, *astuple(versions)),
            )

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


def _column_value(outcome: Outcome) -> int | None:
    return column_value(outcome.transaction_id) if isinstance(outcome, Decision | LabelAccepted) else None


def _as_row(batch: RecordBatch) -> tuple[object, ...]:
    blobs = (
        batch.kinds.astype(np.uint8).tobytes(),
        batch.arrival_time_seconds.astype("<i8").tobytes(),
        batch.lengths.astype("<i8").tobytes(),
        _content(batch),
    )
    return batch.first_position, len(batch), *blobs, _checksum(blobs)


def _checksum(blobs: Sequence[bytes]) -> int:
    """CRC-32 of a batch's columns."""
    found = 0
    for blob in blobs:
        found = zlib.crc32(blob, found)
    return found


def _content(batch: RecordBatch) -> bytes:
    """The records' bytes one after the other, without what may lie between them in the buffer."""
    ends = batch.starts + batch.lengths
    if len(batch) == 1 or np.array_equal(ends[:-1], batch.starts[1:]):
        return batch.buffer[int(batch.starts[0]) : int(ends[-1])].tobytes()
    return b"".join(batch.raw(i) for i in range(len(batch)))


def _from_row(row: tuple[int, bytes, bytes, bytes, bytes, int]) -> RecordBatch:
    first_position, kinds, arrivals, lengths_blob, content, _ = row
    lengths = np.frombuffer(lengths_blob, "<i8").astype(np.int64)
    return RecordBatch(
        first_position,
        np.frombuffer(kinds, np.uint8),
        np.frombuffer(arrivals, "<i8").astype(np.int64),
        np.frombuffer(content, np.uint8),
        np.cumsum(lengths) - lengths,
        lengths,
    )


def _cut(batch: RecordBatch, begin: int, end: int) -> RecordBatch:
    part = slice(max(begin - batch.first_position, 0), min(end - batch.first_position, len(batch)))
    return RecordBatch(
        batch.first_position + part.start,
        batch.kinds[part],
        batch.arrival_time_seconds[part],
        batch.buffer,
        batch.starts[part],
        batch.lengths[part],
    )
