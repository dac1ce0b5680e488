"""The list of stages with injected faults is complete: each function of the walk in ARCHITECTURE.md has had one."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from tests.api.serving import serving
from tests.api.serving import transaction as posted
from tests.call_trace import label_walk, walk
from tests.recovery.faults import (
    EMBEDDED_LABEL_STAGES,
    EMBEDDED_STAGES,
    FILE_STAGES,
    LABEL_FILE_STAGES,
    PASSED,
    SUBMIT,
    Poison,
    inject,
    poisoned,
    without_fault,
)
from tests.recovery.given_calls import GivenCalls, call, transaction

from zaslon.bootstrap import build_clock
from zaslon.domain.events import Kind
from zaslon.flows.score import label, score
from zaslon.flows.serve import DecisionWorker
from zaslon.services.context import Context
from zaslon.testing import SmallWorld

OF_ROWS = tuple(dict.fromkeys([*FILE_STAGES, *EMBEDDED_STAGES]))
OVER_HTTP = "A transaction over HTTP, "
# Before these pass a record on, nothing looks into it: a fault there fails the one call that brought it.
BY_CALL = {
    "zaslon.entrypoints.api.service.Service.decide",
    "zaslon.adapters.process.worker_process.WorkerProcess.submit",
}


@pytest.fixture(autouse=True)
def no_fault_yet() -> None:
    PASSED.clear()


def stopping_everything(context: Context) -> Context:
    """With a policy that stops all transactions, so that all are explained."""
    (context.home / "policy.toml").write_text("[thresholds]\nreview = 0.00001\nblock = 0.99999\n")
    return context


def test_every_function_passed_by_a_row_has_had_a_fault(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = stopping_everything(small_world.in_home(tmp_path / "home").context)
    poisons = poisoned(monkeypatch, OF_ROWS)
    rows = ["transaction_id,tx_datetime,customer_id,terminal_id,tx_amount"]
    rows += [f"{n},2019-10-01 10:00:{n:02d},{n},5,{10 + n}.00" for n in range(20)]
    rows += [f"{p.transaction_id},2019-10-01 11:00:00,3,5,{p.amount:.2f}" for p in poisons.values()]
    rows.append(
        next(row for row in rows if f"{poisons['settle'].amount:.2f}" in row)
    )  # only repeats are settled
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    report = score(context, [str(tmp_path / "rows.csv")], learn=False)
    rejected = Counter(report.clean.report.rows_rejected) + Counter(report.decided.rejected)
    assert rejected == {"engine_error": len(poisons)}
    assert report.decided.decisions == 21
    assert set(PASSED) == set(OF_ROWS)
    assert without_fault(walk("A row of a file")) == set()


def test_every_function_passed_by_a_label_file_has_had_a_fault(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    stages = (*LABEL_FILE_STAGES, *EMBEDDED_LABEL_STAGES)
    poisons = poisoned(monkeypatch, stages)
    rows = ["transaction_id,note,is_fraud", *(f"{n},ok,1" for n in range(20))]
    rows += [f"{p.transaction_id},{p.amount:.2f},1" for p in poisons.values()]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    report = label(context, tmp_path / "labels.csv", None)
    assert (report.rejected, report.labels) == ({"engine_error": len(poisons)}, 20)
    assert set(PASSED) == set(stages)
    assert without_fault(walk("A label in a file")) == set()


@pytest.mark.parametrize("kind", [Kind.TRANSACTION_JSON, Kind.LABEL_JSON])
def test_every_function_passed_over_http_has_had_a_fault(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    context = stopping_everything(small_world.in_home(tmp_path / "home").context)
    is_label = kind == Kind.LABEL_JSON
    poisons = poisoned(monkeypatch, EMBEDDED_LABEL_STAGES if is_label else EMBEDDED_STAGES).values()
    if is_label:
        ids = [*range(10), *(poison.transaction_id for poison in poisons)]
        records = [orjson.dumps({"transaction_id": i, "is_fraud": True}) for i in ids]
    else:
        records = [transaction(n, 20.0 + n) for n in range(10)]
        records += [transaction(poison.transaction_id, poison.amount) for poison in poisons]
    calls = GivenCalls(deque([[call(0, records, kind)]]))
    DecisionWorker(context, 100, build_clock(), calls).run()
    kinds = Counter(outcome["outcome"] for outcome in calls.outcomes(0))
    assert (kinds["rejection"], sum(kinds.values())) == (len(poisons), 10 + len(poisons))
    names = label_walk(OVER_HTTP) if is_label else walk(OVER_HTTP)
    assert without_fault(names) == BY_CALL
    with closing(context.open_journal()) as journal:
        assert journal.next_position == len(records)


def test_a_fault_in_a_call_fails_that_call_alone(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, SUBMIT, Poison(0, 1_000.25))
    with serving(small_world, tmp_path / "home") as open_as:
        caller = open_as("scorer")
        assert caller.post("/v1/transactions", posted(tx_amount=1_000.25)).status_code == 500
        assert caller.post("/v1/transactions", posted()).status_code == 200
    assert without_fault(sorted(BY_CALL)) == set()
