"""Event log and outcome store in one SQLite file: one transaction per batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import RecordBatch
from zaslon.domain.outcomes import Decision, LabelAccepted, Outcome, Versions

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    first_position INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    kinds BLOB NOT NULL,
    arrivals BLOB NOT NULL,
    lengths BLOB NOT NULL,
    content BLOB NOT NULL
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
    catalogue TEXT NOT NULL
) STRICT;
"""
_FORMAT = 1
_POSITION_MAX = 2**63 - 1


class SqliteJournal:
    """`zaslon.ports.Journal` in a file; WAL, every commit on disk before it returns."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create the journal; `read_only` opens what another thread or process writes.

        Raises:
            ArtefactError: the file is no journal, is damaged, or is of a newer format.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            mode = "ro" if read_only else "rwc"
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None
            )
            self._connection.execute("PRAGMA busy_timeout = 5000")
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
            found = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
            if found > _FORMAT:
                raise ArtefactError(
                    f"Journal '{path}' has format {found}; this version reads up to {_FORMAT}.",
                    hint="Use a newer Zaslon.",
                )
            if not read_only:
                self._connection.executescript(_SCHEMA)
                self._connection.execute(f"PRAGMA user_version = {_FORMAT}")
            row = self._connection.execute(
                "SELECT first_position + count FROM records ORDER BY first_position DESC LIMIT 1"
            ).fetchone()
        except sqlite3.DatabaseError as error:
            raise ArtefactError(
                f"Journal '{path}' cannot be opened: {error}.",
                hint="Restore it from a backup, or name another home.",
            ) from error
        self._next_position = int(row[0]) if row else 0

    @property
    def next_position(self) -> int:
        """Position of the next record."""
        return self._next_position

    def record(self, batch: RecordBatch, outcomes: Sequence[Outcome], cursor: tuple[str, int] | None) -> None:
        """Append a batch and its outcomes in one transaction (see the port)."""
        if batch.first_position != self._next_position or len(outcomes) != len(batch):
            raise ValueError("the batch does not continue the journal, or lacks outcomes")
        if len(batch) == 0 and cursor is None:
            return
        try:
            with self._connection:  # commits, or rolls back if anything raises
                self._write(batch, outcomes, cursor)
        except sqlite3.Error as error:
            raise ArtefactError(
                f"Journal '{self._path}' cannot be written: {error}.",
                hint="Make room on the disk, and let one process at a time write to a home.",
            ) from error
        self._next_position += len(batch)

    def _write(self, batch: RecordBatch, outcomes: Sequence[Outcome], cursor: tuple[str, int] | None) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        if len(batch):
            self._connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", _as_row(batch))
            self._connection.executemany(
                "INSERT INTO outcomes VALUES (?, ?, ?)",
                ((o.position, _transaction_id(o), o.to_json()) for o in outcomes),
            )
        if cursor is not None:
            self._connection.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", cursor)

    def read(self, from_position: int, to_position: int | None = None) -> Iterator[RecordBatch]:
        """The records of [from_position, to_position), in order."""
        end = self._next_position if to_position is None else to_position
        rows = self._connection.execute(
            "SELECT first_position, count, kinds, arrivals, lengths, content FROM records "
            "WHERE first_position + count > ? AND first_position < ? ORDER BY first_position",
            (from_position, end),
        )
        for row in rows:
            yield _cut(_from_row(row), from_position, end)

    def outcome(self, position: int) -> bytes | None:
        """The recorded JSON of one outcome."""
        row = self._connection.execute(
            "SELECT outcome FROM outcomes WHERE position = ?", (position,)
        ).fetchone()
        return bytes(row[0]) if row else None

    def find(self, transaction_id: int) -> list[tuple[int, bytes]]:
        """(position, JSON) of every outcome of a transaction, oldest first."""
        rows = self._connection.execute(
            "SELECT position, outcome FROM outcomes WHERE transaction_id = ? ORDER BY position",
            (transaction_id,),
        )
        return [(int(position), bytes(outcome)) for position, outcome in rows]

    def outcomes(self, from_position: int = 0) -> Iterator[tuple[int, bytes]]:
        """(position, JSON) of all outcomes from a position on."""
        rows = self._connection.execute(
            "SELECT position, outcome FROM outcomes WHERE position >= ? ORDER BY position",
            (from_position,),
        )
        for position, outcome in rows:
            yield int(position), bytes(outcome)

    def page(self, before_position: int | None, count: int) -> list[tuple[int, bytes]]:
        """(position, JSON) of up to `count` outcomes before a position, newest first."""
        rows = self._connection.execute(
            "SELECT position, outcome FROM outcomes WHERE position < ? ORDER BY position DESC LIMIT ?",
            (_POSITION_MAX if before_position is None else before_position, count),
        )
        return [(int(position), bytes(outcome)) for position, outcome in rows]

    def cursor(self, source: str) -> int:
        """How many records of a source are done."""
        row = self._connection.execute("SELECT done FROM cursors WHERE source = ?", (source,)).fetchone()
        return int(row[0]) if row else 0

    def serve(self, versions: Versions) -> None:
        """Note which versions decide from the next position on."""
        if self.serving(self._next_position) == versions:
            return
        self._connection.execute(
            "INSERT OR REPLACE INTO serving VALUES (?, ?, ?, ?)",
            (self._next_position, versions.model, versions.policy, versions.catalogue),
        )

    def serving(self, position: int) -> Versions | None:
        """Which versions decided at a position."""
        row = self._connection.execute(
            "SELECT model, policy, catalogue FROM serving WHERE from_position <= ? "
            "ORDER BY from_position DESC LIMIT 1",
            (position,),
        ).fetchone()
        return Versions(*row) if row else None

    def close(self) -> None:
        """Close the file; the journal cannot be used afterwards."""
        self._connection.close()


def _transaction_id(outcome: Outcome) -> int | None:
    return outcome.transaction_id if isinstance(outcome, Decision | LabelAccepted) else None


def _as_row(batch: RecordBatch) -> tuple[int, int, bytes, bytes, bytes, bytes]:
    return (
        batch.first_position,
        len(batch),
        batch.kinds.astype(np.uint8).tobytes(),
        batch.arrival_time_seconds.astype("<i8").tobytes(),
        batch.lengths.astype("<i8").tobytes(),
        _content(batch),
    )


def _content(batch: RecordBatch) -> bytes:
    """The records' bytes one after the other, without what may lie between them in the buffer."""
    ends = batch.starts + batch.lengths
    if len(batch) == 1 or np.array_equal(ends[:-1], batch.starts[1:]):
        return batch.buffer[int(batch.starts[0]) : int(ends[-1])].tobytes()
    return b"".join(batch.raw(i) for i in range(len(batch)))


def _from_row(row: tuple[int, int, bytes, bytes, bytes, bytes]) -> RecordBatch:
    first_position, _, kinds, arrivals, lengths_blob, content = row
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
