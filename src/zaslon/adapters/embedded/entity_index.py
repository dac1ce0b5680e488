"""The index of a log by entity, in an SQLite file beside the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np

from zaslon.adapters.embedded.id_columns import INTEGER_MAX
from zaslon.adapters.embedded.sqlite_file import copy_explained, open_file
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.errors import BusyError
from zaslon.domain.events import NO_KEY, Int64
from zaslon.ports import LogReader

_FORMAT = 1
# The rows are their own index: nothing else is asked of them.
_SCHEMA = """
DROP TABLE IF EXISTS place;
DROP TABLE IF EXISTS transactions;
CREATE TABLE place (log TEXT NOT NULL, catalogue TEXT NOT NULL, next_position INTEGER NOT NULL) STRICT;
CREATE TABLE transactions (
    entity INTEGER NOT NULL,
    key INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (entity, key, position)
) STRICT, WITHOUT ROWID;
"""
_POSITIONS = """
SELECT position FROM transactions WHERE entity = ? AND key = ? AND position < ? ORDER BY position DESC LIMIT ?
"""


class SqliteEntityIndex:
    """`zaslon.ports.entities.EntityIndex`; several processes may read the log on, one at a time.

    Args:
        path: the file; one that is damaged or of another format is replaced by a new one.
        catalogue: of the log, whose entities are indexed.

    Raises:
        SystemRefusedError: the machine will not let it be opened or written.
    """

    def __init__(self, path: Path, catalogue: Catalogue) -> None:
        self._path, self._catalogue = path, catalogue
        self._connection = self._opened()

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._set_up()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # the machine's doing, not the file's
                with self._explained():
                    raise
        return self._begun_again()

    def _begun_again(self) -> sqlite3.Connection:
        with self._explained():
            for part in ("-wal", "-shm", ""):  # the file itself last: its log is never alone
                self._path.with_name(self._path.name + part).unlink(missing_ok=True)
            return self._set_up()

    @contextmanager
    def _unless_damaged(self) -> Iterator[None]:
        """Begin the file again where a page of it, or a table, turns out to be damaged."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error):
                with self._explained():
                    raise
            self._connection.close()
            self._connection = self._begun_again()
            raise BusyError(
                f"The index by entity '{self._path}' was damaged and is made again.",
                hint="Try again in a moment.",
            ) from error

    def _set_up(self) -> sqlite3.Connection:
        connection = open_file(self._path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # what a loss of power destroys is read again
            if connection.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
                connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    def _explained(self) -> AbstractContextManager[None]:
        return copy_explained("The index by entity", self._path)

    def catch_up(self, log: LogReader, records_max: int) -> int:
        """Read a log on (see the port)."""
        with self._unless_damaged(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")  # another process may have read the same just now
            begin, end = self._place(log), log.next_position
            until = min(end, begin + records_max)
            if until > begin:
                self._connection.executemany(
                    "INSERT OR IGNORE INTO transactions VALUES (?, ?, ?)", self._rows(log, begin, until)
                )
                self._connection.execute("UPDATE place SET next_position = ?", (until,))
        return end - until

    def _place(self, log: LogReader) -> int:
        """Where the index ends; 0 after it was begun again because it is that of another log."""
        wanted = (log.identity, self._catalogue.hash)
        row = self._connection.execute("SELECT log, catalogue, next_position FROM place").fetchone()
        if row is not None and row[:2] == wanted and row[2] <= log.next_position:
            return int(row[2])
        self._connection.execute("DELETE FROM place")
        self._connection.execute("DELETE FROM transactions")
        self._connection.execute("INSERT INTO place VALUES (?, ?, 0)", wanted)
        return 0

    def _rows(self, log: LogReader, begin: int, until: int) -> list[tuple[int, int, int]]:
        """(entity, key, position) of the transactions of [begin, until), sorted: pages are written once."""
        found: list[tuple[Int64, Int64, Int64]] = []
        for batch in log.read(begin, until, originals=False):
            position = batch.first_position + batch.transaction_index
            for number, name in enumerate(self._catalogue.entities):
                key = batch.transactions.entity_keys.get(name)
                if key is not None:  # a change has none
                    has_key = key != NO_KEY
                    found.append((np.full(int(has_key.sum()), number), key[has_key], position[has_key]))
        if not found:
            return []
        entity, key, position = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.lexsort((position, key, entity))
        return list(zip(entity[order].tolist(), key[order].tolist(), position[order].tolist(), strict=True))

    def positions(self, entity: str, key: int, before_position: int | None, count: int) -> list[int]:
        """An entity's transactions, newest first (see the port)."""
        before = INTEGER_MAX if before_position is None else before_position
        number = self._catalogue.entities.index(entity)
        with self._unless_damaged():
            rows = self._connection.execute(_POSITIONS, (number, key, before, count))
            return [position for (position,) in rows]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
