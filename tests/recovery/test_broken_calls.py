"""A call that breaks our own code outside of the engine fails alone: the process and the other calls go on."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from pathlib import Path

import pytest
from tests.api.serving import serving
from tests.api.serving import transaction as posted
from tests.recovery.faults import ANSWER_STAGES, CALL_STAGE, InjectedError, Poison, inject
from tests.recovery.given_calls import GivenCalls, call, transaction

from zaslon.bootstrap import build_clock
from zaslon.domain.errors import BrokenCallError, UncertainError
from zaslon.domain.outcomes import Decision
from zaslon.flows.reconcile import reconcile
from zaslon.flows.serve import GROUP, DecisionWorker
from zaslon.services.context import Context
from zaslon.testing import SmallWorld

POISON = Poison(13, 1_000.25)
OTHERS = [transaction(number, 20.0 + number) for number in range(6)]
BROKEN = transaction(POISON.transaction_id, POISON.amount)
GROUPS = [
    [call(0, OTHERS[:2]), call(1, [BROKEN]), call(2, OTHERS[2:4])],
    [call(3, OTHERS[4:]), call(4, OTHERS[:1])],
]


def worked(context: Context) -> GivenCalls:
    calls = GivenCalls(deque(list(group) for group in GROUPS))
    DecisionWorker(context, 100, build_clock(), calls).run()
    assert calls.readiness == [True], "the worker goes on"
    for number, ids in ((0, [0, 1]), (2, [2, 3]), (3, [4, 5]), (4, [0])):
        assert [outcome["transaction_id"] for outcome in calls.outcomes(number)] == ids
    return calls


def records_in(context: Context) -> int:
    with closing(context.open_journal()) as journal:
        return journal.next_position


def test_a_call_that_breaks_before_admission_is_not_in_the_log(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    inject(monkeypatch, CALL_STAGE, POISON)
    calls = worked(context)
    error = calls.answers[1]
    assert isinstance(error, BrokenCallError) and "nothing of it is in the log" in str(error)
    assert records_in(context) == 7, "six and a repeat"


def test_code_that_breaks_every_call_stops_the_worker(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    inject(monkeypatch, CALL_STAGE, None)
    with pytest.raises(InjectedError):
        worked(context)
    assert records_in(context) == 0


def test_an_answer_that_breaks_changes_nothing_in_the_log(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    with monkeypatch.context() as faulty:
        inject(faulty, "answer", POISON)
        calls = worked(context)
    assert isinstance(calls.answers[1], UncertainError)
    assert records_in(context) == 8
    assert counted(calls) == 7, "it is decided, and counted"
    again = GivenCalls(deque([[call(0, [BROKEN])]]))
    DecisionWorker(context, 100, build_clock(), again).run()
    (answer,) = again.outcomes(0)
    assert answer["outcome"] == "decision" and answer["position"] == 2
    assert reconcile(context).is_whole


def test_an_outcome_that_cannot_be_counted_is_answered(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = small_world.in_home(tmp_path / "home").context
    counted_as = Decision.counted_as.fget  # type: ignore[attr-defined]

    def failing(decision: Decision) -> tuple[str, str]:
        if decision.transaction_id == POISON.transaction_id:
            raise InjectedError
        found: tuple[str, str] = counted_as(decision)
        return found

    monkeypatch.setattr(Decision, "counted_as", property(failing))
    calls = worked(context)
    assert calls.outcomes(1)[0]["outcome"] == "decision"
    assert counted(calls) == 6


def counted(calls: GivenCalls) -> int:
    """How many decisions the worker has reported."""
    groups = [content for topic, content in calls.notices if topic == GROUP]
    return sum(sum(group.outcomes.get("decision", {}).values()) for group in groups)


@pytest.mark.parametrize(("stage", "status"), [(CALL_STAGE, 500), *((stage, 503) for stage in ANSWER_STAGES)])
def test_a_broken_call_is_told_over_http_and_the_next_is_answered(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, status: int
) -> None:
    inject(monkeypatch, stage, POISON)
    body = posted(transaction_id=POISON.transaction_id, tx_amount=POISON.amount)
    with serving(small_world, tmp_path / "home") as open_as:
        caller = open_as("scorer")
        broken = caller.post("/v1/transactions", body)
        assert broken.status_code == status
        assert broken.json()["type"].endswith("internal" if status == 500 else "not_in_time")
        assert caller.post("/v1/transactions", posted()).status_code == 200
        monkeypatch.undo()
        found = caller.post("/v1/transactions", body)
        assert (found.status_code, found.json()["repeated"]) == (200, status == 503)
