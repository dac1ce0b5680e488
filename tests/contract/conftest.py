"""The adapters that the contract tests run over: a new one is a line here.

An opener is called again with the same place to open again what was closed there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zaslon.adapters.embedded.api_keys import FileApiKeys
from zaslon.adapters.embedded.journal import SqliteJournal
from zaslon.adapters.embedded.snapshots import FileSnapshots
from zaslon.domain.catalogue import load_catalogue
from zaslon.ports import ApiKeys, Journal, SnapshotStore

OpenJournal = Callable[[], Journal]
OpenSnapshots = Callable[[], SnapshotStore]
OpenApiKeys = Callable[[], ApiKeys]

JOURNALS: dict[str, Callable[[Path], Journal]] = {
    "sqlite": lambda place: SqliteJournal(place / "journal.db", load_catalogue())
}
SNAPSHOTS: dict[str, Callable[[Path], SnapshotStore]] = {"files": FileSnapshots}
API_KEYS: dict[str, Callable[[Path], ApiKeys]] = {
    "file": lambda place: FileApiKeys(place / "home" / "keys.json")
}


@pytest.fixture(params=JOURNALS)
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> OpenJournal:
    return lambda: JOURNALS[request.param](tmp_path)


@pytest.fixture(params=SNAPSHOTS)
def open_snapshots(request: pytest.FixtureRequest, tmp_path: Path) -> OpenSnapshots:
    return lambda: SNAPSHOTS[request.param](tmp_path)


@pytest.fixture(params=API_KEYS)
def open_api_keys(request: pytest.FixtureRequest, tmp_path: Path) -> OpenApiKeys:
    return lambda: API_KEYS[request.param](tmp_path)
