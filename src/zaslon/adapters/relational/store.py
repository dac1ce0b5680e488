"""The database itself: connections, transactions, migrations, and its errors in plain words.

SQLite is a file of the home, made and migrated when it is first used. PostgreSQL is used as it is:
`zaslon store migrate` brings it to the newest schema, so that no process changes a shared database unasked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, table, text
from sqlalchemy import column as named_column
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from zaslon.adapters.relational.store_tables import NEWEST_MIGRATION, metadata
from zaslon.domain.errors import ArtefactError, BusyError, ServerError, SystemRefusedError
from zaslon.system.durable import make_directory, make_private_file, sync_directory

_BUSY_MS = 10_000  # how long SQLite waits for another process's transaction
_MIGRATION_LOCK = 0x7A61736C6F6E  # of PostgreSQL's advisory locks: "zaslon"
_POOLED, _OVERFLOW = 1, 4
_DAMAGED = ("malformed", "not a database")


class Store:
    """One database, opened when it is first used.

    Args:
        place: SQLite's file, or the address of a PostgreSQL database.
        timeout_seconds: how long to wait for PostgreSQL: for a connection, a lock and each statement.
    """

    def __init__(self, place: Path | URL, timeout_seconds: float = 10.0) -> None:
        self._place, self._timeout_seconds = place, timeout_seconds
        self._is_migrated = False

    @property
    def name(self) -> str:
        """How messages call it; without a password."""
        return str(self._place) if isinstance(self._place, Path) else self._place.render_as_string()

    @contextmanager
    def reading(self) -> Iterator[Connection | None]:
        """A transaction that only reads; None where SQLite's file does not exist: nothing is made.

        Raises:
            ArtefactError: the file is damaged, or of a newer version.
            BusyError: another process has held the file for long.
            ServerError: the server does not answer, refuses us, or has not been migrated.
            SystemRefusedError: the file cannot be read.
        """
        if isinstance(self._place, Path) and not self._place.exists():
            yield None
            return
        with self._explained():
            self._check_migrated()
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is durable when the block has ended well; on SQLite, one at a time.

        Raises:
            ZaslonError: as `reading`.
        """
        with self._explained():
            self._make_file()
            self._check_migrated()
            with self._writing() as connection:
                yield connection

    def migrate(self) -> tuple[str | None, str]:
        """Bring the schema to the newest version; returns the version before, None for an empty database.

        Raises:
            ZaslonError: as `reading`.
        """
        with self._explained():
            self._make_file()
            before = self._migrate()
        self._is_migrated = True
        return before, NEWEST_MIGRATION

    def is_empty(self) -> bool:
        """Whether no table has a row."""
        with self.reading() as connection:
            return connection is None or not any(
                connection.execute(select(kept).limit(1)).first() for kept in metadata.sorted_tables
            )

    def copy_into(self, other: Store) -> int:
        """Copy every row into an empty store, as it is; returns how many there were."""
        copied = 0
        with self.reading() as connection, other.writing() as target:
            if connection is None:
                return 0
            for kept in metadata.sorted_tables:
                # Numbers that the database gives keep their order, not their value.
                columns = [column for column in kept.columns if column.identity is None]
                order = list(kept.primary_key)
                rows = [dict(row) for row in connection.execute(select(*columns).order_by(*order)).mappings()]
                if rows:
                    target.execute(kept.insert(), rows)
                copied += len(rows)
        return copied

    def close(self) -> None:
        """Close the connections that wait for use."""
        if "_engine" in self.__dict__:
            self._engine.dispose()

    @cached_property
    def _engine(self) -> Engine:
        if isinstance(self._place, Path):
            return _sqlite(self._place)
        return _postgresql(self._place, self._timeout_seconds)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def _make_file(self) -> None:
        """SQLite's file, for its owner only."""
        if isinstance(self._place, Path) and not self._place.exists():
            make_directory(self._place.parent)
            make_private_file(self._place)
            sync_directory(self._place.parent)

    def _check_migrated(self) -> None:
        """Migrate SQLite; refuse a server's database that is not of our version."""
        if self._is_migrated:
            return
        with self._engine.connect() as connection:
            found = _version(connection)
        if found != NEWEST_MIGRATION:
            if found is not None and found > NEWEST_MIGRATION:
                raise ArtefactError(
                    f"The store '{self.name}' has schema {found}; this version knows {NEWEST_MIGRATION}.",
                    hint="Use the version of Zaslon that migrated it.",
                )
            if not isinstance(self._place, Path):
                raise ServerError(
                    f"The store {self.name} has schema {found or 'none'}, not {NEWEST_MIGRATION}.",
                    hint="Run `zaslon store migrate`.",
                )
            self._migrate()
        self._is_migrated = True

    def _migrate(self) -> str | None:
        from alembic import command  # noqa: PLC0415  slow, and only needed once
        from alembic.config import Config  # noqa: PLC0415

        with self._writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            before = _version(connection)  # another process may have been first
            config = Config()
            config.set_main_option("script_location", "zaslon.adapters.relational:migrations")
            config.attributes["connection"] = connection
            command.upgrade(config, NEWEST_MIGRATION)
        return before

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SystemRefusedError(f"The store '{self.name}' cannot be used: {error}.") from error
        except SQLAlchemyError as error:
            first_line, _, _ = str(getattr(error, "orig", error)).partition("\n")  # the rest is SQL
            raise self._named(error, first_line.removesuffix(".")) from error

    def _named(self, error: SQLAlchemyError, reason: str) -> Exception:
        if not isinstance(self._place, Path):
            return ServerError(
                f"The store {self.name} cannot be used: {reason}.",
                hint="Check ZASLON_STORE_URL and that the server answers.",
            )
        if isinstance(error, DBAPIError) and any(word in reason for word in _DAMAGED):
            return ArtefactError(
                f"The store '{self.name}' is damaged: {reason}.", hint="Restore it from a backup."
            )
        if isinstance(error, OperationalError) and "locked" in reason:
            return BusyError(f"The store '{self.name}' is in use by another process.", hint="Try again.")
        return SystemRefusedError(
            f"The store '{self.name}' cannot be used: {reason}.",
            hint="Look at the free space and the permissions there.",
        )


def _version(connection: Connection) -> str | None:
    """The migration that a database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(select(table("alembic_version", named_column("version_num")))).scalar()


def _sqlite(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path.absolute())), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions by itself
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute("PRAGMA synchronous = EXTRA")  # the rollback journal's end is on disk, too

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL, timeout_seconds: float) -> Engine:
    timeout_ms = round(timeout_seconds * 1000)
    return create_engine(
        url, pool_size=_POOLED, max_overflow=_OVERFLOW, pool_pre_ping=True, pool_timeout=timeout_seconds,
        connect_args={
            "connect_timeout": max(2, round(timeout_seconds)),  # libpq takes whole seconds, from 2 on
            "options": f"-c statement_timeout={timeout_ms} -c lock_timeout={timeout_ms}",
            "tcp_user_timeout": timeout_ms,  # a server that vanished is noticed
        },
    )  # fmt: skip
