"""Keys of the service in the relational store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.store_tables import api_keys
from zaslon.domain.api_keys import ApiKey, Role
from zaslon.domain.errors import ArtefactError

_FIELDS = [column for column in api_keys.columns if column.name != "number"]


class StoredApiKeys:
    """`zaslon.ports.ApiKeys` in the store; other processes may change it at the same time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def version(self) -> object:
        """How many keys there are and how many are revoked: both only grow (see the port)."""
        counts = select(func.count(), func.count(api_keys.c.revoked_seconds)).select_from(api_keys)
        with self._store.reading() as connection:
            return (0, 0) if connection is None else tuple(connection.execute(counts).one())

    def all(self) -> list[ApiKey]:
        """All keys, oldest first (see the port)."""
        with self._store.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(select(*_FIELDS).order_by(api_keys.c.number))
            return [_key(row, self._store.name) for row in rows.mappings()]

    def add(self, key: ApiKey) -> None:
        """Keep a new key (see the port)."""
        with self._store.writing() as connection:
            connection.execute(api_keys.insert(), asdict(key))

    def revoke(self, identifier: str, now_seconds: int) -> ApiKey | None:
        """Close a key permanently (see the port)."""
        named = api_keys.c.id == identifier
        with self._store.writing() as connection:
            connection.execute(
                api_keys.update()
                .where(named, api_keys.c.revoked_seconds.is_(None))
                .values(revoked_seconds=now_seconds)
            )
            row = connection.execute(select(*_FIELDS).where(named)).mappings().one_or_none()
            return None if row is None else _key(row, self._store.name)


def add_missing(connection: Connection, keys: Sequence[ApiKey]) -> None:
    """Add those keys whose ids the store does not have."""
    known = set(connection.execute(select(api_keys.c.id)).scalars())
    for key in keys:
        if key.id not in known:
            connection.execute(api_keys.insert(), asdict(key))


def _key(row: RowMapping, store: str) -> ApiKey:
    values: dict[str, Any] = dict(row)
    try:
        return ApiKey(**{**values, "role": Role(values["role"])})
    except ValueError as error:
        raise ArtefactError(
            f"Key {values['id']} in the store '{store}' is damaged: {error}.",
            hint="Restore the store from a backup.",
        ) from error
