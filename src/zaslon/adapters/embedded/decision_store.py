"""Decisions of a log that is kept elsewhere, copied into one SQLite file so that they can be looked up."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from zaslon.adapters.embedded.id_columns import INTEGER_MAX, column_value, first_of, only_of
from zaslon.adapters.embedded.sqlite_file import copy_explained, open_file
from zaslon.domain.events import TransactionId
from zaslon.domain.recorded import Recorded

_FORMAT = 1
_SCHEMA = """
CREATE TABLE decisions (
    position INTEGER PRIMARY KEY,
    transaction_id INTEGER NOT NULL,
    outcome BLOB NOT NULL
) STRICT;
CREATE INDEX decisions_by_transaction ON decisions (transaction_id);
CREATE TABLE place (one INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT;
"""


class SqliteDecisions:
    """`zaslon.ports.DecisionStore`: a copy, so an unusable file is replaced by a new one.

    Args:
        path: the file.
        records_max: decisions further than so many log positions behind the newest one are dropped.
        read_only: opens what another thread writes.

    Raises:
        SystemRefusedError: the machine will not let it be opened or written.
    """

    def __init__(self, path: Path, records_max: int, *, read_only: bool = False) -> None:
        self._path, self._records_max = path, records_max
        with self._explained():
            if not read_only:
                _make_room(path)
            self._connection = open_file(path, read_only=read_only, check_same_thread=False)
            if not read_only:
                self._set_up()
            row = self._connection.execute("SELECT max(position) FROM decisions").fetchone()
        self._newest = -1 if row[0] is None else int(row[0])

    def _set_up(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        # What a loss of power destroys is copied again: no need to wait for the disk.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if self._connection.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")

    def _explained(self) -> AbstractContextManager[None]:
        return copy_explained("The copy of decisions", self._path)

    @property
    def checkpoint(self) -> bytes:
        """Where the log is read next (see the port)."""
        with self._explained():
            row = self._connection.execute("SELECT content FROM place").fetchone()
        return bytes(row[0]) if row else b""

    def keep(self, decisions: Sequence[tuple[int, TransactionId, bytes]], checkpoint: bytes) -> None:
        """Keep decisions and place in one transaction (see the port)."""
        newest = max([self._newest, *(position for position, _, _ in decisions)])
        with self._explained(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR IGNORE INTO decisions VALUES (?, ?, ?)",
                ((position, column_value(named), outcome) for position, named, outcome in decisions),
            )
            self._connection.execute("INSERT OR REPLACE INTO place VALUES (0, ?)", (checkpoint,))
            self._connection.execute(
                "DELETE FROM decisions WHERE position <= ?", (newest - self._records_max,)
            )
        self._newest = newest

    def clear(self) -> None:
        """Forget all (see the port)."""
        with self._explained(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM decisions")
            self._connection.execute("DELETE FROM place")
        self._newest = -1

    def find(self, transaction_id: TransactionId) -> list[Recorded]:
        """The decisions about a transaction, oldest first."""
        query = "SELECT position, outcome FROM decisions WHERE transaction_id = ? ORDER BY position"
        with self._explained():
            found = self._connection.execute(query, (column_value(transaction_id),)).fetchall()
        return only_of(transaction_id, found)

    def newest_decision(
        self, transaction_id: TransactionId, before_position: int | None = None
    ) -> Recorded | None:
        """The newest decision about a transaction before a position."""
        query = (
            "SELECT position, outcome FROM decisions WHERE transaction_id = ? AND position < ?"
            " ORDER BY position DESC"
        )
        before = INTEGER_MAX if before_position is None else before_position
        with self._explained():
            rows = self._connection.execute(query, (column_value(transaction_id), before))
            return first_of(transaction_id, rows)

    def page(self, before_position: int | None, count: int) -> list[Recorded]:
        """Up to `count` decisions before a position, newest first."""
        query = "SELECT position, outcome FROM decisions WHERE position < ? ORDER BY position DESC LIMIT ?"
        before = INTEGER_MAX if before_position is None else before_position
        with self._explained():
            return [Recorded(*row) for row in self._connection.execute(query, (before, count))]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _make_room(path: Path) -> None:
    """Remove a file that cannot be continued."""
    if not _is_ours(path):
        for part in ("-wal", "-shm", ""):  # the file itself last: its log is never alone
            path.with_name(path.name + part).unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    """Whether there is no file yet, or one of this format that is whole enough to be read."""
    if not path.exists():
        return True
    try:
        connection = open_file(path)
        try:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute("SELECT max(position) FROM decisions").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False
    return bool(found == _FORMAT)
