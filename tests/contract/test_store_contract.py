"""What the relational store keeps to on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from tests.contract.conftest import OpenStore
from tests.contract.test_api_key_contract import KEY, OTHER
from tests.contract.test_ledger_contract import PROMOTION
from tests.contract.test_policy_contract import VERSION
from tests.postgres_server import LocalPostgres

from zaslon.adapters.relational.address import postgresql_address
from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.store_tables import NEWEST_MIGRATION, metadata
from zaslon.adapters.relational.stored_api_keys import StoredApiKeys
from zaslon.adapters.relational.stored_ledger import StoredLedger
from zaslon.adapters.relational.stored_policies import StoredPolicies
from zaslon.domain.errors import ArtefactError, BusyError, ServerError, SystemRefusedError, ZaslonError
from zaslon.settings import load_settings


def test_the_migrations_make_the_tables(open_store: OpenStore) -> None:
    open_store().migrate()
    with open_store().reading() as connection:
        assert connection is not None
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrating_again_changes_nothing(open_store: OpenStore) -> None:
    open_store().migrate()
    StoredApiKeys(open_store()).add(KEY)
    assert open_store().migrate() == (NEWEST_MIGRATION, NEWEST_MIGRATION)
    assert StoredApiKeys(open_store()).all() == [KEY]


def test_a_store_of_a_newer_version_is_refused(open_store: OpenStore) -> None:
    store = open_store()
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ArtefactError, match="has schema 9999"):
        StoredApiKeys(open_store()).all()


def test_what_fails_half_way_leaves_nothing(open_store: OpenStore) -> None:
    def fail() -> None:
        with open_store().writing() as connection:
            connection.execute(text("DELETE FROM alembic_version"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert StoredApiKeys(open_store()).all() == []


def test_a_store_is_copied_as_it_is(open_store: OpenStore, tmp_path: Path) -> None:
    source = Store(tmp_path / "embedded.db")
    assert source.copy_into(open_store()) == 0
    for key in (OTHER, KEY):
        StoredApiKeys(source).add(key)
    entry = StoredLedger(source).append(PROMOTION, 0)
    StoredPolicies(source).add(VERSION)
    store = open_store()
    assert store.is_empty()
    assert source.copy_into(store) == 4
    assert not open_store().is_empty()
    assert StoredApiKeys(open_store()).all() == [OTHER, KEY]
    assert StoredLedger(open_store()).entries() == [entry]
    assert StoredPolicies(open_store()).all() == [VERSION]


@pytest.mark.parametrize("place", ["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def test_an_older_store_is_brought_forward_with_its_rows(
    place: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tmp_path / "store.db"
    if place == "sqlite":
        stores = [Store(where), Store(where)]
    else:
        address = postgresql_address(request.getfixturevalue("postgres").new_database(), None)
        stores = [Store(address), Store(address)]
    with monkeypatch.context() as patch:
        patch.setattr("zaslon.adapters.relational.store.NEWEST_MIGRATION", "0002")
        stores[0].migrate()
        entry = StoredLedger(stores[0]).append(PROMOTION, 0)
    assert stores[1].migrate() == ("0002", NEWEST_MIGRATION)
    assert StoredLedger(stores[1]).entries() == [entry]
    StoredPolicies(stores[1]).add(VERSION)
    assert StoredPolicies(stores[1]).all() == [VERSION]


def test_processes_that_begin_at_once_make_one_store(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from zaslon.adapters.relational.store import Store\n"
        "sys.stdin.read()\n"
        "with Store(Path(sys.argv[1])).writing() as c:\n"
        "    c.exec_driver_sql('UPDATE alembic_version SET version_num = version_num')\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "home" / "store.db")]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(4)]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait() for process in started] == [0] * 4


# --- SQLite


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store(path).migrate()
    assert path.stat().st_mode & 0o077 == 0


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "home" / "store.db")
    assert StoredApiKeys(store).all() == []
    assert StoredLedger(store).newest() is None
    assert store.is_empty()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_a_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"x" * 8192)
    with pytest.raises(ArtefactError, match=r"store\.db' is damaged"):
        StoredLedger(Store(path)).entries()


def test_an_impossible_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemRefusedError, match="cannot be used"):
        Store(tmp_path / "file" / "store.db").migrate()
    with pytest.raises(SystemRefusedError, match="cannot be used"):
        StoredLedger(Store(tmp_path)).entries()


def test_a_store_that_is_held_for_long_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zaslon.adapters.relational.store._BUSY_MS", 1)
    path = tmp_path / "store.db"
    with (
        Store(path).writing(),
        pytest.raises(BusyError, match="in use by another process"),
        Store(path).writing(),
    ):
        pass


# --- PostgreSQL


@pytest.mark.integration
def test_a_server_is_migrated_only_when_asked(postgres: LocalPostgres) -> None:
    store = Store(postgresql_address(postgres.new_database(), None))
    with pytest.raises(ServerError, match="has schema none") as refused:
        StoredLedger(store).append(PROMOTION, 0)
    assert "zaslon store migrate" in str(refused.value)
    assert store.migrate() == (None, NEWEST_MIGRATION)
    StoredLedger(store).append(PROMOTION, 0)


@pytest.mark.integration
def test_a_server_that_refuses_us_is_named_without_the_password(postgres: LocalPostgres) -> None:
    address = postgres.new_database().replace(postgres.password, "wrong-password")
    with pytest.raises(ServerError) as refused:
        Store(postgresql_address(address, None)).migrate()
    assert "password authentication failed" in str(refused.value)
    assert "wrong-password" not in str(refused.value)
    Store(postgresql_address(address, postgres.password)).migrate()


def test_a_server_that_is_away_is_named() -> None:
    store = Store(postgresql_address("postgresql://zaslon@127.0.0.1:1/zaslon", "secret"), 2)
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:1/zaslon cannot be used") as refused:
        StoredApiKeys(store).all()
    assert "secret" not in str(refused.value)


@pytest.mark.integration
def test_a_server_that_comes_back_is_used_again(postgres: LocalPostgres) -> None:
    ledger = StoredLedger(Store(postgresql_address(postgres.new_database(), None), 5))
    ledger._store.migrate()
    entry = ledger.append(PROMOTION, 0)
    postgres.kill()
    try:
        with pytest.raises(ServerError, match="cannot be used"):
            ledger.newest()
    finally:
        postgres.go_on()
    assert ledger.newest() == entry


@pytest.mark.parametrize(
    ("address", "mode"),
    [
        ("postgresql://u@127.0.0.1:5432/d", None),
        ("postgresql://u@localhost/d", None),
        ("postgresql:///d?host=/run/postgresql", None),
        ("postgresql://u@db.example/d", "verify-full"),
        ("postgresql://u@192.0.2.1/d", "verify-full"),
        ("postgresql://u@db.example/d?sslmode=disable", "disable"),
    ],
)
def test_other_machines_are_reached_over_checked_tls(address: str, mode: str | None) -> None:
    assert postgresql_address(address, None).query.get("sslmode") == mode


@pytest.mark.parametrize(
    "address", ["mysql://u:secret@h/d", "postgresql://u:secret@h", "secret", "sqlite:///d"]
)
def test_an_address_of_something_else_is_refused(address: str) -> None:
    with pytest.raises(ZaslonError, match="store_url") as refused:
        load_settings(store_url=address)
    assert "secret" not in str(refused.value)


def test_an_address_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(ZaslonError, match="is not an address") as refused:
        postgresql_address("postgresql://u:secret@h:port/d", None)
    assert "secret" not in str(refused.value)
