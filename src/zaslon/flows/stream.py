"""Stream: decide what arrives in the live log, or stand by for the process that does.

One life of a scorer:
    1. restore the newest good snapshot, with its place in the log, and warm up
    2. follow: fold what was recorded after it, decide nothing; a standby stays here
    3. take over when the one that decided is gone; fold what it recorded to the last batch
    4. decide micro-batches as they arrive; the stream records each with its outcomes exactly once
    5. now and then, and when asked to stop, wait until all is recorded and copy the state;
       the snapshot is written while deciding goes on
A life that ends because another process took over, or because the log refused a batch, is followed
by a new one from 1: the engine may have been ahead of the log, so it is thrown away.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zaslon.admission import admit
from zaslon.domain.events import LogBatch, RecordBatch
from zaslon.domain.outcomes import Decision, Outcome, Rejection
from zaslon.engine import Engine, restore_engine
from zaslon.features.plan import plan_features
from zaslon.ports import SnapshotStore, Stream, SupersededError
from zaslon.services.batch_metrics import BatchMetrics, Observe, Totals, reported
from zaslon.services.context import STREAM, Context
from zaslon.services.decision_loop import DecideReport, answers_in, decide_batches
from zaslon.services.home import engine_at, keep_policy, load_champion
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
    context: Context, is_over: Callable[[], bool], say: Callable[[str], None],
    observe: Observe | None = None, on_snapshot: OnSnapshot = ignore_snapshot,
) -> StreamReport:  # fmt: skip
    """Score the stream until `is_over`.

    Args:
        say: told in sentences what people should know.
        observe: told of every micro-batch, on the deciding thread.
        on_snapshot: told of every snapshot, on the thread that writes it.
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
        scorer = _Scorer(context, is_over, say, both, on_snapshot)
        try:
            while not is_over():
                try:
                    scorer.live()
                except SupersededError as reason:
                    say(f"Standing by: {reason}.")
        finally:
            scorer.stream.close()  # first: a standby takes over while the last snapshot is written
            scorer.close()
    scorer.report.seconds = time.perf_counter() - begin
    return scorer.report


class _Scorer:
    """One process's part in the stream."""

    def __init__(
        self, context: Context, is_over: Callable[[], bool], say: Callable[[str], None], observe: Observe,
        on_snapshot: OnSnapshot,
    ) -> None:  # fmt: skip
        self.context, self.is_over, self.say, self.observe = context, is_over, say, observe
        self.on_snapshot = on_snapshot
        self.report = StreamReport()
        self.snapshot_writer: SnapshotWriter | None = None
        self.snapshots = stream_snapshots(context)
        self.stream: Stream = context.adapters.open_stream(say)

    def live(self) -> None:
        """One life, from a snapshot to a stop or to `SupersededError`."""
        self.close()
        engine, checkpoint = newest_state(self.context, self.snapshots, self.say)
        run_once(engine)
        freeze_garbage_collector()
        every = self.context.options.snapshot_every_records
        self.snapshot_writer = snapshot_writer = SnapshotWriter(
            self.snapshots, every, engine.position, self.say, self.on_snapshot
        )
        self.stream.open(checkpoint)
        self.say(f"Following the log from position {engine.position}.")
        self._replay(engine, snapshot_writer)
        if self.is_over():
            return
        self.report.takeovers += 1
        self.say(f"Deciding from position {engine.position}.")
        self._decide(engine, snapshot_writer)

    def close(self) -> None:
        """Wait for the snapshot that is under way."""
        if self.snapshot_writer is not None:
            self.snapshot_writer.close()

    def _replay(self, engine: Engine, snapshot_writer: SnapshotWriter) -> None:
        for batch in self.stream.replay(self.is_over):
            if batch is None:
                continue
            engine.replay(admit(batch, engine.catalogue, engine.key))
            self.report.replayed += len(batch)
            self.report.next_position = engine.position
            if snapshot_writer.is_due(engine.position):
                snapshot_writer.save(engine, checkpoint=self.stream.checkpoint)

    def _decide(self, engine: Engine, snapshot_writer: SnapshotWriter) -> None:
        begin = time.perf_counter()
        timer = _Timer(self.stream, engine, self.observe)

        def keep_state() -> None:
            if snapshot_writer.is_due(engine.position):
                self.stream.settle()
                snapshot_writer.save(engine, checkpoint=self.stream.checkpoint)

        try:
            decide_batches(engine, timer.batches(self.is_over), timer.record, keep_state, self.report.decided)
            self.stream.settle()
            snapshot_writer.save_last(engine, checkpoint=self.stream.checkpoint)
        finally:
            self.report.decided.seconds += time.perf_counter() - begin
            self.report.next_position = engine.position


