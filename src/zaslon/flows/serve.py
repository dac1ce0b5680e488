"""Serve: single transactions and labels through the engine, durable before they are answered.

One thread owns engine and journal. While one group is written to disk the next one gathers, so the
cost of a durable commit is shared by all who wait. For every group, in this order:

    1. take the calls that wait, until they are `group_records_max` records or more
    2. choose what must be left out to answer them in time
    3. clean; what the log has already is answered from it
    4. engine: one outcome per record
    5. one transaction of the journal: records and outcomes
    6. answer
A crash before 5 leaves no trace, and no caller was told otherwise; after 5 the same call again is
answered from the log. When the journal fails, the engine is discarded and recovered from it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zaslon.domain.errors import BusyError, ZaslonError
from zaslon.domain.events import Kind, LeftOut, RecordBatch, terms
from zaslon.domain.outcomes import Outcome, Versions
from zaslon.engine import Engine
from zaslon.flows.context import Context
from zaslon.flows.home import recover_engine
from zaslon.flows.pace import Pace
from zaslon.flows.repeats import find_repeats, without_repeats
from zaslon.flows.saver import Saver, WatchSaves
from zaslon.flows.warm import warm_up
from zaslon.ports import Answer, Answered, Clock, Journal, Outcomes

_LOOK_SECONDS = 1.0  # between two attempts to recover while no call comes


@dataclass(frozen=True)
class ServeLimits:
    """Most records that wait, and how many are enough for a group; a call is never split."""

    queue_records_max: int
    group_records_max: int


@dataclass(frozen=True)
class GroupDone:
    """What a group came to, for metrics. Times are in seconds; `waited` is its oldest call's."""

    outcomes: Sequence[Outcome]
    repeated: int
    left_out: LeftOut
    waited_seconds: float
    engine_seconds: float
    commit_seconds: float
    next_position: int


@dataclass(frozen=True)
class _Call:
    records: Sequence[bytes]
    kind: Kind
    deadline_seconds: float
    answered: Answered
    asked_seconds: float


class Desk:
    """`zaslon.ports.Decider` with engine and journal in this process.

    Args:
        context: whose home is served; its champion decides.
        limits: of the queue and of a group.
        clock: tells arrivals and deadlines.
        watch: told about every group, from the desk's thread.
        watch_saves: told about every snapshot, from the thread that writes it.
    """

    def __init__(
        self, context: Context, limits: ServeLimits, clock: Clock, watch: Callable[[GroupDone], None],
        watch_saves: WatchSaves,
    ) -> None:  # fmt: skip
        self._context, self._limits, self._clock, self._watch = context, limits, clock, watch
        self._watch_saves = watch_saves
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_records = 0
        self._is_open = True
        self._ready = threading.Event()
        self._started = threading.Event()
        self._failure: ZaslonError | None = None
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Wait until the state is recovered and everything is warm.

        Raises:
            ZaslonError: why it cannot serve.
        """
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def is_ready(self) -> bool:
        """Whether records are decided now."""
        return self._ready.is_set()

    @property
    def obstacle(self) -> str:
        """Why nothing is decided now."""
        return "The service is starting, recovering or stopping."

    @property
    def serving(self) -> Versions | None:
        """What this process was started with."""
        return None

    def open_outcomes(self) -> Outcomes:
        """The journal, for a thread that only looks."""
        return self._context.open_journal_for_reading()

    @property
    def is_alive(self) -> bool:
        """Whether the desk's thread runs; when it does not, only a new process helps."""
        return self._thread.is_alive()

    @property
    def waiting_records(self) -> int:
        """Records in the queue."""
        return self._waiting_records

    def submit(
        self, records: Sequence[bytes], kind: Kind, deadline_seconds: float, answered: Answered
    ) -> Callable[[], bool]:
        """Take the records of one call (see the port); they stand in the log when they are answered."""
        call = _Call(records, kind, deadline_seconds, answered, self._clock.monotonic_seconds())
        with self._lock:
            if not self._is_open or not self._ready.is_set():
                raise BusyError("The service is not ready.", hint="Try again in a moment.")
            if self._waiting_records + len(records) > self._limits.queue_records_max:
                raise BusyError("The service's queue is full.", hint="Try again in a moment.")
            self._waiting_records += len(records)
            self._calls.put(call)
        return _never

    def close(self) -> None:
        """Decide what was taken, save the state, stop."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
            if was_open:
                self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        """The desk's thread: until it is closed, and then until nothing waits."""
        work: _Work | None = None
        try:
            work = self._begin()
        except ZaslonError as error:
            self._failure = error
        self._started.set()
        is_last = self._failure is not None
        try:
            while not is_last:
                group, is_last = self._take()
                if work is None:
                    work = self._begin_again()
                if group:
                    work = self._serve(work, group)
        finally:
            self._ready.clear()
        if work is not None:
            work.close()

    def _begin(self) -> _Work:
        work = _Work(self._context, self._clock, self._watch_saves)
        self._ready.set()
        return work

    def _begin_again(self) -> _Work | None:
        try:
            return self._begin()
        except ZaslonError:  # the medium still fails; who asks meanwhile is told
            return None

    def _take(self) -> tuple[list[_Call], bool]:
        """The calls of the next group, and whether the desk was closed after them."""
        group: list[_Call] = []
        records = 0
        is_last = False
        while not is_last and records < self._limits.group_records_max:
            try:
                call = self._calls.get(timeout=0 if group else _LOOK_SECONDS)
            except queue.Empty:
                break
            is_last = call is None
            if call is not None:
                group.append(call)
                records += len(call.records)
        with self._lock:
            self._waiting_records -= records
        return group, is_last

    def _serve(self, work: _Work | None, group: list[_Call]) -> _Work | None:
        """Decide a group and answer it; None when the engine had to be discarded."""
        try:
            if work is None:
                raise BusyError("The log cannot be written.", hint="Try again in a moment.")
            answers, done = work.decide(group)
        except ZaslonError as error:
            self._ready.clear()
            for call in group:
                call.answered(error)
            if work is not None:
                work.abandon()
            return None
        begin = 0
        for call in group:
            call.answered(answers[begin : begin + len(call.records)])
            begin += len(call.records)
        self._watch(done)
        return work


