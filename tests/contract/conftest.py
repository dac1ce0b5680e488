"""The adapters that the contract tests run over: a new one is a line here.

An opener is called again with the same place to open again what was closed there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zaslon.adapters.embedded.snapshots import FileSnapshots
from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.adapters.relational.address import postgresql_address
from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.stored_api_keys import StoredApiKeys
from zaslon.adapters.relational.stored_ledger import StoredLedger
from zaslon.adapters.relational.stored_policies import StoredPolicies
from zaslon.domain.catalogue import load_catalogue
from zaslon.ports import ApiKeys, Journal, Ledger, SnapshotStore
from zaslon.ports.policies import PolicyVersions

OpenJournal = Callable[[], Journal]
OpenSnapshots = Callable[[], SnapshotStore]
OpenStore = Callable[[], Store]
OpenApiKeys = Callable[[], ApiKeys]
OpenLedger = Callable[[], Ledger]
OpenPolicies = Callable[[], PolicyVersions]

JOURNALS: dict[str, Callable[[Path], Journal]] = {
    "sqlite": lambda place: SqliteJournal(place / "journal.db", load_catalogue())
}
SNAPSHOTS: dict[str, Callable[[Path], SnapshotStore]] = {"files": FileSnapshots}
STORES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)]


@pytest.fixture(params=JOURNALS)
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> OpenJournal:
    return lambda: JOURNALS[request.param](tmp_path)


@pytest.fixture(params=SNAPSHOTS)
def open_snapshots(request: pytest.FixtureRequest, tmp_path: Path) -> OpenSnapshots:
    return lambda: SNAPSHOTS[request.param](tmp_path)


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Every call opens the same database again, as another process would."""
    if request.param == "sqlite":
        return lambda: Store(tmp_path / "home" / "store.db")
    address = postgresql_address(request.getfixturevalue("postgres").new_database(), None)
    Store(address).migrate()
    return lambda: Store(address)


@pytest.fixture
def open_api_keys(open_store: OpenStore) -> OpenApiKeys:
    return lambda: StoredApiKeys(open_store())


@pytest.fixture
def open_ledger(open_store: OpenStore) -> OpenLedger:
    return lambda: StoredLedger(open_store())


@pytest.fixture
def open_policies(open_store: OpenStore) -> OpenPolicies:
    return lambda: StoredPolicies(open_store())