class _Timer:
    """Hands batches to the loop and its outcomes to the stream, and times the stages."""

    def __init__(self, stream: Stream, engine: Engine, observe: Observe) -> None:
        self._stream, self._engine, self._observe = stream, engine, observe
        self._asked_at = self._taken_at = time.perf_counter()
        self._raw: RecordBatch | None = None

    def batches(self, is_over: Callable[[], bool]) -> Iterator[LogBatch]:
        """New records, with the moments when they were asked for and taken."""
        for batch in self._stream.take(is_over):
            self._taken_at = time.perf_counter()
            self._raw = batch.with_labels_by(self._engine.history.watermark_seconds)
            yield admit(self._raw, self._engine.catalogue, self._engine.key)
            self._asked_at = time.perf_counter()

    def record(self, batch: LogBatch, outcomes: Sequence[Outcome]) -> None:
        """Hand over a batch with its outcomes."""
        decided_at = time.perf_counter()
        assert self._raw is not None
        self._stream.record(self._raw, outcomes, self._engine.versions)
        kinds = [type(outcome) for outcome in outcomes]
        decisions, rejections = kinds.count(Decision), kinds.count(Rejection)
        self._observe(
            BatchMetrics(
                len(batch), decisions, rejections, len(batch) - decisions - rejections, answers_in(batch),
                self._taken_at - self._asked_at, decided_at - self._taken_at,
                time.perf_counter() - decided_at, self._stream.commit_seconds,
                self._stream.lag_records, self._engine.position,
            )
        )  # fmt: skip


def stream_snapshots(context: Context) -> SnapshotStore:
    """Where the states of the stream are kept: apart from those of the home's own log."""
    return context.adapters.open_stream_snapshots(context.home)


def newest_state(
    context: Context, snapshots: SnapshotStore, say: Callable[[str], None]
) -> tuple[Engine, bytes]:
    """The engine of the newest good snapshot with its place; a new log begins from the home's history."""
    plan = plan_features(context.catalogue)
    model, policy = load_champion(context, plan)
    keep_policy(context, policy)
    found = snapshots.newest()
    if found is None:
        _begin(context, snapshots)
        found = snapshots.newest()
        assert found is not None
    position, content, complaints = found
    for complaint in complaints:
        say(complaint)
    checkpoint = content.pop(CHECKPOINT).tobytes()
    engine = restore_engine(context.catalogue, position, content, key=context.key, model=model, policy=policy)
    return engine, checkpoint


def _remembered(context: Context) -> Engine:
    """The state after the last record of the home's own log; an empty one where there is no log."""
    if not (context.home / context.log).is_dir():
        return Engine(context.catalogue, key=context.key)
    journal = context.open_journal()
    engine = engine_at(context, journal, context.open_snapshots(journal), journal.next_position)
    for batch in journal.read(engine.position, originals=False):
        engine.replay(batch)
    journal.close()
    return engine


def _begin(context: Context, snapshots: SnapshotStore) -> None:
    """Keep the state from which the stream's log begins: what the home remembers, or nothing."""
    past = _remembered(context).history
    digest = hashlib.blake2b(context.catalogue.hash.encode(), digest_size=8)
    for name, values in sorted(past.save().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values).data)
    engine = Engine(context.catalogue, key=context.key, history=past)
    engine.save(snapshots, checkpoint=b'{"history":"%s","position":0}' % digest.hexdigest().encode())
