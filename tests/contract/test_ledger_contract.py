"""What every promotion ledger keeps to, whatever is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.contract.conftest import OpenLedger, OpenStore
from tests.postgres_server import LocalPostgres

from zaslon.adapters.relational.address import postgresql_address
from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.stored_ledger import StoredLedger
from zaslon.domain.errors import BusyError, ServerError, ZaslonError
from zaslon.domain.ledger import NO_HASH, TRAIN, LedgerEntry, Promotion, first_broken

PROMOTION = Promotion(1_000, "anna", TRAIN, "m1", "p1", "c1", "log", 0, "first", '{"roc_auc":0.9}', "ivan")


def written(open_ledger: OpenLedger, count: int) -> list[LedgerEntry]:
    ledger = open_ledger()
    for number in range(count):
        ledger.append(replace(PROMOTION, model=f"m{number}", recorded_seconds=1_000 + number), number)
    return ledger.entries()


def test_a_new_ledger_is_empty(open_ledger: OpenLedger) -> None:
    assert open_ledger().newest() is None
    assert open_ledger().entries() == []


def test_entries_are_read_back_as_they_were_appended(open_ledger: OpenLedger) -> None:
    first = open_ledger().append(PROMOTION, 0)
    unknown = replace(PROMOTION, log=None, position=None, approval=None, actor="Ёлка ☃")
    second = open_ledger().append(unknown, 1)
    assert (first.number, first.previous_hash, first.promotion) == (1, NO_HASH, PROMOTION)
    assert (second.number, second.previous_hash, second.promotion) == (2, first.hash, unknown)
    assert open_ledger().entries() == [first, second]
    assert open_ledger().newest() == second


def test_an_entry_follows_the_one_that_its_writer_saw(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    for unseen in (1, -1):
        with pytest.raises(BusyError, match="at the same time"):
            ledger.append(PROMOTION, unseen)
    ledger.append(PROMOTION, 0)
    with pytest.raises(BusyError, match="at the same time"):
        open_ledger().append(PROMOTION, 0)
    assert len(ledger.entries()) == 1


def test_a_clock_set_back_does_not_reorder_the_ledger(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.append(PROMOTION, 0)
    assert ledger.append(replace(PROMOTION, recorded_seconds=7), 1).promotion.recorded_seconds == 1_000
    assert first_broken(ledger.entries()) is None


def test_concurrent_writers_append_one_after_the_other(open_ledger: OpenLedger) -> None:
    def insist(writer: int) -> None:
        ledger = open_ledger()
        while True:
            newest = ledger.newest()
            try:
                ledger.append(replace(PROMOTION, model=f"m{writer}"), newest.number if newest else 0)
            except BusyError:
                continue
            return

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(insist, range(12)))
    entries = open_ledger().entries()
    assert first_broken(entries) is None
    assert {entry.promotion.model for entry in entries} == {f"m{n}" for n in range(12)}
    assert len(entries) == 12


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE promotions SET model = 'other' WHERE number = 2",
        "UPDATE promotions SET approval = NULL",
        "DELETE FROM promotions WHERE number = 3",
        "DELETE FROM promotions",
    ],
)
def test_the_database_refuses_to_change_an_entry(
    open_store: OpenStore, open_ledger: OpenLedger, statement: str
) -> None:
    before = written(open_ledger, 3)
    with pytest.raises(ZaslonError) as refused, open_store().writing() as connection:
        connection.execute(text(statement))
    assert isinstance(refused.value.__cause__, DBAPIError)
    assert "append-only" in str(refused.value)
    assert open_ledger().entries() == before


@pytest.mark.integration
def test_a_server_refuses_to_empty_the_ledger(postgres: LocalPostgres) -> None:
    store = Store(postgresql_address(postgres.new_database(), None))
    store.migrate()
    entry = StoredLedger(store).append(PROMOTION, 0)
    with pytest.raises(ServerError, match="append-only"), store.writing() as connection:
        connection.execute(text("TRUNCATE promotions"))
    assert StoredLedger(store).entries() == [entry]


@pytest.mark.parametrize(
    ("statements", "number", "reason"),
    [
        (["UPDATE promotions SET model = 'other' WHERE number = 2"], 2, "was changed"),
        (["UPDATE promotions SET approval = 'eve' WHERE number = 4"], 4, "was changed"),
        (["UPDATE promotions SET recorded_seconds = 999 WHERE number = 1"], 1, "was changed"),
        (["UPDATE promotions SET hash = previous_hash WHERE number = 3"], 3, "was changed"),
        (["UPDATE promotions SET previous_hash = hash WHERE number = 3"], 3, "does not follow"),
        (["DELETE FROM promotions WHERE number = 3"], 3, "is missing"),
        (["DELETE FROM promotions WHERE number = 1"], 1, "is missing"),
        (
            ["DELETE FROM promotions WHERE number = 2", "UPDATE promotions SET number = 2 WHERE number = 3"],
            2, "does not follow",
        ),
    ],
)  # fmt: skip
def test_a_broken_chain_names_its_first_bad_entry(
    open_store: OpenStore, open_ledger: OpenLedger, statements: Sequence[str], number: int, reason: str
) -> None:
    assert first_broken(written(open_ledger, 4)) is None
    with open_store().writing() as connection:
        for drop in _WITHOUT_TRIGGERS[connection.dialect.name]:
            connection.execute(text(drop))
        for statement in statements:
            connection.execute(text(statement))
    broken = first_broken(open_ledger().entries())
    assert broken is not None
    assert broken.number == number
    assert reason in broken.reason


# What somebody does who owns the database.
_WITHOUT_TRIGGERS = {
    "sqlite": ["DROP TRIGGER promotions_no_update", "DROP TRIGGER promotions_no_delete"],
    "postgresql": ["DROP TRIGGER promotions_append_only ON promotions"],
}
