"""The archive of decisions on PostgreSQL: partitions by day, filled by COPY."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from sqlalchemy import Connection, text

from zaslon.adapters.relational.store import Store
from zaslon.domain.errors import BusyError, ServerError
from zaslon.domain.events import TransactionId
from zaslon.domain.recorded import Recorded
from zaslon.domain.time import SECONDS_PER_DAY, day_text
from zaslon.ports.archives import ArchivedDecision

_COPY = (
    "COPY archive.decisions (day, log, position, transaction_id, event_time, action, score, model, policy, outcome) "
    "FROM STDIN"
)
_COPY_ENTITIES = "COPY archive.entities (day, log, position, entity, key) FROM STDIN"
_OF_ENTITY = (
    "SELECT position, d.outcome::text FROM archive.entities JOIN archive.decisions AS d USING (day, log, position) "
    "WHERE entity = :entity AND key = :key AND log = :log AND position < :before ORDER BY position DESC LIMIT :count"
)
# The days spare all other partitions the search.
_NEWEST = (
    "SELECT DISTINCT ON (log, transaction_id) transaction_id, outcome::text FROM archive.decisions "
    "WHERE day = ANY(CAST(:days AS date[])) AND transaction_id = ANY(:ids) ORDER BY log, transaction_id, position DESC"
)
_PARTITIONED = ("decisions", "entities")
_POSITION_MAX = 2**63 - 1


class PostgresArchive:
    """`zaslon.ports.archives.Archive`.

    Args:
        store: on PostgreSQL, migrated.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._days: set[int] = set()

    def next_position(self, log: str) -> int:
        """Where a log goes on (see the port)."""
        with self._store.reading() as connection:
            assert connection is not None
            return _place(connection, log)

    def keep(
        self, log: str, decisions: Sequence[ArchivedDecision], from_position: int, next_position: int
    ) -> None:
        """Keep a part of a log in one transaction (see the port)."""
        for day in sorted({decision.day for decision in decisions} - self._days):
            self._make_partition(day)
        with self._store.writing() as connection:
            # Two processes wait for each other here; the second one then finds another place.
            connection.execute(
                text("INSERT INTO archive.places VALUES (:log, 0) ON CONFLICT DO NOTHING"), {"log": log}
            )
            if _place(connection, log, " FOR UPDATE") != from_position:
                raise BusyError(
                    f"Another process archives log {log}.",
                    hint="One is enough: end this one, or start it again.",
                )
            self._copy(connection, log, decisions)
            connection.execute(
                text("UPDATE archive.places SET next_position = :next WHERE log = :log"),
                {"log": log, "next": next_position},
            )

    def _copy(self, connection: Connection, log: str, decisions: Sequence[ArchivedDecision]) -> None:
        cursor: Any = connection.connection.cursor()  # psycopg's own: SQLAlchemy has no COPY
        try:
            with cursor.copy(_COPY) as copy:
                for decision in decisions:
                    day, position, *more, outcome, _ = decision
                    copy.write_row((day_text(day), log, position, *more, outcome.decode()))
            with cursor.copy(_COPY_ENTITIES) as copy:
                for decision in decisions:
                    for entity, key in decision.entities:
                        copy.write_row((day_text(decision.day), log, decision.position, entity, key))
        except psycopg.Error as error:
            self._days.clear()  # another process may have dropped one of them
            reason, _, _ = str(error).partition("\n")
            raise ServerError(
                f"The store {self._store.name} cannot be used: {reason.removesuffix('.')}.",
                hint="Nothing of this part was archived; start again.",
            ) from error

    def _make_partition(self, day: int) -> None:
        """A day's own tables. Made apart: it locks the whole archive for a moment."""
        with self._store.writing() as connection:
            connection.execute(text("LOCK TABLE archive.places IN SHARE ROW EXCLUSIVE MODE"))
            for table in _PARTITIONED:
                connection.execute(
                    text(
                        f"CREATE TABLE IF NOT EXISTS archive.{_name(table, day)} PARTITION OF archive.{table} "
                        f"FOR VALUES FROM ('{day_text(day)}') TO ('{day_text(day + 1)}')"
                    )
                )
        self._days.add(day)

    def forget_before(self, log: str, day: int) -> int:
        """Remove a log's earlier days; a partition without rows of another one goes whole (see the port)."""
        with self._store.reading() as connection:
            assert connection is not None
            found = connection.execute(
                text(
                    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'archive.decisions'::regclass"
                )
            ).scalars()
            old = sorted(name for name in found if name.rpartition(".")[2] < _name("decisions", day))
        removed = 0
        for name in old:  # as the database itself has named them
            beside = name.replace("decisions_", "entities_")
            with self._store.writing() as connection:
                connection.execute(text("LOCK TABLE archive.places IN SHARE ROW EXCLUSIVE MODE"))
                mine = connection.execute(
                    text(
                        f"DELETE FROM {name} WHERE log = :log"  # noqa: S608
                    ),
                    {"log": log},
                ).rowcount
                is_left = connection.execute(
                    text(
                        f"SELECT EXISTS (SELECT 1 FROM {name})"  # noqa: S608
                    )
                ).scalar()
                if not is_left:
                    # A day from before the archive had entities has no such table.
                    connection.execute(text(f"DROP TABLE {name}"))
                    connection.execute(text(f"DROP TABLE IF EXISTS {beside}"))
                elif connection.execute(text("SELECT to_regclass(:name)"), {"name": beside}).scalar():
                    connection.execute(
                        text(
                            f"DELETE FROM {beside} WHERE log = :log"  # noqa: S608
                        ),
                        {"log": log},
                    )
            removed += mine > 0
        self._days = {known for known in self._days if known >= day}
        return removed

    def decisions_of(
        self, log: str, entity: str, key: int, before_position: int | None, count: int
    ) -> list[Recorded]:
        """An entity's decisions, newest first (see the port)."""
        before = _POSITION_MAX if before_position is None else before_position
        values = {"log": log, "entity": entity, "key": key, "before": before, "count": count}
        with self._store.reading() as connection:
            assert connection is not None
            rows = connection.execute(text(_OF_ENTITY), values).all()
        return [Recorded(position, outcome.encode()) for position, outcome in rows]

    def newest_decisions(
        self, transactions: Sequence[tuple[TransactionId, int]]
    ) -> list[tuple[TransactionId, Recorded]]:
        """The newest decision of each log about each transaction (see the port)."""
        named = {str(transaction_id): transaction_id for transaction_id, _ in transactions}
        days = {moment // SECONDS_PER_DAY for _, moment in transactions}
        values = {"ids": list(named), "days": [day_text(day) for day in sorted(days)]}
        with self._store.reading() as connection:
            assert connection is not None
            rows = connection.execute(text(_NEWEST), values).all()
        return [(named[transaction_id], Recorded.read(outcome.encode())) for transaction_id, outcome in rows]

    def close(self) -> None:
        """Close the connections."""
        self._store.close()


def _name(table: str, day: int) -> str:
    return f"{table}_{day_text(day).replace('-', '')}"


def _place(connection: Connection, log: str, lock: str = "") -> int:
    query = text(f"SELECT next_position FROM archive.places WHERE log = :log{lock}")  # noqa: S608  one of two texts
    found = connection.execute(query, {"log": log}).scalar()
    return 0 if found is None else int(found)
