"""Decide: records through the engine into log and store, batch by batch, exactly once.

One batch, in this order:
    1. take the next records of the source, from its cursor on
    2. engine: one outcome per record
    3. one transaction: records, outcomes, cursor
    4. now and then a snapshot of the state
A crash before 3 leaves no trace and after 3 loses nothing: the next start replays the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zaslon.domain.events import Labels, LogBatch
from zaslon.domain.outcomes import Action, Decision, LabelAccepted, Outcome, Rejection
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake import read_clean_day
from zaslon.labels.feedback import DelayedLabels
from zaslon.ports import Journal, SnapshotStore
from zaslon.services.context import Context, Progress
from zaslon.services.featurising import Day, in_log_order
from zaslon.services.poison import PoisonGuard, Record

_FIRST_REJECTED_MAX = 10


@dataclass
class DecideReport:
    """How many records were decided, how, and how fast.

    Attributes:
        rejected: records by reason.
        first_rejected: the first of them, for people.
        already_done: records of the source that had their outcomes before; nothing was done again.
        answers_not_taken: transactions whose record has an answer that changes nothing.
        takes_answers: whether these answers come back as labels.
    """

    decisions: int = 0
    actions: dict[str, int] = field(default_factory=lambda: {"allow": 0, "review": 0, "block": 0})
    labels: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    first_rejected: list[Rejection] = field(default_factory=list)
    already_done: int = 0
    answers_not_taken: int = 0
    takes_answers: bool = False
    rules_fired: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def decisions_per_second(self) -> float:
        """Decisions per second of the whole path, log and store included."""
        return self.decisions / self.seconds if self.seconds else 0.0

    def count(self, batch: LogBatch, outcomes: Sequence[Outcome]) -> None:
        """Add a batch and its outcomes."""
        if not self.takes_answers:
            self.answers_not_taken += answers_in(batch)
        decisions = [outcome for outcome in outcomes if type(outcome) is Decision]
        actions = [decision.action for decision in decisions]
        self.decisions += len(decisions)
        for action in Action:
            self.actions[action.code] += actions.count(action)
        for decision in decisions:
            if decision.rules or decision.shadow_rules:
                for rule in (*decision.rules, *decision.shadow_rules):
                    self.rules_fired[rule] = self.rules_fired.get(rule, 0) + 1
        if len(decisions) == len(outcomes):
            return
        for outcome in outcomes:
            if isinstance(outcome, LabelAccepted):
                self.labels += 1
            elif isinstance(outcome, Rejection):
                self.rejected[outcome.code] = self.rejected.get(outcome.code, 0) + 1
                if len(self.first_rejected) < _FIRST_REJECTED_MAX:
                    self.first_rejected.append(outcome)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, by the names that every command uses."""
        return {
            "decisions": self.decisions,
            "actions": self.actions,
            "rules_fired": dict(sorted(self.rules_fired.items())),
            "labels": self.labels,
            "records_rejected": dict(sorted(self.rejected.items())),
            "first_rejected": [
                {"position": r.position, "reason": r.code, "detail": r.detail} for r in self.first_rejected
            ],
            "records_already_done": self.already_done,
            "answers_not_taken": self.answers_not_taken,
            "decisions_per_second": round(self.decisions_per_second, 1),
        }


def answers_in(batch: LogBatch) -> int:
    """How many of the transactions come with the answer whether they are fraud."""
    return int(np.count_nonzero(batch.transactions.is_fraud >= 0))


def decide_batches(
    decide: Callable[[LogBatch, Record], None],
    batches: Iterable[LogBatch | None],
    record: Record,
    keep_state: Callable[[], None],
    report: DecideReport,
) -> None:
    """The one loop that decides: batches that follow each other in the log, recorded in turn.

    Args:
        decide: gives a batch its outcomes and has it recorded, as a whole or in parts.
        record: makes a batch and its outcomes durable, or takes them over to do so.
        keep_state: called after every batch, and whenever there is none; saves a snapshot where one is due.
        report: counts along.
    """
    recorded: list[tuple[LogBatch, Sequence[Outcome]]] = []

    def record_and_keep(batch: LogBatch, outcomes: Sequence[Outcome]) -> None:
        record(batch, outcomes)
        recorded.append((batch, outcomes))

    for batch in batches:
        if batch is not None:
            decide(batch, record_and_keep)
        for part, outcomes in recorded:
            report.count(part, outcomes)
        recorded.clear()
        keep_state()


def decide_records(
    guard: PoisonGuard,
    journal: Journal,
    snapshots: SnapshotStore,
    batches: Iterable[LogBatch],
    source: str | None,
    *,
    snapshot_every_records: int,
    progress: Progress,
    takes_answers: bool = False,
) -> DecideReport:
    """Decide all records of a source that are not decided yet.

    `batches` are numbered from 0 within the source; those before its cursor are passed over, so
    the same source given again after a crash or by mistake is decided once. A source without a
    name has no cursor: all of it is taken. `takes_answers`: the answers of transactions are among the labels.
    A record that breaks our own code is rejected as `engine_error`.
    """
    report = DecideReport(takes_answers=takes_answers)
    journal.serve(guard.engine.versions)
    done = journal.cursor(source) if source else 0

    def todo() -> Iterator[LogBatch]:
        for batch in batches:
            report.already_done += min(max(done - batch.first_position, 0), len(batch))
            if batch.end_position > done:
                yield batch.part(done - batch.first_position, len(batch)).at(guard.engine.position)
            progress.advance(len(batch))

    def record(batch: LogBatch, outcomes: Sequence[Outcome]) -> None:
        nonlocal done
        journal.record(batch, outcomes, (source, done + len(batch)) if source else None)
        done += len(batch)

    def keep_state() -> None:
        # No caller waits for one record here, so the work pauses rather than hold a second state in memory.
        if guard.engine.records_since_snapshot >= snapshot_every_records:
            guard.engine.save(snapshots)

    begin = time.perf_counter()
    decide_batches(guard.decide, todo(), record, keep_state, report)
    report.seconds = time.perf_counter() - begin
    return report


def records_of_days(
    context: Context, days: Sequence[Day], feedback: DelayedLabels | None,
    newest_seconds: Callable[[], int] | None = None,
) -> Iterator[LogBatch]:  # fmt: skip
    """Clean days as records in log order: transactions, and the labels that arrive among them.

    Behind them come the labels that the log is already late for: those of transactions that a file brings
    again, with an answer, when their label delay is long over.

    Args:
        context, days: what is read.
        feedback: labels on their way; None: answers are not taken.
        newest_seconds: newest event time of the log, asked for when all before has been decided.
    """
    position = 0
    for day, path in days:
        transactions = read_clean_day(path, context.catalogue)
        labels = Labels(np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0, np.int64))
        if feedback is not None:
            feedback.add(transactions)
            labels = feedback.due((day + 1) * SECONDS_PER_DAY)
        yield from in_log_order(transactions, labels, position, context.options.batch_records)
        position += len(transactions) + len(labels)
    if days and feedback is not None and newest_seconds is not None:
        # They are in order of arrival, so the same files given later have these first and new ones after them.
        late = feedback.due(newest_seconds() + 1)
        yield from in_log_order(transactions.take(slice(0)), late, position, context.options.batch_records)
