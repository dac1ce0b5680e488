"""What goes on when an engine is replaced: versions, answers, and how much is replayed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from tests.recovery.faults import InjectedError, Poison, inject
from tests.recovery.given_calls import GivenCalls, call, transaction

from zaslon.bootstrap import build_clock
from zaslon.domain.errors import BusyError, SystemRefusedError, UncertainError
from zaslon.domain.events import LogBatch
from zaslon.domain.outcomes import Outcome
from zaslon.engine import Engine
from zaslon.features.plan import plan_features
from zaslon.flows import serve
from zaslon.flows.reconcile import reconcile
from zaslon.flows.serve import DecisionWorker
from zaslon.flows.stream import _Decider
from zaslon.ports.streams import Stream
from zaslon.services.batch_metrics import BatchMetrics
from zaslon.services.decision_loop import DecideReport, decide_batches, decide_records
from zaslon.services.home import keep_champion, load_champion
from zaslon.services.poison import PoisonGuard, guarded_engine
from zaslon.testing import SmallWorld

POISON = Poison(13, 77.77)
RECORDS = [transaction(number, 20.0 + number) for number in range(12)]


@pytest.fixture
def world(small_world: SmallWorld, tmp_path: Path) -> SmallWorld:
    return small_world.in_home(tmp_path / "home")


def serve_calls(world: SmallWorld, calls: GivenCalls) -> None:
    DecisionWorker(world.context, 100, build_clock(), calls).run()


def write_policy(world: SmallWorld, text: str) -> None:
    (world.context.home / "policy.toml").write_text(text)


@pytest.mark.parametrize("text", ["[thresholds]\nreview = 0.0001\nblock = 0.0002\n", "[thresholds\n"])
def test_a_recovery_keeps_the_policy_in_use(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    inject(monkeypatch, "score", POISON)
    groups = [[call(0, RECORDS[:3])], [call(1, [*RECORDS[3:6], transaction(13, 77.77), *RECORDS[6:9]])]]
    calls = GivenCalls(deque(groups), lambda group: write_policy(world, text) if group == 1 else None)
    serve_calls(world, calls)
    first, second = calls.outcomes(0), calls.outcomes(1)
    assert [o["outcome"] for o in second] == ["decision"] * 3 + ["rejection"] + ["decision"] * 3
    assert {o["policy"] for o in [*first, *second] if o["outcome"] == "decision"} == {first[0]["policy"]}


def test_a_journal_that_failed_is_served_with_the_same_champion(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(group: int) -> None:
        if group == 1:
            write_policy(world, "[thresholds\n")
            journal_fails_once(monkeypatch)

    calls = GivenCalls(deque([[call(n, RECORDS[3 * n : 3 * n + 3])] for n in range(3)]), before)
    serve_calls(world, calls)
    assert isinstance(calls.answers[1], SystemRefusedError)
    assert {o["policy"] for n in (0, 2) for o in calls.outcomes(n)} == {calls.outcomes(0)[0]["policy"]}
    assert calls.readiness == [True, False, True]


def journal_fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = serve._Recorded.add

    def fail(*given: Any) -> None:
        monkeypatch.setattr(serve._Recorded, "add", recorded)
        raise SystemRefusedError("no space")

    monkeypatch.setattr(serve._Recorded, "add", fail)


def test_a_file_is_decided_with_the_champion_it_began_with(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = world.context
    model, policy = load_champion(context, plan_features(context.catalogue))
    broken = int(world.batch(100, 160).transaction_index[20]) + 100
    breaking(monkeypatch, {broken})

    def batches() -> Iterator[LogBatch]:
        yield world.batch(0, 100)
        keep_champion(context, model, policy.with_thresholds(0.001, 0.002))
        yield world.batch(100, 160)

    with closing(context.open_journal()) as journal:
        snapshots = context.open_snapshots(journal)
        guard = guarded_engine(context, journal, snapshots)
        report = decide_records(
            guard, journal, snapshots, batches(), None, snapshot_every_records=70, progress=context.progress
        )
        versions = journal.serving(159)
    assert report.rejected["engine_error"] == 1
    assert versions is not None and versions.policy == policy.hash
    assert guard.engine.versions == versions


def breaking(monkeypatch: pytest.MonkeyPatch, positions: set[int]) -> None:
    """Let engines fail on transactions at some positions, from 64 on: where the check of an engine does not come."""
    process = Engine.process

    def failing(engine: Engine, batch: LogBatch) -> Any:
        processed = process(engine, batch)
        indexes = {position - batch.first_position for position in positions}
        if indexes & set(batch.transaction_index.tolist()):
            raise InjectedError
        return processed

    monkeypatch.setattr(Engine, "process", failing)


def count_replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The records of every batch that is replayed from now on."""
    replayed: list[int] = []
    replay = Engine.replay

    def counting(engine: Engine, batch: LogBatch) -> None:
        replayed.append(len(batch))
        replay(engine, batch)

    monkeypatch.setattr(Engine, "replay", counting)
    return replayed


