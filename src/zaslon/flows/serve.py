"""Serve: single transactions and labels through the engine, durable before they are answered.

One process owns engine and journal: the decision worker. Its calls come from another, the service, so that
neither waits for the other's turn at Python's lock. While one group is written to disk the next one
gathers, so the cost of a durable commit is shared by all who wait. For every group, in this order:

    1. take the calls that wait, until they are `group_records_max` records or more
    2. choose what must be left out to answer them in time
    3. admission: typed records
    4. engine: one outcome per record
    5. one transaction of the journal: records and outcomes
    6. answer; a repeat with the decision that it repeats
A crash before 5 leaves no trace, and nothing was answered; after 5 the same call again is
answered from the log, as a repeat. When the journal fails, the engine is discarded and recovered from it.
Another model or policy takes over between two groups, at a log position (`services.changes`).
A record that breaks our own code is found and recorded as `engine_error`; the others of its group are decided.
A call that breaks it before 3 has no records yet and gets an error. After 5 nothing changes the log any more: a call
whose answer breaks our code gets an error and its records stay as they are recorded. The others are answered.
Between two groups, original bytes that have had their time leave the log, a few at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from zaslon.admission import admit
from zaslon.domain.answers import Answer
from zaslon.domain.errors import BrokenCallError, BusyError, UncertainError, ZaslonError
from zaslon.domain.events import Degradation, Kind, LogBatch, RecordBatch, terms
from zaslon.domain.outcomes import ChangeMade, Decision, Outcome, Rejection, Versions
from zaslon.engine import Engine
from zaslon.features.plan import plan_features
from zaslon.intake.examples import example_record
from zaslon.ports import Call, Calls, Clock, Journal, repeated_decision
from zaslon.services.changes import (
    ChampionWatch,
    PreparedChange,
    begin_serving,
    champion_of_home,
    make_change,
    number_warning,
)
from zaslon.services.context import Context
from zaslon.services.decision_loop import answers_in
from zaslon.services.home import recover_engine
from zaslon.services.latency_budget import LatencyBudget
from zaslon.services.poison import PoisonGuard
from zaslon.services.retention import OriginalRetention
from zaslon.services.snapshot_writer import OnSnapshot, SnapshotWriter
from zaslon.services.warm_up import freeze_garbage_collector, warm_up
from zaslon.system.isolation import by_halves, fault_text, is_fault_of_ours

CallAnswer = tuple[int, list[Answer] | ZaslonError]

_LOOK_SECONDS = 1.0  # between two attempts to recover while no call comes

# Topics of what a decision worker sends beside its answers.
GROUP, SNAPSHOT, CHANGE = "group", "saved", "change"


@dataclass(frozen=True)
class GroupDone:
    """The result of a group, for metrics. Times are in seconds; `waited` is its oldest call's.

    `outcomes` counts by kind, then by action, verdict or reason; `degraded` decisions by what was left out.
    `answers_not_taken` counts transactions that came with an answer, which is not a label.
    """

    outcomes: dict[str, dict[str, int]]
    degraded: dict[str, int]
    repeated: int
    answers_not_taken: int
    waited_seconds: float
    engine_seconds: float
    commit_seconds: float
    next_position: int


class DecisionWorker:
    """Decides the calls of a service, group by group, until there will be no more.

    Args:
        context: whose home is served; its champion decides.
        group_records_max: records that are enough for a group.
        clock: of arrivals and deadlines.
        calls: what it is asked; notified of GROUP, SNAPSHOT and CHANGE.
    """

    def __init__(self, context: Context, group_records_max: int, clock: Clock, calls: Calls) -> None:
        self._context, self._group_records_max = context, group_records_max
        self._clock, self._calls = clock, calls

    def run(self) -> None:
        """Recover the state, warm everything up, decide; at the end save the state.

        Raises:
            ZaslonError: why it cannot begin.
        """
        context = self._context
        self._serving = champion_of_home(context)
        session: EngineSession | None = self._begin()
        plan = plan_features(context.catalogue)
        watch = ChampionWatch(context, plan, self._serving.change, context.progress.warn)
        try:
            while (group := self._calls.take(self._group_records_max, _LOOK_SECONDS)) is not None:
                if session is None:
                    session = self._begin_again(watch)
                if group:
                    session = self._serve(session, group)
                if session is not None:
                    session = self._change(session, watch)
                if session is not None:
                    session.retention.step()
        finally:
            watch.close()
        if session is not None:
            session.close()

    def _begin(self) -> EngineSession:
        session = EngineSession(
            self._context, self._serving, self._clock, lambda saved: self._calls.notify(SNAPSHOT, saved)
        )  # fmt: skip
        freeze_garbage_collector()
        self._calls.ready(True)
        return session

    def _begin_again(self, watch: ChampionWatch) -> EngineSession | None:
        """Begin with a change that is prepared, whether the log has it already or not: that may not be known."""
        prepared = watch.ready()
        if prepared is not None:
            self._warn_of_number(prepared)
            self._serving = prepared
        try:
            session = self._begin()
        except ZaslonError:  # the medium still fails; calls are answered with an error meanwhile
            return None
        if prepared is not None:
            watch.made(prepared)
            self._calls.notify(CHANGE, session.versions)
        return session

    def _change(self, session: EngineSession, watch: ChampionWatch) -> EngineSession | None:
        """Make a change that is prepared; None when the engine had to be discarded, and it is made again."""
        prepared = watch.ready()
        if prepared is None:
            return session
        self._warn_of_number(prepared)
        try:
            made = session.change(prepared)
        except ZaslonError:
            self._calls.ready(False)
            session.abandon()
            return None
        self._serving = prepared
        watch.made(prepared)
        self._calls.notify(CHANGE, made.versions)
        return session

    def _warn_of_number(self, prepared: PreparedChange) -> None:
        """Warn of a restored backup, for example: this log has no other home, so what it names is taken over."""
        warning = number_warning(prepared.change, self._serving.change, "it is taken over all the same.")
        if warning is not None:
            self._context.progress.warn(warning)

    def _serve(self, session: EngineSession | None, group: Sequence[Call]) -> EngineSession | None:
        """Decide a group and answer it; None when the engine had to be discarded."""
        try:
            if session is None:
                raise BusyError("The log cannot be written.", hint="Try again in a moment.")
            answers, done = session.decide(group)
        except _UnreadGroupError as broken:
            return self._serve_halves(session, group, broken.fault)
        except ZaslonError as error:
            self._calls.ready(False)
            recorded = 0 if session is None else session.recorded_records
            self._calls.answer(_errors(group, recorded, error))
            if session is not None:
                session.abandon()
            return None
        by_halves(
            lambda begin, end: self._calls.answer(answers[begin:end]), len(answers), self._unsendable(answers)
        )
        self._calls.notify(GROUP, done)
        return session

    def _serve_halves(
        self, session: EngineSession | None, group: Sequence[Call], fault: Exception
    ) -> EngineSession | None:
        """Serve a group that breaks our code before admission, each half for itself, down to the call that does."""
        if len(group) > 1:
            middle = len(group) // 2
            for half in (group[:middle], group[middle:]):
                session = self._serve(session, half)
            return session
        if session is not None:
            session.check_ordinary(fault)
        self._context.progress.warn(f"Zaslon's own code failed on a call: {fault_text(fault)}. Report it.")
        error = BrokenCallError("Zaslon's own code failed on this call; nothing of it is in the log.")
        self._calls.answer([(group[0].number, error)])
        return session

    def _unsendable(self, answers: Sequence[CallAnswer]) -> Callable[[int, Exception], None]:
        def alone(index: int, error: Exception) -> None:
            self._calls.answer([(answers[index][0], broken_answer(self._context, error))])

        return alone


class _UnreadGroupError(Exception):
    """Our code failed on calls before admission; nothing of them is in the log."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault


