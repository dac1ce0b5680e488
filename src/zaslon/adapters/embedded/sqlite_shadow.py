"""The shadow store in one SQLite file a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from zaslon.adapters.embedded.sqlite_file import copy_explained, open_file
from zaslon.domain.errors import ArtefactError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.ports.shadows import Contender, Match, Shadowed, ShadowLabel, Stopped

_FORMAT = 3
_SCHEMA = """
CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 0), next_position INTEGER NOT NULL) STRICT;
CREATE TABLE matches (
    number INTEGER PRIMARY KEY,
    champion_model TEXT NOT NULL, champion_policy TEXT NOT NULL,
    challenger_model TEXT NOT NULL, challenger_policy TEXT NOT NULL,
    first_position INTEGER NOT NULL, next_position INTEGER NOT NULL,
    transactions INTEGER NOT NULL, late INTEGER NOT NULL
) STRICT;
CREATE TABLE transactions (
    match INTEGER NOT NULL, position INTEGER NOT NULL,
    transaction_id INTEGER NOT NULL, event_time_seconds INTEGER NOT NULL, amount_minor INTEGER NOT NULL,
    score_champion REAL, score_challenger REAL, action_champion INTEGER NOT NULL, action_challenger INTEGER NOT NULL,
    entity_keys BLOB NOT NULL,  -- eight bytes each, little-endian
    PRIMARY KEY (match, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE labels (
    position INTEGER PRIMARY KEY, transaction_id INTEGER NOT NULL, is_fraud INTEGER NOT NULL,
    waits INTEGER NOT NULL, concerns INTEGER  -- position of the transaction, where it is kept
) STRICT;
CREATE INDEX labels_by_position ON labels (concerns, position);
CREATE INDEX labels_that_wait ON labels (transaction_id) WHERE waits = 1;
CREATE INDEX transactions_by_id ON transactions (transaction_id, position);
"""
_COLUMNS = (
    "position, transaction_id, event_time_seconds, amount_minor, score_champion, score_challenger, action_champion, "
    "action_challenger, entity_keys"
)
_MATCH_COLUMNS = (
    "number, champion_model, champion_policy, challenger_model, challenger_policy, first_position, next_position, "
    "transactions, late"
)
_MEMBERS = ", ".join(f"t.{name}" for name in _COLUMNS.split(", "))
# An id may be used again: a label concerns the newest transaction before it. One that waits has found none that the
# engine knows, and concerns the next one as soon as it comes.
_LABEL = """
INSERT OR REPLACE INTO labels VALUES (?1, ?2, ?3, ?4,
    (SELECT max(position) FROM transactions WHERE transaction_id = ?2 AND position < ?1))
"""
_FOUND = (
    "UPDATE labels SET waits = 0, concerns = ?1 WHERE waits = 1 AND transaction_id = ?2 AND position < ?1"
)
# The newest verdict on each transaction counts.
_FRAUDS = """
WITH labelled AS (
    SELECT concerns, max(position) AS newest FROM labels WHERE concerns IS NOT NULL GROUP BY concerns
),
members AS (
    SELECT t.position FROM labelled
    JOIN labels AS l ON l.position = labelled.newest AND l.is_fraud = 1
    JOIN transactions AS t ON t.match = ?1 AND t.position = labelled.concerns
)
"""
_OF_FRAUDS = f"""
{_FRAUDS} SELECT {_MEMBERS} FROM members AS m JOIN transactions AS t ON t.match = ?1 AND t.position = m.position
ORDER BY m.position
"""  # noqa: S608  nothing of it comes from outside
_GOOD = """
FROM transactions AS t WHERE t.match = ?1 AND t.event_time_seconds < ?2
AND t.position NOT IN (SELECT position FROM members)
"""
_FORGET = f"""
{_FRAUDS} DELETE FROM transactions WHERE match = ?1 AND event_time_seconds < ?2
AND position NOT IN (SELECT position FROM members)
"""  # noqa: S608
# Evenly, and not in step with anything in the log.
_SPREAD = "((t.position % 1000003) * 7919 % 1000003)"


class SqliteShadowStore:
    """`zaslon.ports.shadows.ShadowStore`.

    Args:
        path: the file.
        read_only: opens what another process writes.

    Raises:
        ArtefactError: the file has another format.
        SystemRefusedError: the machine will not let it be opened or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        with self._explained():
            self._connection = open_file(path, read_only=read_only)
            self._set_up(read_only)

    def _set_up(self, read_only: bool) -> None:
        found = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0 and not read_only:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")
        elif found != _FORMAT:
            raise ArtefactError(
                f"The shadow '{self._path}' has format {found}; this version reads format {_FORMAT}.",
                hint="Delete it: the shadow begins again.",
            )
        # What a loss of power destroys is at worst decided again.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _explained(self) -> AbstractContextManager[None]:
        return copy_explained("The shadow", self._path)

    @property
    def next_position(self) -> int | None:
        """Where a shadow goes on (see the port)."""
        row = self._one("SELECT next_position FROM place")
        return None if row is None else int(row[0])

    def begin(self, champion: Contender, challenger: Contender, position: int) -> int:
        """The match that is going on, or a new one (see the port)."""
        row = self._one(
            "SELECT number FROM matches WHERE champion_model = ? AND champion_policy = ? AND challenger_model = ?"
            " AND challenger_policy = ? AND next_position = ? ORDER BY number DESC",
            (*champion, *challenger, position),
        )
        if row is not None:
            return int(row[0])
        with self._explained(), self._connection:
            made = self._connection.execute(
                f"INSERT INTO matches ({_MATCH_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, 0, 0)",  # noqa: S608
                (*champion, *challenger, position, position),
            )
        assert made.lastrowid is not None
        return made.lastrowid

    def keep(
        self, rows: Sequence[tuple[int, Shadowed, int]], labels: Sequence[ShadowLabel],
        next_position: int,
    ) -> None:  # fmt: skip
        """Keep a part of the log in one transaction (see the port)."""
        with self._explained(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for match, shadowed, late in rows:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    ((match, *row) for row in _rows(shadowed)),
                )
                self._connection.execute(
                    "UPDATE matches SET next_position = ?, transactions = transactions + ?, late = late + ?"
                    " WHERE number = ?",
                    (next_position, len(shadowed), late, match),
                )
            self._connection.executemany(
                _LABEL, ((named.position, named.transaction_id, int(named.is_fraud), int(named.waits)) for named in labels)
            )  # fmt: skip
            for _, shadowed, _ in rows[:1]:  # every match has the same transactions
                found = zip(shadowed.position.tolist(), shadowed.transaction_id.tolist(), strict=True)
                self._connection.executemany(_FOUND, found)
            self._connection.execute("INSERT OR REPLACE INTO place VALUES (0, ?)", (next_position,))

    def forget_before(self, event_time_seconds: int) -> None:
        """Remove old transactions but frauds (see the port)."""
        with self._explained(), self._connection:
            matches = self._connection.execute("SELECT number FROM matches").fetchall()
            for (match,) in matches:
                self._connection.execute(_FORGET, (match, event_time_seconds))

    def match(self, champion: str, challenger: str) -> Match | None:
        """The newest match of two models (see the port)."""
        row = self._one(
            f"SELECT {_MATCH_COLUMNS} FROM matches WHERE champion_model = ? AND challenger_model = ?"  # noqa: S608
            " ORDER BY number DESC",
            (champion, challenger),
        )
        return None if row is None else Match(row[0], Contender(*row[1:3]), Contender(*row[3:5]), *row[5:])

    def frauds(self, match: Match) -> Shadowed:
        """Known frauds (see the port)."""
        return self._shadowed(_OF_FRAUDS, (match.number,))

    def good(self, match: Match, before_seconds: int, rows_max: int) -> Shadowed:
        """Some of those that are no known frauds, evenly over all (see the port)."""
        count = self.stopped(match, before_seconds).good
        step = max(1, -(-count // rows_max))
        query = f"{_FRAUDS} SELECT {_MEMBERS} {_GOOD} AND {_SPREAD} % ?3 = 0 ORDER BY t.position"
        return self._shadowed(query, (match.number, before_seconds, step))

    def stopped(self, match: Match, before_seconds: int) -> Stopped:
        """Counts of those that are no known frauds (see the port)."""
        sums = "count(*), sum(t.action_champion > 0), sum(t.action_challenger > 0)"
        row = self._one(f"{_FRAUDS} SELECT {sums} {_GOOD}", (match.number, before_seconds))
        assert row is not None
        return Stopped(*(int(count or 0) for count in row))

    def judged_stops(self, match: Match, before_seconds: int) -> tuple[int, int]:
        """What the champion stopped, and what of it has a label (see the port)."""
        row = self._one(
            "SELECT count(*), sum(EXISTS (SELECT 1 FROM labels AS l WHERE l.concerns = t.position))"
            " FROM transactions AS t WHERE t.match = ? AND t.event_time_seconds < ? AND t.action_champion > 0",
            (match.number, before_seconds),
        )
        assert row is not None
        return int(row[0]), int(row[1] or 0)

    def days(self, match: Match, before_seconds: int) -> int:
        """Days that it spans (see the port)."""
        query = (
            "SELECT min(event_time_seconds), max(event_time_seconds) FROM transactions"
            " WHERE match = ? AND event_time_seconds < ?"
        )
        row = self._one(query, (match.number, before_seconds))
        if row is None or row[0] is None:
            return 0
        return int(row[1]) // SECONDS_PER_DAY - int(row[0]) // SECONDS_PER_DAY + 1

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _one(self, query: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        with self._explained():
            row: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
            return row

    def _shadowed(self, query: str, values: Sequence[object]) -> Shadowed:
        with self._explained():
            rows = self._connection.execute(query, values).fetchall()
        columns = list(zip(*rows, strict=True)) or [()] * 9
        champion, challenger = (
            np.array([np.nan if score is None else score for score in column], np.float64)
            for column in columns[4:6]
        )
        position, transaction_id, event_time, amount = (np.array(column, np.int64) for column in columns[:4])
        actions = [np.array(column, np.uint8) for column in columns[6:8]]
        keys = np.frombuffer(b"".join(columns[8]), "<i8").astype(np.int64)
        keys = keys.reshape(len(rows), len(rows[0][8]) // 8 if rows else 0)
        return Shadowed(
            position, transaction_id, event_time, amount, champion, challenger, actions[0], actions[1], keys
        )


def _rows(shadowed: Shadowed) -> Iterator[tuple[object, ...]]:
    """Rows for SQLite, which takes NaN for NULL."""
    return zip(
        shadowed.position.tolist(), shadowed.transaction_id.tolist(), shadowed.event_time_seconds.tolist(),
        shadowed.amount_minor.tolist(), shadowed.score_champion.tolist(), shadowed.score_challenger.tolist(),
        shadowed.action_champion.tolist(), shadowed.action_challenger.tolist(),
        (keys.tobytes() for keys in shadowed.entity_keys.astype("<i8")), strict=True,
    )  # fmt: skip
