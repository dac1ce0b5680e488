"""Stream: decide what arrives in the live log, or be the standby of the process that does.

One life of a scorer:
    1. restore the newest good snapshot, with its checkpoint, and warm up
    2. replay what was recorded after it, and decide nothing; a standby stays here
    3. take over when the scorer that decided is gone; replay what it recorded to the last batch
    4. decide micro-batches as they arrive; the stream records each with its outcomes exactly once
    5. between two of them, make a change of what decides that is prepared (`services.changes`)
    6. now and then, and when asked to stop, wait until everything is recorded and copy the state;
       the snapshot is written while deciding continues
A life ends because another process took over or because the log refused a batch; the next begins from 1,
since the engine may have been ahead of the log. A record that breaks our own code ends no life: it is
recorded as `engine_error` (`services.poison`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zaslon.admission import admit
from zaslon.domain.events import Change, LogBatch, RecordBatch
from zaslon.domain.outcomes import Decision, Outcome, Rejection
from zaslon.domain.rejections import Reason
from zaslon.engine import Engine, restore_engine
from zaslon.features.plan import plan_features
from zaslon.ports import SnapshotStore
from zaslon.ports.streams import Stream, SupersededError
from zaslon.services.batch_metrics import BatchMetrics, Observe, Totals, reported
from zaslon.services.changes import (
    ChampionWatch,
    PreparedChange,
    champion_of_home,
    make_change,
    number_warning,
)
from zaslon.services.context import STREAM, Context
from zaslon.services.decision_loop import DecideReport, answers_in, decide_batches
from zaslon.services.history_mark import history_mark
from zaslon.services.home import (
    Champion,
    adopt_champion,
    engine_at,
    keep_recovered,
    load_versions,
)
from zaslon.services.poison import PoisonGuard
from zaslon.services.snapshot_writer import OnSnapshot, SnapshotWriter, ignore_snapshot
from zaslon.services.warm_up import freeze_garbage_collector, run_once
from zaslon.system.durable import make_directory

CHECKPOINT = "checkpoint"


@dataclass
class StreamReport:
    """What a scorer did until it was asked to stop."""

    decided: DecideReport = field(default_factory=DecideReport)
    replayed: int = 0
    takeovers: int = 0
    next_position: int = 0
    seconds: float = 0.0

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, by the names of every command."""
        return {
            **self.decided.to_json_dict(),
            "records_replayed": self.replayed,
            "takeovers": self.takeovers,
            "next_position": self.next_position,
            "seconds": round(self.seconds, 3),
        }


def stream(
    context: Context, is_over: Callable[[], bool], notify: Callable[[str], None],
    observe: Observe | None = None, on_snapshot: OnSnapshot = ignore_snapshot,
) -> StreamReport:  # fmt: skip
    """Score the stream until `is_over`.

    Args:
        notify: called with sentences for people.
        observe: called with every micro-batch, on the deciding thread.
        on_snapshot: called with every snapshot, on the thread that writes it.
    """
    directory = context.home / STREAM
    make_directory(directory)
    begin = time.perf_counter()
    totals = Totals()
    params = {"catalogue": context.catalogue.label}

    def both(metrics: BatchMetrics) -> None:
        totals.add(metrics)
        if observe is not None:
            observe(metrics)

    with context.adapters.exclusive_in(directory), reported(context, "stream", params, totals.take):
        scorer = _Scorer(context, is_over, notify, both, on_snapshot)
        try:
            while not is_over():
                scorer.live()
        finally:
            scorer.stream.close()  # first: a standby takes over while the last snapshot is written
            scorer.end()
    scorer.report.seconds = time.perf_counter() - begin
    return scorer.report


