"""What only the journal in SQLite shows: its file, its indexes, and what is removed from it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from tests.contract.test_journal_contract import RECORDS, VERSIONS, batch, contents, outcomes

from zaslon.adapters.embedded.decision_store import SqliteDecisions
from zaslon.adapters.embedded.entity_index import SqliteEntityIndex
from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.errors import ArtefactError

SECRETS = [b"card 4000 1234", b"secret of Ivanov", b"1,no number,Petrov"]


def opened(path: Path) -> SqliteJournal:
    return SqliteJournal(path / "journal.db", load_catalogue())


def recorded(path: Path, *batches: list[bytes]) -> SqliteJournal:
    journal = opened(path)
    for records in batches:
        first = journal.next_position
        journal.record(batch(first, records), outcomes(first, records), None)
    return journal


def test_a_closed_journal_is_one_file_despite_an_open_reader(tmp_path: Path) -> None:
    journal = recorded(tmp_path, RECORDS[:1], RECORDS[1:2])
    rows = journal.read(0)
    next(rows)
    assert len(list(tmp_path.iterdir())) > 1, "an open journal has SQLite's files beside it"
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == ["journal.db"]


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How SQLite carries out every statement of the journals and stores that the test opens."""
    found: list[str] = []

    class Explained(sqlite3.Connection):
        def execute(self, statement: str, values: object = ()) -> sqlite3.Cursor:
            if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
                rows = super().execute(f"EXPLAIN QUERY PLAN {statement}", values)  # type: ignore[arg-type]
                found.extend(f"{row[3]} | {' '.join(statement.split())}" for row in rows.fetchall())
            return super().execute(statement, values)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, factory=Explained, **more))
    return found


def test_every_look_up_in_the_journal_is_by_an_index(tmp_path: Path, plans: list[str]) -> None:
    with closing(recorded(tmp_path, RECORDS, RECORDS)) as journal:
        plans.clear()
        journal.serve(VERSIONS)
        journal.serving(3)
        journal.cursor("file")
        journal.outcome(4)
        journal.find(5)
        journal.newest_decision(5)
        journal.newest_decision(5, 7)
        journal.page(None, 5)
        journal.page(3, 5)
        list(journal.outcomes(4))
        list(journal.read(5, 8))
        list(journal.read(5, 8, originals=False))
        journal.forget_originals(2_000, 10)
    wanted = {"serving", "cursors", "outcomes", "batches", "originals"}
    assert wanted <= {word for plan in plans for word in plan.split()}
    assert [plan for plan in plans if "SCAN" in plan.partition("|")[0]] == []


def test_every_look_up_in_the_copy_of_decisions_is_by_an_index(tmp_path: Path, plans: list[str]) -> None:
    with closing(SqliteDecisions(tmp_path / "decisions.db", 100)) as store:
        plans.clear()
        store.keep([(1, 5, b"{}")], b"place")
        store.find(5)
        store.newest_decision(5)
        store.page(None, 5)
        store.page(3, 5)
    assert len(plans) >= 5
    assert [plan for plan in plans if "SCAN" in plan.partition("|")[0]] == []


def test_every_look_up_by_entity_is_by_an_index(tmp_path: Path, plans: list[str]) -> None:
    catalogue = load_catalogue()
    with (
        closing(recorded(tmp_path, RECORDS, RECORDS)) as journal,
        closing(SqliteEntityIndex(tmp_path / "entities.db", catalogue)) as index,
    ):
        index.catch_up(journal, 100)
        plans.clear()
        index.positions(catalogue.entities[0], 1_000, 7, 5)
    assert [plan.partition(" |")[0] for plan in plans] == [
        "SEARCH transactions USING PRIMARY KEY (entity=? AND key=? AND position<?)"
    ]


def test_after_their_time_original_bytes_are_nowhere_in_the_file(tmp_path: Path) -> None:
    journal = recorded(tmp_path, SECRETS, [b"1,2,3,4"])
    before = list(contents(journal.read(0)))
    decisions = [o for _, o in journal.outcomes() if orjson.loads(o)["outcome"] == "decision"]
    whole = (tmp_path / "journal.db").read_bytes() + (tmp_path / "journal.db-wal").read_bytes()
    assert all(secret in whole for secret in [*SECRETS, b"is 'secret'"])
    assert not journal.forget_originals(1_003, 10)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(secret in files for secret in [*SECRETS, b"is 'secret'"])
    assert b"1,2,3,4" in files, "what arrived later stays"
    after = contents(journal.read(0))
    assert [content["originals"] for content in after] == [[None]] * 3 + [[b"1,2,3,4"]]
    for was, now in zip(before, after, strict=True):
        assert {**was, "originals": 0, "problems": 0} == {**now, "originals": 0, "problems": 0}
    assert [o for _, o in journal.outcomes() if orjson.loads(o)["outcome"] == "decision"] == decisions
    journal.close()