def _never() -> bool:
    return False


class _Work:
    """Engine and journal of one life of the desk, used by its thread only."""

    def __init__(self, context: Context, clock: Clock, watch_saves: WatchSaves) -> None:
        self._clock = clock
        self._journal: Journal = context.open_journal()
        snapshots = context.open_snapshots(self._journal)
        self._engine: Engine = recover_engine(context, self._journal, snapshots)
        self._saver = Saver(
            snapshots, context.options.snapshot_every_records, self._engine.position,
            context.progress.warn, watch_saves,
        )  # fmt: skip
        self._pace: Pace = warm_up(self._engine, clock)
        self._journal.serve(self._engine.versions)
        self._journal.perhaps_known([0])
        self._journal.find(0)
        self._journal.page(None, 1)

    def decide(self, group: Sequence[_Call]) -> tuple[list[Answer], GroupDone]:
        """Steps 2 to 5 for a group; one answer per record, in order."""
        begin = self._clock.monotonic_seconds()
        batch, left_out = self._batch(group, begin)
        cleaned = self._engine.clean(batch)
        repeats = find_repeats(self._engine, self._journal, cleaned)
        part, kept = batch, list(range(len(batch)))
        if repeats:
            part, kept = without_repeats(batch, repeats)
            cleaned = self._engine.clean(part)
        outcomes = self._engine.process(part, cleaned).outcomes if len(part) else []
        decided = self._clock.monotonic_seconds()
        recorded = self._journal.record(part, outcomes, None)
        durable = self._clock.monotonic_seconds()
        self._pace.learn(left_out, len(batch), decided - begin, durable - decided)
        answers = {index: Answer(json) for index, json in zip(kept, recorded, strict=True)}
        answers |= {index: Answer(known, repeated=True) for index, known in repeats.recorded.items()}
        for index, earlier in repeats.earlier.items():
            answers[index] = Answer(answers[earlier].outcome, repeated=True)
        if self._saver.is_due(self._engine.position):
            self._saver.save(self._engine)
        done = GroupDone(
            outcomes, len(batch) - len(part), left_out, begin - min(c.asked_seconds for c in group),
            decided - begin, durable - decided, self._engine.position,
        )  # fmt: skip
        return [answers[index] for index in range(len(batch))], done

    def _batch(self, group: Sequence[_Call], now: float) -> tuple[RecordBatch, LeftOut]:
        """The group's records, with what must be left out for the sake of its most urgent call.

        Who is late already gets the fallback, and does not hurry the others.
        """
        remaining = [call.deadline_seconds - now for call in group]
        in_time = [seconds for seconds in remaining if seconds > 0]
        records = sum(len(call.records) for call in group)
        left_out = self._pace.left_out(records, min(in_time)) if in_time else LeftOut.RULES
        raws: list[bytes] = []
        kinds: list[int] = []
        for call, seconds in zip(group, remaining, strict=True):
            is_label = call.kind == Kind.LABEL_JSON
            less = LeftOut.NOTHING if is_label else left_out if seconds > 0 else LeftOut.RULES
            raws += call.records
            kinds += [terms(call.kind, less)] * len(call.records)
        arrivals = [int(self._clock.now_seconds())] * len(raws)
        batch = RecordBatch.of(raws, kinds, arrivals, self._engine.position)
        return batch.with_labels_by(self._engine.history.watermark_seconds), left_out

    def close(self) -> None:
        """Save the state, so that the next start has nothing to replay."""
        self._saver.save_last(self._engine)
        self._saver.close()
        self._journal.close()

    def abandon(self) -> None:
        """Let go of a journal that failed."""
        self._saver.close()
        self._journal.close()