class _Scorer:
    """One process's part in the stream."""

    def __init__(
        self, context: Context, is_over: Callable[[], bool], notify: Callable[[str], None], observe: Observe,
        on_snapshot: OnSnapshot,
    ) -> None:  # fmt: skip
        self.context, self.is_over, self.notify, self.observe = context, is_over, notify, observe
        self.on_snapshot = on_snapshot
        self.report = StreamReport()
        self.snapshot_writer: SnapshotWriter | None = None
        self.snapshots = stream_snapshots(context)
        self.serving = champion_of_home(context)
        self.watch = ChampionWatch(context, plan_features(context.catalogue), self.serving.change, notify)
        self.stream: Stream = context.adapters.open_stream(notify)

    def live(self) -> None:
        """One life, from a snapshot to a stop or to a takeover by another process."""
        self.close()
        guard, checkpoint = self._restored()
        self.report.next_position = guard.engine.position
        freeze_garbage_collector()
        every = self.context.options.snapshot_every_records
        self.snapshot_writer = snapshot_writer = SnapshotWriter(
            self.snapshots, every, self.notify, self.on_snapshot
        )
        try:
            self.stream.open(checkpoint)
            self.notify(f"Replaying the log from position {guard.engine.position}.")
            self._replay(guard.engine, snapshot_writer)
            if not self.is_over():
                self._decide(guard, snapshot_writer)
        except SupersededError as reason:
            self.notify(f"Standing by: {reason}.")

    def close(self) -> None:
        """Wait for the snapshot in progress."""
        if self.snapshot_writer is not None:
            self.snapshot_writer.close()

    def end(self) -> None:
        """Close what all lives share."""
        self.close()
        self.watch.close()

    def _restored(self) -> tuple[PoisonGuard, bytes]:
        engine, checkpoint = newest_state(self.context, self.snapshots, self.serving.champion, self.notify)
        run_once(engine)
        return PoisonGuard(engine, self._recover, self.notify), checkpoint

    def _recover(self) -> Engine:
        """The engine as it was after the last recorded micro-batch, for the scorer that decides."""
        assert self.snapshot_writer is not None
        self.snapshot_writer.wait()
        engine, checkpoint = newest_state(self.context, self.snapshots, self.serving.champion, self.notify)
        for batch in self.stream.recorded_since(checkpoint, self.is_over):
            engine.replay(batch)
        save = self.snapshot_writer.save
        keep_recovered(engine, lambda engine: save(engine, checkpoint=self.stream.checkpoint))
        return engine

    def _replay(self, engine: Engine, snapshot_writer: SnapshotWriter) -> None:
        for batch in self.stream.replay(self.is_over):
            if batch is None:
                continue
            engine.replay(batch)
            self.report.replayed += len(batch)
            self.report.next_position = engine.position
            if snapshot_writer.is_due(engine):
                snapshot_writer.save(engine, checkpoint=self.stream.checkpoint)

    def _decide(self, guard: PoisonGuard, snapshot_writer: SnapshotWriter) -> None:
        self.report.takeovers += 1
        self.notify(f"Deciding from position {guard.engine.position}.")
        begin = time.perf_counter()
        self._begin_serving(guard.engine)
        decider = _Decider(self.stream, guard, self.observe, lambda: self.serving.change.number)

        def keep_state() -> None:
            prepared = self.watch.ready()
            if prepared is not None:
                self._take_over(guard.engine, prepared)
                self.watch.made(prepared)
            self.report.next_position = guard.engine.position
            if snapshot_writer.is_due(guard.engine):
                self.stream.settle()
                snapshot_writer.save(guard.engine, checkpoint=self.stream.checkpoint)

        try:
            decide_batches(
                guard.decide, decider.batches(self.context.options.stream_batch_records, self.is_over),
                decider.record, keep_state, self.report.decided,
            )  # fmt: skip
            self.stream.settle()
            snapshot_writer.save_last(guard.engine, checkpoint=self.stream.checkpoint)
        finally:
            self.report.decided.seconds += time.perf_counter() - begin

    def _begin_serving(self, engine: Engine) -> None:
        """Go on with what decided the log's newest batch, unless this home names something newer.

        Raises:
            ArtefactError: the log's model or policy is newer than this home's, and is not in it.
        """
        if self.stream.serving is None:
            return
        model_id, policy_hash, number = self.stream.serving
        ours = self.serving.change
        is_the_same = (ours.model, ours.policy) == (model_id, policy_hash)
        if ours.number > number and not is_the_same:
            self._change(engine, self.serving)
            self.stream.settle()
        if ours.number > number or (ours.number == number and is_the_same):
            return
        model, policy = load_versions(self.context, engine.plan, model_id, policy_hash)
        change = Change(model_id, policy_hash, number, "stream", "taken over from its log")
        self.serving = PreparedChange(change, model, policy)
        self._adopt()
        engine.serve(model, policy)

    def _take_over(self, engine: Engine, prepared: PreparedChange) -> None:
        """Make a change of this home, if its number is above that of what decides.

        Otherwise the log has it already from another scorer, or something newer, which this home then names.
        """
        if prepared.change.number > self.serving.change.number:
            self._change(engine, prepared)
        else:
            self._adopt()

    def _adopt(self) -> None:
        """Let this home name what decides; say which champion it named instead, whoever promoted that and whenever."""
        before = adopt_champion(self.context, self.serving.change, *self.serving.champion)
        warning = before and number_warning(
            before, self.serving.change, "the home names what decides now; to take over, promote it again."
        )
        if warning:
            self.notify(warning)

    def _change(self, engine: Engine, prepared: PreparedChange) -> None:
        """Write a change into the log and decide with it from there on."""

        def record(entry: LogBatch, outcomes: Sequence[Outcome]) -> None:
            self.stream.insert(entry)
            content = [outcome.to_json() for outcome in outcomes]
            self.stream.record(entry, outcomes, content, engine.versions, prepared.change.number)

        made = make_change(engine, record, prepared, self.context.adapters.clock.now_seconds())
        self.serving = prepared
        self.notify(
            f"Model {made.versions.model} and policy {made.versions.policy} decide from position {made.position + 1}."
        )