def test_a_rejection_keeps_its_reason_when_its_bytes_are_removed(tmp_path: Path) -> None:
    with closing(recorded(tmp_path, [b"123"])) as journal:
        journal.forget_originals(2_000, 10)
        (content,) = [orjson.loads(o) for _, o in journal.outcomes()]
        (read,) = journal.read(0)
    problem = {"reason": "not_a_number", "field": "tx_amount", "problem": "is no longer kept",
               "expected": "a number"}  # fmt: skip
    assert content == {
        "outcome": "rejection", "position": 0, "reason": "not_a_number:tx_amount",
        "detail": "Field 'tx_amount' is no longer kept; expected a number.", "problems": [problem],
        "transaction_id": None, "raw": None,
    }  # fmt: skip
    assert read.rejected.detail == [content["detail"]]


def kept(journal: SqliteJournal) -> list[int]:
    """How many original bytes each batch has."""
    batches = [batch.originals for batch in journal.read(0)]
    return [0 if originals is None else int(originals.lengths.sum()) for originals in batches]


def test_only_so_many_records_lose_their_bytes_at_once(tmp_path: Path) -> None:
    sizes = [1, 2, 3, 7, 1]
    with closing(recorded(tmp_path, *([b"12345"] * size for size in sizes))) as journal:
        found = []
        for _ in range(4):
            is_more = journal.forget_originals(2_000, 83)
            found.append((kept(journal), is_more))
    assert found == [
        ([0, 0, 15, 35, 5], True), ([0, 0, 0, 35, 5], True), ([0, 0, 0, 0, 5], True), ([0] * 5, False)
    ]  # fmt: skip


def test_large_records_lose_their_bytes_in_smaller_steps(tmp_path: Path) -> None:
    record = b"1," + b"2" * 3_998
    with closing(recorded(tmp_path, [record] * 2, [record] * 2, [record] * 2)) as journal:
        assert journal.forget_originals(2_000, 130)
        assert kept(journal) == [0, 0, 8_000]
        assert not journal.forget_originals(2_000, 130)


def test_rejections_lose_their_bytes_in_smaller_steps(tmp_path: Path) -> None:
    with closing(recorded(tmp_path, [b"123"] * 4, [b"123"] * 4)) as journal:
        assert {orjson.loads(outcome)["outcome"] for _, outcome in journal.outcomes()} == {"rejection"}
        assert journal.forget_originals(2_000, 200)
        assert kept(journal) == [0, 12]


def test_a_too_long_record_is_cut_in_the_journal(tmp_path: Path) -> None:
    most = load_catalogue().record.max_record_bytes
    records = [b"1,2,3", b"x" * 2_000_000, b"y" * most, b"z" * (most + 1), b"4,5"]
    with closing(recorded(tmp_path, records)) as journal:
        (batch,) = journal.read(0)
    assert [batch.original(i) for i in range(5)] == [record[:most] for record in records]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 200_000


def test_a_reader_does_not_keep_bytes_from_being_removed_later(tmp_path: Path) -> None:
    journal = recorded(tmp_path, SECRETS)
    reader = SqliteJournal(tmp_path / "journal.db", load_catalogue(), read_only=True)
    rows = reader.outcomes()
    next(rows)
    journal.forget_originals(2_000, 10)
    assert any(SECRETS[0] in path.read_bytes() for path in tmp_path.iterdir()), "a reader still needs it"
    reader.close()
    journal.forget_originals(2_000, 10)
    assert not any(SECRETS[0] in path.read_bytes() for path in tmp_path.iterdir())
    journal.close()


def test_a_journal_of_an_earlier_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(ArtefactError, match=r"has format 3; this version reads format 5\.") as raised:
        opened(tmp_path)
    assert "`zaslon run`" in str(raised.value.hint)


@pytest.mark.parametrize(("table", "column"), [("batches", "content"), ("originals", "content")])
def test_a_batch_that_was_changed_is_refused(tmp_path: Path, table: str, column: str) -> None:
    recorded(tmp_path, RECORDS).close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        (content,) = connection.execute(f"SELECT {column} FROM {table}").fetchone()
        changed = bytes([content[-1] ^ 1])
        connection.execute(f"UPDATE {table} SET {column} = ?", (content[:-1] + changed,))
    with (
        closing(opened(tmp_path)) as journal,
        pytest.raises(ArtefactError, match="The log is damaged: the"),
    ):
        list(journal.read(0))