def broken_answer(context: Context, fault: Exception) -> ZaslonError:
    """What a call is answered where our code fails on what the log has about it; it is in the context's log, too."""
    context.progress.warn(
        f"Zaslon's own code failed on an outcome, which is in the log: {fault_text(fault)}. Report it."
    )
    return UncertainError("Zaslon's own code failed on the outcome.")


def _errors(group: Sequence[Call], recorded: int, error: ZaslonError) -> list[tuple[int, ZaslonError]]:
    """Why each call of a group has no answer, when only its first `recorded` records are in the log."""
    errors: list[tuple[int, ZaslonError]] = []
    begin = 0
    for call in group:
        is_begun = begin < recorded
        errors.append((call.number, UncertainError(str(error)) if is_begun else error))
        begin += len(call.records)
    return errors


class EngineSession:
    """Engine and journal, from a recovery until the journal fails or the worker stops."""

    def __init__(
        self, context: Context, serving: PreparedChange, clock: Clock, on_snapshot: OnSnapshot
    ) -> None:  # fmt: skip
        self._context, self._champion, self._clock = context, serving.champion, clock
        self._journal: Journal = context.open_journal()
        self._snapshots = context.open_snapshots(self._journal)
        engine = recover_engine(context, self._journal, self._snapshots, self._champion)
        self._guard = PoisonGuard(engine, self._recover, context.progress.warn)
        self._recorded = _Recorded(self._journal, clock)
        self._snapshot_writer = SnapshotWriter(
            self._snapshots, context.options.snapshot_every_records, context.progress.warn, on_snapshot
        )
        if self._snapshot_writer.is_due(engine):
            self._snapshot_writer.save(engine)
            self._snapshot_writer.wait()  # a crash soon after every start must not lengthen the replay
        self.retention = OriginalRetention(context, self._journal)
        self._budget: LatencyBudget = warm_up(self._guard.engine, clock)
        begin_serving(context, self._guard.engine, self._journal, serving)
        self._journal.newest_decision(0)
        self._journal.page(None, 1)

    def decide(self, group: Sequence[Call]) -> tuple[list[CallAnswer], GroupDone]:
        """Steps 2 to 5 for a group, and what each of its calls is answered.

        Raises:
            _UnreadGroupError: our code failed before step 3; nothing was changed.
            ZaslonError: the log cannot be written; the session must be abandoned.
        """
        begin = self._clock.monotonic_seconds()
        recorded = self._recorded = _Recorded(self._journal, self._clock)
        try:
            batch, degradation = self._batch(group, begin)
        except Exception as error:
            if not is_fault_of_ours(error):
                raise
            raise _UnreadGroupError(error) from error
        recoveries = self._guard.recoveries
        self._guard.decide(batch, recorded.add)
        engine_seconds = self._clock.monotonic_seconds() - begin - recorded.seconds
        if self._guard.recoveries == recoveries:  # else it took as long as no group takes
            self._budget.learn(degradation, len(batch), engine_seconds, recorded.seconds)
        answers = self._answers(group, recorded)
        engine = self._guard.engine
        if self._snapshot_writer.is_due(engine):
            self._snapshot_writer.save(engine)
        done = GroupDone(
            *self._counts(recorded.outcomes), _repeated(answers), answers_in(batch),
            begin - min(c.asked_seconds for c in group), engine_seconds, recorded.seconds, engine.position,
        )  # fmt: skip
        return answers, done

    @property
    def versions(self) -> Versions:
        """What decides now."""
        return self._guard.engine.versions

    def change(self, prepared: PreparedChange) -> ChangeMade:
        """Write a change into the log and decide with it from there on."""
        record = partial(self._journal.record, cursor=None)
        made = make_change(self._guard.engine, record, prepared, self._clock.now_seconds())
        self._champion = prepared.champion
        return made

    @property
    def recorded_records(self) -> int:
        """How many records of the newest group are in the log, always its first ones."""
        return len(self._recorded.outcomes)

    def _recover(self) -> Engine:
        """The engine as the journal has it, after one that a record broke."""
        self._snapshot_writer.wait()  # it may be saved again from here
        return recover_engine(
            self._context, self._journal, self._snapshots, self._champion, self._snapshot_writer.save
        )

    def check_ordinary(self, fault: Exception) -> None:
        """Do nothing where ordinary records can be brought to admission.

        Raises:
            Exception: `fault`, where they cannot: then no call is to blame for it.
        """
        now = self._clock.monotonic_seconds()
        records = [example_record(self._guard.engine.catalogue)]
        try:
            self._batch([Call(0, records, Kind.TRANSACTION_JSON, now + 1, now)], now)
        except Exception:  # noqa: BLE001  the first error is more useful
            raise fault from None

    def _answers(self, group: Sequence[Call], recorded: _Recorded) -> list[CallAnswer]:
        """What calls are answered; an error for one whose outcomes break our own code, which change nothing now."""
        answers: list[CallAnswer] = []
        begin = 0
        for call in group:
            rows = slice(begin, begin + len(call.records))
            begin = rows.stop
            try:
                pairs = zip(recorded.outcomes[rows], recorded.jsons[rows], strict=True)
                answers.append((call.number, [self._answer(*pair) for pair in pairs]))
            except Exception as error:
                if not is_fault_of_ours(error):
                    raise
                answers.append((call.number, broken_answer(self._context, error)))
        return answers

    def _counts(self, outcomes: Sequence[Outcome]) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
        """By kind and detail; and the decisions for which something was left out, by what.

        One that breaks our own code is in the log all the same, and not counted.
        """
        counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
        degraded: Counter[str] = Counter()
        for outcome in outcomes:
            try:
                kind, detail = outcome.counted_as
            except Exception as error:
                if not is_fault_of_ours(error):
                    raise
                broken_answer(self._context, error)
                continue
            counted[kind][detail] += 1
            if isinstance(outcome, Decision) and outcome.degraded is not None:
                degraded[outcome.degraded] += 1
        return dict(counted), degraded

    def _answer(self, outcome: Outcome, recorded: bytes) -> Answer:
        if isinstance(outcome, Rejection) and (decision := repeated_decision(outcome, self._journal)):
            return Answer(decision.json, outcome.transaction_id, repeated=True)
        return Answer.of(outcome, recorded)

    def _batch(self, group: Sequence[Call], now: float) -> tuple[LogBatch, Degradation]:
        """The group's records, with what must be left out for the sake of its most urgent call.

        Who is late already gets the fallback, and does not hurry the others.
        """
        remaining = [call.deadline_seconds - now for call in group]
        in_time = [seconds for seconds in remaining if seconds > 0]
        records = sum(len(call.records) for call in group)
        degradation = self._budget.degradation(records, min(in_time)) if in_time else Degradation.RULES
        raws: list[bytes] = []
        kinds: list[int] = []
        for call, seconds in zip(group, remaining, strict=True):
            is_label = call.kind == Kind.LABEL_JSON
            less = Degradation.NOTHING if is_label else degradation if seconds > 0 else Degradation.RULES
            raws += call.records
            kinds += [terms(call.kind, less)] * len(call.records)
        arrivals = [int(self._clock.now_seconds())] * len(raws)
        engine = self._guard.engine
        raw = RecordBatch.of(raws, kinds, arrivals, engine.position)
        return admit(raw, engine.catalogue, engine.key), degradation

    def close(self) -> None:
        """Save the state, so that the next start has nothing to replay."""
        self._snapshot_writer.save_last(self._guard.engine)
        self._snapshot_writer.close()
        self._journal.close()

    def abandon(self) -> None:
        """Let go of a journal that failed."""
        self._snapshot_writer.close()
        self._journal.close()


class _Recorded:
    """A group's outcomes as the journal has recorded them, in one part or several."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal, self._clock = journal, clock
        self.outcomes: list[Outcome] = []
        self.jsons: list[bytes] = []
        self.seconds = 0.0

    def add(self, batch: LogBatch, outcomes: Sequence[Outcome]) -> None:
        begin = self._clock.monotonic_seconds()
        self.jsons += self._journal.record(batch, outcomes, None)
        self.seconds += self._clock.monotonic_seconds() - begin
        self.outcomes += outcomes


def _repeated(answers: Sequence[CallAnswer]) -> int:
    given = [found for _, found in answers if not isinstance(found, ZaslonError)]
    return sum(answer.repeated for found in given for answer in found)