class _Recorded(NamedTuple):
    """A batch, or a part of one, that was handed over; the moments are of `time.perf_counter`."""

    batch: LogBatch
    outcomes: Sequence[Outcome]
    decided_at: float
    recorded_at: float


class _Decider:
    """What the loop calls: admission and the stream, with the time that each takes."""

    def __init__(
        self, stream: Stream, guard: PoisonGuard, observe: Observe, number: Callable[[], int]
    ) -> None:  # fmt: skip
        self._stream, self._guard, self._observe, self._number = stream, guard, observe, number
        self._recorded: list[_Recorded] = []  # of the batch in work
        self._asked_at = self._taken_at = time.perf_counter()

    def batches(self, records_max: int, is_over: Callable[[], bool]) -> Iterator[LogBatch | None]:
        """New records, with the moments when they were asked for and taken."""
        for batch in self._stream.take(self._admit, records_max, is_over):
            yield batch
            for part in self._recorded:
                self._observe(self._metrics(part))
            self._recorded.clear()
            self._asked_at = time.perf_counter()

    def _admit(self, raw: RecordBatch) -> LogBatch:
        self._taken_at = time.perf_counter()
        engine = self._guard.engine
        return admit(raw, engine.catalogue, engine.key)

    def record(self, batch: LogBatch, outcomes: Sequence[Outcome]) -> None:
        """Hand over a batch with its outcomes."""
        content = [outcome.to_json() for outcome in outcomes]
        decided_at = time.perf_counter()
        self._stream.record(batch, outcomes, content, self._guard.engine.versions, self._number())
        self._recorded.append(_Recorded(batch, outcomes, decided_at, time.perf_counter()))

    def _metrics(self, part: _Recorded) -> BatchMetrics:
        records = len(part.batch)
        rejections = [outcome.reason for outcome in part.outcomes if isinstance(outcome, Rejection)]
        decisions = sum(type(outcome) is Decision for outcome in part.outcomes)
        return BatchMetrics(
            records, decisions, len(rejections), records - decisions - len(rejections),
            answers_in(part.batch), rejections.count(Reason.ENGINE_ERROR),
            self._taken_at - self._asked_at, part.decided_at - self._taken_at,
            part.recorded_at - part.decided_at, self._stream.commit_seconds,
            self._stream.lag_records, part.batch.end_position,
        )  # fmt: skip


def stream_snapshots(context: Context) -> SnapshotStore:
    """Where the states of the stream are kept: separate from those of the home's own log."""
    return context.adapters.open_stream_snapshots(context.home)


def newest_state(
    context: Context, snapshots: SnapshotStore, champion: Champion, notify: Callable[[str], None]
) -> tuple[Engine, bytes]:
    """The engine of the newest good snapshot and its checkpoint; a new log begins from the home's history."""
    model, policy = champion
    found = snapshots.newest()
    if found is None:
        _begin(context, snapshots)
        found = snapshots.newest()
        assert found is not None
    position, content, complaints = found
    for complaint in complaints:
        notify(complaint)
    checkpoint = content.pop(CHECKPOINT).tobytes()
    engine = restore_engine(context.catalogue, position, content, key=context.key, model=model, policy=policy)
    return engine, checkpoint


def _engine_of_own_log(context: Context) -> Engine:
    """The state after the last record of the home's own log; an empty one without a log."""
    if not (context.home / context.log).is_dir():
        return Engine(context.catalogue, key=context.key)
    journal = context.open_journal()
    engine = engine_at(context, journal, context.open_snapshots(journal), journal.next_position)
    for batch in journal.read(engine.position, originals=False):
        engine.replay(batch)
    journal.close()
    return engine


def _begin(context: Context, snapshots: SnapshotStore) -> None:
    """Save the state from which the stream's log begins: the home's history, or an empty one."""
    past = _engine_of_own_log(context).history
    engine = Engine(context.catalogue, key=context.key, history=past)
    mark = history_mark(context.catalogue, past)
    engine.save(snapshots, checkpoint=b'{"history":"%s","position":0}' % mark.encode())
