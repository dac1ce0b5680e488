"""The promotion ledger in the relational store, whose triggers refuse every change of an entry."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, select
from sqlalchemy.exc import IntegrityError

from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.store_tables import promotions
from zaslon.domain.errors import BusyError
from zaslon.domain.ledger import LedgerEntry, Promotion, next_entry


class StoredLedger:
    """`zaslon.ports.Ledger` in the store.

    A number is a primary key: of two processes that append after the same entry the database lets one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def newest(self) -> LedgerEntry | None:
        """The newest entry (see the port)."""
        with self._store.reading() as connection:
            return None if connection is None else _newest(connection)

    def entries(self) -> list[LedgerEntry]:
        """All entries, oldest first (see the port)."""
        with self._store.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(select(promotions).order_by(promotions.c.number))
            return [_entry(row) for row in rows.mappings()]

    def append(self, promotion: Promotion, after: int) -> LedgerEntry:
        """Append behind the entry `after` (see the port)."""
        with self._store.writing() as connection:
            previous = _newest(connection)
            if (0 if previous is None else previous.number) != after:
                raise _overtaken()
            entry = next_entry(previous, promotion)
            try:
                connection.execute(promotions.insert(), _values(entry))
            except IntegrityError as error:
                raise _overtaken() from error
        return entry


def _overtaken() -> BusyError:
    return BusyError(
        "Something else was recorded in the promotion ledger at the same time; nothing was changed.",
        hint="Look at `zaslon history`, then try again.",
    )


def _newest(connection: Connection) -> LedgerEntry | None:
    row = connection.execute(select(promotions).order_by(promotions.c.number.desc()).limit(1)).mappings()
    found = row.first()
    return None if found is None else _entry(found)


def _values(entry: LedgerEntry) -> dict[str, object]:
    return {
        "number": entry.number, **asdict(entry.promotion),
        "previous_hash": entry.previous_hash, "hash": entry.hash,
    }  # fmt: skip


def _entry(row: RowMapping) -> LedgerEntry:
    values = dict(row)
    number, previous_hash, own_hash = (values.pop(name) for name in ("number", "previous_hash", "hash"))
    return LedgerEntry(number, Promotion(**values), previous_hash, own_hash)
