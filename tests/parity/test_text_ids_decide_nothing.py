"""Transactions named by texts are decided as those named by numbers, whatever the batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.text_ids import TEXT_MISSION, renamed, text_of

from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.admission import admit
from zaslon.domain.events import LogBatch, RecordBatch
from zaslon.engine import Engine
from zaslon.testing import SmallWorld


def by_text(world: SmallWorld) -> Engine:
    """The engine of the small world over a catalogue whose ids are texts."""
    engine = world.engine()
    return Engine(TEXT_MISSION, key=engine.key, model=engine.model, policy=engine.policy)


@pytest.fixture(scope="module")
def numbered(small_world: SmallWorld) -> RecordBatch:
    """The records whose ids are numbers, as all but the defective are."""
    chosen = [
        i for i, (record, kind) in enumerate(zip(small_world.records, small_world.kinds, strict=True))
        if kind != 0 or record.partition(b",")[0].isdigit()
    ]  # fmt: skip
    assert len(chosen) > 0.9 * len(small_world.records)
    return RecordBatch.of(
        [small_world.records[i] for i in chosen], [small_world.kinds[i] for i in chosen],
        [small_world.arrivals[i] for i in chosen],
    )  # fmt: skip


@pytest.fixture(scope="module")
def named(numbered: RecordBatch) -> RecordBatch:
    records = [renamed(numbered.raw(i), int(kind)) for i, kind in enumerate(numbered.kinds)]
    return RecordBatch.of(records, numbered.kinds.tolist(), numbered.arrival_time_seconds.tolist())


def part(batch: RecordBatch, begin: int, end: int) -> RecordBatch:
    rows = slice(begin, end)
    return RecordBatch(
        begin, batch.kinds[rows], batch.arrival_time_seconds[rows], batch.buffer, batch.starts[rows],
        batch.lengths[rows],
    )  # fmt: skip


def admitted(engine: Engine, batch: RecordBatch) -> LogBatch:
    return admit(batch, engine.catalogue, engine.key)


def outcomes(engine: Engine, batch: RecordBatch, size: int) -> list[bytes]:
    return [
        outcome.to_json()
        for begin in range(0, len(batch), size)
        for outcome in engine.process(admitted(engine, part(batch, begin, begin + size))).outcomes
    ]


def test_renaming_ids_changes_nothing_but_the_ids(
    small_world: SmallWorld, numbered: RecordBatch, named: RecordBatch
) -> None:
    expected = [json.loads(o) for o in outcomes(small_world.engine(), numbered, 1000)]
    found = [json.loads(o) for o in outcomes(by_text(small_world), named, 1000)]
    assert {o["outcome"] for o in found} == {"decision", "label", "rejection"}
    for one, other in zip(expected, found, strict=True):
        assert _without_names(one) == _without_names(other)
        if one["transaction_id"] is not None:
            assert other["transaction_id"] == text_of(one["transaction_id"])


def _without_names(outcome: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in outcome.items() if k not in ("transaction_id", "catalogue", "detail", "raw")}


@pytest.mark.parametrize(("size", "records"), [(1, 400), (7, 2_000), (1000, 3_000)])
def test_batches_of_any_size_give_identical_bytes(
    small_world: SmallWorld, named: RecordBatch, size: int, records: int
) -> None:
    log = part(named, 0, records)
    assert outcomes(by_text(small_world), log, size) == outcomes(by_text(small_world), log, records)


def test_a_refusal_names_the_transaction_by_its_text(small_world: SmallWorld, named: RecordBatch) -> None:
    engine = by_text(small_world)
    line = next(named.raw(i) for i in range(len(named)) if named.kinds[i] == 0)
    arrival = int(named.arrival_time_seconds[-1])
    log = RecordBatch.of([line, line], [0, 0], [arrival, arrival])
    first, second = (json.loads(o) for o in outcomes(engine, log, 2))
    assert second["reason"] == "duplicate"
    assert second["detail"].startswith(f"Transaction {first['transaction_id']} repeats")


def test_a_journal_gives_back_what_was_decided_about_a_text(
    small_world: SmallWorld, named: RecordBatch, tmp_path: Path
) -> None:
    engine = by_text(small_world)
    log = admitted(engine, part(named, 0, 500))
    decided = engine.process(log).outcomes
    journal = SqliteJournal(tmp_path / "journal.db", TEXT_MISSION)
    journal.record(log, decided, None)
    for outcome in decided:
        content = json.loads(outcome.to_json())
        if content["outcome"] != "rejection":
            assert (outcome.position, outcome.to_json()) in journal.find(content["transaction_id"])
    journal.close()
