"""A record that breaks our own code gets `engine_error`; all others are decided as if it were not there."""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from tests.recovery.faults import EMBEDDED_STAGES, InjectedError, Poison, inject, stopped_poison
from tests.recovery.given_calls import GivenCalls, call, transaction

from zaslon.bootstrap import build_clock
from zaslon.domain.errors import InputError
from zaslon.domain.events import RecordBatch, Transactions
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.engine import Engine
from zaslon.entrypoints.api.service_metrics import Metrics
from zaslon.features.history import Applied, History
from zaslon.flows.reconcile import reconcile
from zaslon.flows.replay import replay
from zaslon.flows.score import score
from zaslon.flows.serve import GROUP, DecisionWorker, GroupDone
from zaslon.services.decision_loop import decide_records
from zaslon.services.poison import PoisonGuard, guarded_engine
from zaslon.system.isolation import by_halves
from zaslon.testing import SmallWorld

ROWS = 300
PROBLEM = RecordProblem(Reason.ENGINE_ERROR, None, "Zaslon's own code failed on this record: InjectedError")


@pytest.fixture(scope="module")
def poison(small_world: SmallWorld) -> tuple[Poison, int]:
    """A transaction of the log, and its index."""
    return stopped_poison(small_world, small_world.batch(0, ROWS))


def decided(world: SmallWorld, size: int) -> tuple[list[bytes], list[str]]:
    """Decide the log in batches into the home; returns the outcomes and the notices."""
    notices: list[str] = []
    context = replace(world.context, progress=Warnings(notices))
    with closing(context.open_journal()) as journal:
        snapshots = context.open_snapshots(journal)
        guard = guarded_engine(context, journal, snapshots)
        batches = (world.batch(begin, min(begin + size, ROWS)) for begin in range(0, ROWS, size))
        decide_records(
            guard, journal, snapshots, batches, "log", snapshot_every_records=70, progress=context.progress
        )
        return [outcome for _, outcome in journal.outcomes()], notices


class Warnings:
    """A progress that keeps its warnings."""

    def __init__(self, notices: list[str]) -> None:
        self.printed = notices

    def start(self, stage: str, total: int | None, unit: str = "rows") -> None:
        """Nothing."""

    def advance(self, steps: int) -> None:
        """Nothing."""

    def warn(self, sentence: str) -> None:
        """Keep it."""
        self.printed.append(sentence)


def expected(world: SmallWorld, index: int) -> list[bytes]:
    """The outcomes of a log in which the record is rejected."""
    batch = world.batch(0, ROWS).rejecting([index], PROBLEM)
    return [outcome.to_json() for outcome in world.engine().process(batch).outcomes]


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("stage", EMBEDDED_STAGES)
def test_a_poison_record_is_rejected_and_all_others_are_decided(
    small_world: SmallWorld, poison: tuple[Poison, int], tmp_path: Path, stage: str, size: int
) -> None:
    world, (record, index) = small_world.in_home(tmp_path), poison
    with pytest.MonkeyPatch.context() as faulty:
        inject(faulty, stage, record)
        outcomes, notices = decided(world, size)
    wanted = expected(world, index)
    assert outcomes[:index] + outcomes[index + 1 :] == wanted[:index] + wanted[index + 1 :]
    rejection = orjson.loads(outcomes[index])
    assert rejection["reason"] == "engine_error"
    assert rejection["raw"] == world.records[index].decode()
    assert "failed on this record: InjectedError" in rejection["detail"]
    assert [sentence.partition(".")[0] for sentence in notices] == [f"Position {index} is an engine_error"]
    for position in (index - 1, index, index + 1, ROWS - 1):
        assert replay(world.context, position).identical, "without the fault, too"
    assert reconcile(world.context).is_whole


@pytest.mark.parametrize("chosen", [(0, 1, 2), (98, 99, 100, 101), (5, 140, -1)])
def test_poison_records_beside_each_other_are_all_found(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: tuple[int, ...]
) -> None:
    world, whole = small_world.in_home(tmp_path), small_world.batch(0, ROWS)
    indexes = sorted(int(whole.transaction_index[index]) for index in chosen)
    broken = set(whole.transactions.digest[list(chosen), 0].tolist())
    apply = History.apply

    def failing(history: History, rows: Transactions, *rest: Any) -> Applied:
        applied = apply(history, rows, *rest)
        if broken & set(rows.digest[:, 0].tolist()):
            raise InjectedError
        return applied

    monkeypatch.setattr(History, "apply", failing)
    outcomes, notices = decided(world, 100)
    assert [i for i, o in enumerate(outcomes) if b"engine_error" in o] == indexes
    assert len(notices) == len(indexes)
    batch = small_world.batch(0, ROWS).rejecting(indexes, PROBLEM)
    wanted = [outcome.to_json() for outcome in small_world.engine().process(batch).outcomes]
    assert [o for o in outcomes if b"engine_error" not in o] == [
        o for o in wanted if b"engine_error" not in o
    ]


@pytest.mark.parametrize("stage", EMBEDDED_STAGES)
def test_code_that_breaks_ordinary_records_stops_the_run(
    small_world: SmallWorld, poison: tuple[Poison, int], tmp_path: Path, stage: str
) -> None:
    world = small_world.in_home(tmp_path)
    with pytest.MonkeyPatch.context() as faulty:
        inject(faulty, stage, None)
        with pytest.raises(InjectedError):
            decided(world, 100)
    with closing(world.context.open_journal()) as journal:
        assert journal.next_position <= poison[1]
        assert not any(b"engine_error" in outcome for _, outcome in journal.outcomes())


