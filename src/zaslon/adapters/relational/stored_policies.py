"""Versions of the policy in the relational store, whose triggers refuse every change of one."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Select, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.store_tables import policies
from zaslon.domain.policy_version import PolicyVersion

_FIELDS = [column for column in policies.columns if column.name not in ("number", "content_hash")]
_NUMBERS_OF = select(policies.c.number).where(policies.c.policy == bindparam("policy"))


class StoredPolicies:
    """`zaslon.ports.policies.PolicyVersions` in the store; other processes may add to it at the same time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, version: PolicyVersion) -> None:
        """Keep a version (see the port)."""
        values = {**asdict(version), "content_hash": version.content_hash}
        with self._store.writing() as connection:
            if version.text is None and connection.execute(_NUMBERS_OF, {"policy": version.policy}).first():
                return
            if connection.dialect.name == "postgresql":
                connection.execute(postgresql.insert(policies).values(values).on_conflict_do_nothing())
            else:
                connection.execute(sqlite.insert(policies).values(values).on_conflict_do_nothing())

    def all(self) -> list[PolicyVersion]:
        """All versions, oldest first (see the port)."""
        return self._found(select(*_FIELDS))

    def of(self, policy: str) -> list[PolicyVersion]:
        """The versions of one meaning, oldest first (see the port)."""
        return self._found(select(*_FIELDS).where(policies.c.policy == policy))

    def _found(self, query: Select[tuple[object, ...]]) -> list[PolicyVersion]:
        with self._store.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(query.order_by(policies.c.number)).mappings()
            return [PolicyVersion(**row) for row in rows]
