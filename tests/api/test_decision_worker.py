"""The decision worker: groups in one transaction, what is left out for lack of time, a log that fails."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.serving import serving, transaction
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.adapters.process.worker_process import WorkerProcess
from zaslon.bootstrap import build_clock, build_decider
from zaslon.domain.answers import Answer
from zaslon.domain.errors import ArtefactError, BusyError, ServerError, UncertainError, ZaslonError
from zaslon.domain.events import Degradation, Kind
from zaslon.features.plan import plan_features
from zaslon.flows.reconcile import reconcile
from zaslon.flows.replay import replay
from zaslon.flows.serve import GroupDone
from zaslon.ports import Decider
from zaslon.services.home import keep_champion, load_champion
from zaslon.services.latency_budget import Cost, LatencyBudget
from zaslon.services.snapshot_writer import SnapshotResult
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

LIMITS = {"api_queue_records_max": 100, "api_group_records_max": 50}
COSTS = {
    Degradation.NOTHING: Cost(0.010, 0.001), Degradation.EXPLANATION: Cost(0.005, 0.0005),
    Degradation.MODEL: Cost(0.002, 0.0002), Degradation.RULES: Cost(0.001, 0.0001),
}  # fmt: skip


class Asker:
    """Submits calls and waits for their answers."""

    def __init__(self, worker: Decider) -> None:
        self.worker = worker

    def submit(
        self, records: list[bytes], kind: Kind = Kind.TRANSACTION_JSON, budget: float = 3_600
    ) -> Callable[[], list[Answer]]:
        replies: list[list[Answer] | ZaslonError] = []
        done = threading.Event()

        def answered(answers: list[Answer] | ZaslonError) -> None:
            replies.append(answers)
            done.set()

        self.worker.submit(records, kind, build_clock().monotonic_seconds() + budget, answered)

        def wait() -> list[Answer]:
            assert done.wait(DEADLINE_SECONDS)
            (answers,) = replies
            if isinstance(answers, ZaslonError):
                raise answers
            return answers

        return wait


@dataclass
class Opened:
    """A decision worker in its process, and what it reported besides its answers."""

    worker: Decider
    pid: int
    groups: list[GroupDone]
    saves: queue.SimpleQueue[SnapshotResult]


def begun(world: SmallWorld, grouped: Callable[[GroupDone], None] | None = None, **settings: Any) -> Opened:
    """a decision worker that may not be ready yet."""
    groups: list[GroupDone] = []
    saves: queue.SimpleQueue[SnapshotResult] = queue.SimpleQueue()
    pids: list[int] = []
    worker = build_decider(
        load_settings(home=world.context.home, **{**LIMITS, **settings}), world.context, begun=pids.append,
        grouped=grouped or groups.append, saved=saves.put, passed=lambda deliveries, position: None, notify=print,
    )  # fmt: skip
    return Opened(worker, pids[0], groups, saves)


def opened(world: SmallWorld, **settings: Any) -> Opened:
    found = begun(world, **settings)
    found.worker.start()
    return found


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_rest_decides_as_the_embedded_engine_does_bit_for_bit(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    world = small_world.in_home(tmp_path / "home")
    rows = [line.split(b",") for line, kind in zip(world.records, world.kinds, strict=True) if kind == 0]
    names = world.context.catalogue.record.columns
    sent = [
        orjson.dumps({name: value.decode("latin-1") for name, value in zip(names, row, strict=False)})
        for row in rows[:150]
    ]
    labels = [b'{"transaction_id":%s,"is_fraud":true}' % rows[i][0] for i in range(0, 100, 10)]
    worker = opened(world).worker
    asker = Asker(worker)
    asker.submit(sent[:40])()
    waits = [asker.submit([record]) for record in sent[40:60]]
    asker.submit(labels, Kind.LABEL_JSON)()
    waits += [asker.submit([record]) for record in sent[60:]]
    answers = [answer.outcome for wait in waits for answer in wait()]
    worker.close()
    journal = world.context.open_journal()
    engine = small_world.engine()
    expected = [o.to_json() for batch in journal.read(0) for o in engine.process(batch).outcomes]
    assert [outcome for _, outcome in journal.outcomes()] == expected
    assert set(answers) <= set(expected)
    assert sum(b'"decision"' in outcome for outcome in expected) > 100
    journal.close()


def test_calls_that_wait_together_are_decided_together(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    found = opened(world)
    worker, groups = found.worker, found.groups
    asker = Asker(worker)
    with stopped(found.pid):
        waits = [asker.submit([orjson.dumps(transaction())]) for _ in range(60)]
    positions = [json.loads(wait()[0].outcome)["position"] for wait in waits]
    worker.close()
    assert positions == list(range(60))
    assert sum(sum(group.outcomes["decision"].values()) for group in groups) == 60
    assert len(groups) < 60


def test_a_full_queue_and_a_closed_worker_are_reported(small_world: SmallWorld, tmp_path: Path) -> None:
    worker = opened(small_world.in_home(tmp_path / "home")).worker
    asker = Asker(worker)
    with pytest.raises(BusyError, match="queue is full"):
        asker.submit([b"{}"] * 101)
    worker.close()
    with pytest.raises(BusyError, match="not ready"):
        asker.submit([b"{}"])
    assert not worker.is_ready


def test_a_queue_is_full_of_bytes_too(small_world: SmallWorld, tmp_path: Path) -> None:
    found = opened(small_world.in_home(tmp_path / "home"), api_queue_bytes_max=5_000)
    asker = Asker(found.worker)
    with stopped(found.pid):
        waits = [asker.submit([b"x" * 9_000])]  # the only one may be larger
        with pytest.raises(BusyError, match="queue is full"):
            asker.submit([b"{}"])
    assert waits.pop()()[0].rejection is not None
    with stopped(found.pid):
        waits = [asker.submit([b"x" * 2_500]), asker.submit([b"y" * 2_500])]
        with pytest.raises(BusyError, match="queue is full"):
            asker.submit([b"z"])
    assert len([wait() for wait in waits]) == 2
    found.worker.close()


def test_what_is_taken_before_the_end_is_answered(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    worker = opened(world).worker
    waits = [Asker(worker).submit([orjson.dumps(transaction())]) for _ in range(30)]
    worker.close()
    assert [json.loads(wait()[0].outcome)["position"] for wait in waits] == list(range(30))
    assert reconcile(world.context).decisions == 30


def test_a_late_call_gets_the_fallback_and_replays_the_same(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    worker = opened(world).worker
    (late,) = Asker(worker).submit([orjson.dumps(transaction())], budget=-1)()
    worker.close()
    decision = json.loads(late.outcome)
    assert (decision["degraded"], decision["action"], decision["score"]) == ("rules", "review", None)
    assert replay(world.context, 0).identical
    assert reconcile(world.context).degraded == {"rules": 1}


@pytest.mark.slow
def test_a_log_that_fails_refuses_and_is_taken_up_again(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    worker = opened(world).worker
    asker = Asker(worker)
    asker.submit([orjson.dumps(transaction())])()
    # Another writer takes the decision worker's place in the log, so that its next group cannot be recorded.
    other = world.context.open_journal()
    stranger = world.engine()
    (first,) = other.read(0)
    stranger.process(first)
    from zaslon.domain.events import RecordBatch

    batch = world.admit(RecordBatch.of([b"{}"], [Kind.TRANSACTION_JSON], [0], 1))
    other.record(batch, stranger.process(batch).outcomes, None)
    other.close()
    sent = orjson.dumps(transaction())
    with pytest.raises(ZaslonError):
        asker.submit([sent])()

    def again() -> list[Answer]:
        with suppress(BusyError):  # until it has opened the log again
            return asker.submit([sent])()
        return []

    (answer,) = until(again)
    assert (json.loads(answer.outcome)["position"], answer.repeated) == (2, False)
    worker.close()
    assert reconcile(world.context).is_whole


def test_a_failed_snapshot_does_not_stop_decisions(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    found = opened(world, snapshot_every_records=1)
    worker, saves, context = found.worker, found.saves, world.context
    asker = Asker(worker)
    asker.submit([orjson.dumps(transaction())])()
    first = saves.get(timeout=DEADLINE_SECONDS)
    assert (first.position, first.is_kept) == (1, True)
    (place,) = (context.home / "log" / "snapshots").iterdir()
    aside = place.rename(tmp_path / "aside")
    place.write_text("a file where the directory should be")
    asker.submit([orjson.dumps(transaction())])()
    assert not saves.get(timeout=DEADLINE_SECONDS).is_kept
    place.unlink()
    aside.rename(place)
    asker.submit([orjson.dumps(transaction())])()
    worker.close()
    third = saves.get(timeout=DEADLINE_SECONDS)
    assert (third.position, third.is_kept) == (3, True)
    assert reconcile(world.context).is_whole


def test_taking_never_waits_for_a_worker_that_takes_nothing(small_world: SmallWorld, tmp_path: Path) -> None:
    found = opened(small_world.in_home(tmp_path / "home"), api_queue_records_max=1_000)
    asker = Asker(found.worker)
    with stopped(found.pid):  # ten times what the channel holds
        large = [orjson.dumps(transaction(more="x" * 20_000)) for _ in range(100)]
        waits = [asker.submit([record]) for record in large]
        assert found.worker.waiting_records == 100
    positions = [json.loads(wait()[0].outcome)["position"] for wait in waits]
    assert positions == list(range(100)), "in the order in which they were taken"
    assert found.worker.waiting_records == 0
    found.worker.close()


@pytest.mark.slow
def test_a_killed_workers_callers_get_unknown_outcomes(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    found = opened(world)
    asker = Asker(found.worker)
    (answer,) = asker.submit([orjson.dumps(transaction())])()
    os.kill(found.pid, signal.SIGSTOP)
    wait = asker.submit([orjson.dumps(transaction())])
    os.kill(found.pid, signal.SIGKILL)
    with pytest.raises(UncertainError, match="has ended"):
        wait()
    assert (found.worker.is_alive, found.worker.is_ready, found.worker.waiting_records) == (False, False, 0)
    with pytest.raises(BusyError, match="not ready"):
        asker.submit([b"{}"])
    found.worker.close()
    again = opened(world).worker
    (known,) = again.open_outcomes().find(json.loads(answer.outcome)["transaction_id"])
    assert known[1] == answer.outcome
    again.close()


def test_a_worker_that_cannot_start_reports_cause_and_hint(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    journal = world.context.home / "log" / "journal.db"
    journal.parent.mkdir()
    journal.write_bytes(b"no journal" * 1_000)
    found = begun(world)
    with pytest.raises(ArtefactError, match="is damaged or not a journal") as raised:
        found.worker.start()
    assert raised.value.hint == "Restore it from a backup, or name another home."
    found.worker.close()


def test_a_worker_killed_at_its_start_is_not_waited_for(small_world: SmallWorld, tmp_path: Path) -> None:
    found = begun(small_world.in_home(tmp_path / "home"))
    os.kill(found.pid, signal.SIGKILL)
    with pytest.raises(ServerError, match="ended before it was ready"):
        found.worker.start()
    with pytest.raises(BusyError, match="not ready"):
        Asker(found.worker).submit([b"{}"])
    found.worker.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_blocks_signals_from_its_first_moment(
    small_world: SmallWorld, tmp_path: Path, number: signal.Signals
) -> None:
    found = begun(small_world.in_home(tmp_path / "home"))
    os.kill(found.pid, number)
    found.worker.start()
    found.worker.close()


def test_any_setting_that_the_service_takes_reaches_the_worker(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    world = small_world.in_home(tmp_path / os.fsdecode(b"no utf-8 \xff"))
    found = opened(world, snapshot_every_records=10**20, pseudonym_key="sixteen letters or more")
    Asker(found.worker).submit([orjson.dumps(transaction())])()
    found.worker.close()
    assert reconcile(world.context).decisions == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failed_channel_leaves_no_caller_waiting(small_world: SmallWorld, tmp_path: Path) -> None:
    def mistake(_: object) -> None:
        raise ZeroDivisionError

    world = small_world.in_home(tmp_path / "home")
    worker = begun(world, grouped=mistake).worker
    worker.start()
    Asker(worker).submit([orjson.dumps(transaction())])()
    with pytest.raises((UncertainError, BusyError)):
        Asker(worker).submit([orjson.dumps(transaction())])()
    assert not worker.is_alive
    worker.close()


def test_the_log_is_read_only_after_the_worker_opened_it(small_world: SmallWorld, tmp_path: Path) -> None:
    found = begun(small_world.in_home(tmp_path / "home"))
    with stopped(found.pid), pytest.raises(BusyError, match="starting"):
        found.worker.open_outcomes()
    found.worker.start()
    found.worker.open_outcomes()
    found.worker.close()


def test_a_late_answer_names_the_fallback(small_world: SmallWorld, tmp_path: Path) -> None:
    with serving(small_world, tmp_path / "home", in_process=True, api_budget_ms=1) as callers:
        caller = callers("scorer")
        worker = caller.service.decider
        assert isinstance(worker, WorkerProcess)
        with stopped(worker.pid):
            refused = caller.post("/v1/transactions", transaction())
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:zaslon:problem:not_in_time")
    assert refused.json()["fallback_action"] == "review"


def test_a_late_answer_names_the_fallback_of_the_promoted_policy(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    with serving(small_world, tmp_path / "home", in_process=True, api_budget_ms=200) as callers:
        caller = callers("scorer")
        worker, context = caller.service.decider, caller.service.context
        assert isinstance(worker, WorkerProcess)
        model, policy = load_champion(context, plan_features(context.catalogue))
        blocking = replace(policy, text=policy.text.model_copy(update={"fallback": "block"}))
        keep_champion(context, model, blocking)
        until(lambda: worker.serving is not None and worker.serving.policy == blocking.hash)
        with stopped(worker.pid):
            refused = caller.post("/v1/transactions", transaction())
    assert (refused.status_code, refused.json()["fallback_action"]) == (503, "block")


def test_with_time_nothing_is_left_out_and_with_less_more_and_more() -> None:
    budget = LatencyBudget(COSTS)
    enough = [0.1, 0.010, 0.006, 0.0001]
    assert [budget.degradation(1, seconds) for seconds in enough] == [
        Degradation.NOTHING, Degradation.EXPLANATION, Degradation.MODEL, Degradation.RULES,
    ]  # fmt: skip


def test_a_slow_machine_is_noticed_and_a_recovered_one_too() -> None:
    budget = LatencyBudget(COSTS)
    for _ in range(20):
        budget.learn(Degradation.NOTHING, 1, 0.11, 0.002)
    assert budget.degradation(1, 0.1) > Degradation.NOTHING
    for _ in range(40):
        budget.learn(Degradation.RULES, 1, 0.0011, 0.002)
    assert budget.degradation(1, 0.1) == Degradation.NOTHING


@given(st.integers(1, 1_000), st.floats(0, 10), st.floats(0, 10))
def test_more_time_never_leaves_out_more(records: int, some: float, other: float) -> None:
    budget = LatencyBudget(COSTS)
    less, more = sorted((some, other))
    assert budget.degradation(records, more) <= budget.degradation(records, less)


def test_settings_of_the_service_have_ranges() -> None:
    wrong: Any
    for wrong in ({"api_port": 70_000}, {"api_budget_ms": 0}, {"api_batch_records_max": 0}):
        with pytest.raises(ZaslonError, match=next(iter(wrong))):
            load_settings(**wrong)