@pytest.mark.parametrize("stage", ["apply", "score", "explain"])
def test_a_failed_engine_is_let_go_before_the_next_is_recovered(
    small_world: SmallWorld, poison: tuple[Poison, int], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    inject(monkeypatch, stage, poison[0])
    failed, are_gone = [weakref.ref(small_world.engine().history)], []

    def recover() -> Engine:
        are_gone.append(failed[-1]() is None)
        engine = small_world.engine()
        failed.append(weakref.ref(engine.history))
        return engine

    guard = PoisonGuard(recover(), recover, lambda _: None)
    are_gone.clear()
    # Nothing was recorded that `recover` could replay, so the second half does not fit.
    with pytest.raises(ValueError, match="expected 0"):
        guard.decide(small_world.batch(0, poison[1] + 1), lambda batch, outcomes: None)
    assert are_gone and all(are_gone)


def test_a_row_of_a_file_that_breaks_the_engine_is_rejected(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small_world.in_home(tmp_path / "home")
    inject(monkeypatch, "score", Poison(3, 77.77))
    report = score(world.context, [str(rows(tmp_path))], learn=False)
    assert report.decided.rejected == {"engine_error": 1}
    assert report.decided.decisions == 4
    with closing(world.context.open_journal()) as journal:
        (kept,) = [o for _, o in journal.outcomes() if b"engine_error" in o]
    row = orjson.loads(orjson.loads(kept)["raw"])
    assert (row["transaction_id"], row["amount_minor"]) == (900_000_003, 7777)
    again = score(world.context, [str(rows(tmp_path))], learn=False)
    assert (again.decided.already_done, again.decided.decisions) == (5, 0)


def test_a_row_of_a_file_that_breaks_cleaning_is_rejected(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small_world.in_home(tmp_path / "home")
    inject(monkeypatch, "clean", Poison(3, 77.77))
    report = score(world.context, [str(rows(tmp_path))], learn=False)
    assert report.clean.report.rows_rejected == {"engine_error": 1}
    assert report.decided.decisions == 4
    (row,) = pl.read_parquet(report.clean.out / "_quarantine.parquet").to_dicts()
    assert (row["record"], row["reason"]) == (4, "engine_error")
    assert b"77.77" in row["raw"]


def rows(directory: Path) -> Path:
    lines = ["transaction_id,tx_datetime,customer_id,terminal_id,tx_amount"]
    for i in range(5):
        lines.append(f"{900_000_000 + i},2019-10-01 10:00:0{i},{i},5,{77.77 if i == 3 else 10 + i}")
    path = directory / "rows.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("stage", EMBEDDED_STAGES)
def test_a_poison_record_does_not_end_the_service(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    world = small_world.in_home(tmp_path / "home")
    inject(monkeypatch, stage, Poison(13, 77.77))
    # All are stopped, so that all are explained.
    (tmp_path / "home" / "policy.toml").write_text("[thresholds]\nreview = 0.00001\nblock = 0.99999\n")
    others = [transaction(number, 20.0 + number) for number in range(10)]
    first = [call(0, others[:3]), call(1, [transaction(13, 77.77)]), call(2, others[3:6])]
    calls = GivenCalls(deque([first, [call(3, others[6:])], [call(4, [others[0]])]]))
    DecisionWorker(world.context, 100, build_clock(), calls).run()
    found = {number: calls.outcomes(number) for number in range(5)}
    assert calls.readiness == [True], "the worker goes on"
    assert [o["action"] for n in (0, 2, 3) for o in found[n]] == ["review"] * 10
    assert all(o["reasons"] for n in (0, 2, 3) for o in found[n])
    assert [o["reason"] for o in found[1]] == ["engine_error"]
    assert found[4] == found[0][:1], "a repeat is still known"
    metrics = Metrics()
    for topic, content in calls.notices:
        if topic == GROUP:
            assert isinstance(content, GroupDone)
            metrics.group(content)
    assert b"zaslon_engine_errors_total 1.0" in metrics.text()
    monkeypatch.undo()
    assert all(replay(world.context, position).identical for position in range(11))
    assert reconcile(world.context).is_whole


def test_halving_finds_every_record_that_breaks_the_work() -> None:
    broken = {0, 6, 7, 31}

    def work(begin: int, end: int) -> list[int]:
        if broken & set(range(begin, end)):
            raise KeyError(begin)
        return list(range(begin, end))

    found = by_halves(work, 32, lambda index, error: [-index])
    assert [i for part in found for i in part] == [-i if i in broken else i for i in range(32)]
    assert by_halves(work, 0, lambda index, error: [index]) == [[]]


def test_halving_lets_a_users_error_and_a_lack_of_memory_through() -> None:
    for error in (InputError("no"), MemoryError()):

        def work(begin: int, end: int, error: Exception = error) -> int:
            raise error

        with pytest.raises(type(error)):
            by_halves(work, 4, lambda index, error: index)


def test_parts_of_raw_records_keep_their_positions() -> None:
    batch = RecordBatch.of([b"a", b"bc", b""], [0, 1, 2], [5, 6, 7], 10)
    part = batch.part(1, 3)
    assert (part.first_position, part.raw(0), part.raw(1), part.kinds.tolist()) == (11, b"bc", b"", [1, 2])
    np.testing.assert_array_equal(part.arrival_time_seconds, [6, 7])
