"""What every store of policies keeps to, and how those of a home from before it come in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.contract.conftest import OpenLedger, OpenPolicies, OpenStore
from tests.contract.test_ledger_contract import PROMOTION
from tests.postgres_server import LocalPostgres

from zaslon.adapters.relational.address import postgresql_address
from zaslon.adapters.relational.from_files import policies_of, take_files
from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.stored_policies import StoredPolicies
from zaslon.domain.errors import ServerError, ZaslonError
from zaslon.domain.ledger import POLICY
from zaslon.domain.policy_version import PolicyVersion

WRITTEN = '# Ёлка ☃\r\nname = "night"\n'
VERSION = PolicyVersion("p1", "night@1 (p1)", 'name = "night"\n', WRITTEN, 1_000, "anna", "an attack")
UNWRITTEN = PolicyVersion("p2", "default@1 (p2)", 'name = "default"\n', None, 2_000, "ivan")


def test_a_new_store_has_no_policies(open_policies: OpenPolicies) -> None:
    assert open_policies().all() == []
    assert open_policies().of("p1") == []


def test_versions_are_read_back_as_they_were_added(open_policies: OpenPolicies) -> None:
    for version in (UNWRITTEN, VERSION):
        open_policies().add(version)
    assert open_policies().all() == [UNWRITTEN, VERSION]
    assert open_policies().of("p1") == [VERSION]
    assert (VERSION.content, UNWRITTEN.content) == (WRITTEN, UNWRITTEN.meaning)


def test_the_same_content_is_one_version(open_policies: OpenPolicies) -> None:
    policies = open_policies()
    policies.add(VERSION)
    open_policies().add(replace(VERSION, actor="eve", recorded_seconds=9_000, note=None))
    other_text = replace(VERSION, text="# other\n" + WRITTEN)
    other_policy = replace(VERSION, policy="p3")
    for version in (other_text, other_policy, replace(VERSION, text=None)):
        policies.add(version)
    assert policies.all() == [VERSION, other_text, other_policy]
    assert policies.of("p1") == [VERSION, other_text]


def test_writers_at_once_add_one_version(open_policies: OpenPolicies) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: open_policies().add(VERSION), range(8)))
    assert open_policies().all() == [VERSION]


@pytest.mark.parametrize("statement", ["UPDATE policies SET text = 'x'", "DELETE FROM policies"])
def test_the_database_refuses_to_change_a_version(
    open_store: OpenStore, open_policies: OpenPolicies, statement: str
) -> None:
    open_policies().add(VERSION)
    with pytest.raises(ZaslonError, match="append-only"), open_store().writing() as connection:
        connection.execute(text(statement))
    assert open_policies().all() == [VERSION]


@pytest.mark.integration
def test_a_server_refuses_to_empty_the_policies(postgres: LocalPostgres) -> None:
    store = Store(postgresql_address(postgres.new_database(), None))
    store.migrate()
    StoredPolicies(store).add(VERSION)
    with pytest.raises(ServerError, match="append-only"), store.writing() as connection:
        connection.execute(text("TRUNCATE policies"))


# --- Homes from before


@pytest.fixture
def old_home(open_ledger: OpenLedger, tmp_path: Path) -> Path:
    """Policies of a ledger: with the text that people wrote, without, damaged, lost; and one that never served."""
    home = tmp_path / "old"
    written = home / "policies" / "written"
    written.mkdir(parents=True)
    for policy, content in {"p1": VERSION.meaning, "p2": UNWRITTEN.meaning, "p3": "[[[", "p5": ""}.items():
        (home / "policies" / f"{policy}.toml").write_text(content)
    (written / "p1.toml").write_bytes(WRITTEN.encode())
    promotions = [
        replace(PROMOTION, action=POLICY, policy="p1", actor="anna", evidence='{"why":"an attack"}'),
        *(replace(PROMOTION, policy=policy, actor="ivan", recorded_seconds=2_000) for policy in ("p2", "p3", "p4")),
        replace(PROMOTION, policy="p1", actor="eve", recorded_seconds=3_000),
    ]  # fmt: skip
    for number, promotion in enumerate(promotions):
        open_ledger().append(promotion, number)
    return home


def test_files_of_policies_come_in_as_the_ledger_knows_them(open_store: OpenStore, old_home: Path) -> None:
    files = sorted((old_home / "policies").rglob("*.toml"))
    assert policies_of(open_store(), old_home).all() == [VERSION, UNWRITTEN]
    assert sorted((old_home / "policies").rglob("*.toml")) == files, "what decides reads them"


def test_files_of_policies_come_in_once(open_store: OpenStore, old_home: Path, tmp_path: Path) -> None:
    assert take_files(open_store(), old_home) == (0, 2)
    assert take_files(open_store(), old_home) == (0, 0)
    assert policies_of(open_store(), old_home).all() == [VERSION, UNWRITTEN]


def test_policies_of_a_second_home_come_in_with_a_migration(open_store: OpenStore, old_home: Path) -> None:
    StoredPolicies(open_store()).add(replace(VERSION, policy="other"))
    assert len(policies_of(open_store(), old_home).all()) == 1
    assert take_files(open_store(), old_home) == (0, 2)