@pytest.mark.parametrize("many", [1, 4])
def test_the_tail_of_the_log_is_replayed_once(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    context, tail, group = world.context, 2_000, 256
    with closing(context.open_journal()) as journal:
        guard = guarded_engine(context, journal, context.open_snapshots(journal))

        def record(part: LogBatch, outcomes: Sequence[Outcome]) -> None:
            journal.record(part, outcomes, None)

        guard.decide(world.batch(0, tail), record)
        last = world.batch(tail, tail + group)
        chosen = [int(last.transaction_index[i]) for i in (20, 70, 130, 190)[:many]]
        breaking(monkeypatch, {tail + index for index in chosen})
        replayed = count_replayed(monkeypatch)
        guard.decide(world.batch(tail, tail + group), record)
        assert journal.next_position == tail + group
    recoveries = guard.recoveries
    assert recoveries >= 9
    assert sum(replayed) <= tail + recoveries * group


def test_a_service_replays_the_tail_of_its_log_once(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = [transaction(1_000 + number, 5.0) for number in range(1_500)]
    inject(monkeypatch, "score", POISON)
    replayed = count_replayed(monkeypatch)
    last = [*RECORDS[:5], transaction(13, 77.77), *RECORDS[5:]]
    calls = GivenCalls(deque([[call(0, tail)], [call(1, last)]]))
    serve_calls(world, calls)
    assert [o["outcome"] for o in calls.outcomes(1)].count("rejection") == 1
    assert len(tail) <= sum(replayed) < 2 * len(tail)
    assert reconcile(world.context).is_whole


def test_calls_recorded_in_part_are_answered_as_uncertain(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, "score", POISON)
    refuse_second_recovery(monkeypatch)
    group = [call(0, RECORDS[:1]), call(1, [RECORDS[1], transaction(13, 77.77)]), call(2, RECORDS[2:4])]
    calls = GivenCalls(deque([group, [call(3, RECORDS[:4])]]))
    serve_calls(world, calls)
    kinds = [type(calls.answers[number]) for number in range(3)]
    again = calls.answers[3]
    assert isinstance(again, list)
    assert [answer.repeated for answer in again] == [True, True, False, False]
    assert kinds == [UncertainError, UncertainError, SystemRefusedError]


def refuse_second_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    recover, recoveries = serve.EngineSession._recover, []

    def failing(work: Any) -> Engine:
        recoveries.append(work)
        if len(recoveries) == 2:
            raise SystemRefusedError("the disk does not answer")
        return recover(work)

    monkeypatch.setattr(serve.EngineSession, "_recover", failing)


def test_nothing_is_uncertain_before_a_record_is_in_the_log(world: SmallWorld) -> None:
    calls = [call(0, RECORDS[:2]), call(1, RECORDS[2:3])]
    error = BusyError("not now")
    assert serve._errors(calls, 0, error) == [(0, error), (1, error)]
    kinds = [type(found) for _, found in serve._errors(calls, 2, error)]
    assert kinds == [UncertainError, BusyError]


def test_an_error_after_recording_blames_no_record(world: SmallWorld) -> None:
    context = world.context
    with closing(context.open_journal()) as journal:
        guard = guarded_engine(context, journal, context.open_snapshots(journal))

        def record(part: LogBatch, outcomes: Sequence[Outcome]) -> None:
            journal.record(part, outcomes, None)
            raise InjectedError("after it was recorded")

        with pytest.raises(InjectedError, match="after it was recorded"):
            guard.decide(world.batch(0, 40), record)
        assert journal.next_position == guard.engine.position == 40
        assert not any(b"engine_error" in outcome for _, outcome in journal.outcomes())


def test_counting_that_fails_decides_nothing_again(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise InjectedError("counting")

    monkeypatch.setattr(DecideReport, "count", fail)
    context = world.context
    with closing(context.open_journal()) as journal:
        snapshots = context.open_snapshots(journal)
        guard = guarded_engine(context, journal, snapshots)
        with pytest.raises(InjectedError, match="counting"):
            decide_records(
                guard, journal, snapshots, [world.batch(0, 40)], None, snapshot_every_records=100,
                progress=context.progress,
            )  # fmt: skip
        assert (journal.next_position, guard.recoveries) == (40, 0)


class OneBatch:
    """The part of a stream that is taken from and recorded into: one batch, once."""

    commit_seconds, lag_records = 0.0, 0

    def __init__(self, batch: LogBatch) -> None:
        self._batch = batch
        self.recorded: list[LogBatch] = []

    def take(self, *_: Any) -> Iterator[LogBatch]:
        yield self._batch

    def record(self, batch: LogBatch, *_: Any) -> None:
        self.recorded.append(batch)


def test_metrics_that_fail_decide_no_micro_batch_again(world: SmallWorld) -> None:
    def fail(_: BatchMetrics) -> None:
        raise InjectedError("metrics")

    stream = OneBatch(world.batch(0, 40))
    guard = PoisonGuard(world.engine(), world.engine, lambda _: None)
    decider = _Decider(cast("Stream", stream), guard, fail, lambda: 1)
    with pytest.raises(InjectedError, match="metrics"):
        decide_batches(
            guard.decide, decider.batches(100, lambda: False), decider.record, lambda: None, DecideReport()
        )
    assert (len(stream.recorded), guard.recoveries) == (1, 0)
