"""Clean days → features: applied in log order, labels arriving when they would in life.

No log holds what was applied here, so when a record breaks our own code, the state before the batch is
rebuilt from the days. That costs as much again as all days before it, and happens once for a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.admission import from_clean
from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import Labels, LogBatch, TransactionId, Transactions, public_ids
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine, restore_engine
from zaslon.features.history import merge_by_time
from zaslon.intake import read_clean_day
from zaslon.labels.feedback import DelayedLabels
from zaslon.services.poison import PoisonGuard
from zaslon.services.warm_up import apply_once

# Events applied at once: bounds memory to some ten megabytes whatever the length of a day.
BATCH_EVENTS = 1 << 16

Day = tuple[int, Path]

_LEFT_OUT = RecordProblem(Reason.ENGINE_ERROR, None, "left out")


@dataclass(frozen=True)
class FeaturisedPart:
    """Consecutive transactions of one day with their features.

    Attributes:
        day: day number.
        transactions: the accepted ones, in log order.
        matrix: float32[transactions, features].
    """

    day: int
    transactions: Transactions
    matrix: NDArray[np.float32]


class Featuriser:
    """Applies clean days, oldest first, and gives the features of their transactions.

    Args:
        catalogue, key: of the clean days.
        label_delay_seconds: when the answers of transactions become known.
        warn: given a sentence about every record that breaks our own code.

    Attributes:
        left_out: transactions that were not applied, or not their labels, because they break our code.
    """

    def __init__(
        self, catalogue: Catalogue, key: bytes, label_delay_seconds: int, warn: Callable[[str], None]
    ) -> None:
        self._catalogue, self._key, self._warn = catalogue, key, warn
        self._label_delay_seconds = label_delay_seconds
        self._feedback = DelayedLabels(label_delay_seconds)
        self._guard = PoisonGuard(Engine(catalogue, key=key), self._recover, lambda _: None, apply_once)
        self._days: list[Day] = []
        self._position = 0  # of the first event of the current batch
        self._applied: list[LogBatch] = []  # what was applied of it
        self._state: dict[str, NDArray[Any]] | None = None  # before it, once it was needed
        self._broken: list[int] = []  # positions of what is left out
        self.left_out: list[TransactionId] = []

    @property
    def engine(self) -> Engine:
        """In the state after everything that was applied."""
        return self._guard.engine

    @property
    def labels_to_come(self) -> int:
        """Answers of applied transactions that become known later."""
        return len(self._feedback)

    def days(self, days: Sequence[Day]) -> Iterator[FeaturisedPart]:
        """Apply more days, and yield their features part by part."""
        for day in days:
            self._days.append(day)
            for batch in _batches_of_day(day, self._catalogue, self._feedback, self._position):
                yield from self._apply(day[0], batch)

    def _apply(self, day: int, batch: LogBatch) -> list[FeaturisedPart]:
        parts: list[FeaturisedPart] = []

        def work(engine: Engine, part: LogBatch) -> None:
            applied = engine.apply(part.transactions, part.labels, part.is_label)
            accepted = applied.status == 0
            kept = part.transactions if accepted.all() else part.transactions.take(accepted)
            parts.append(FeaturisedPart(day, kept, applied.matrix))
            self._applied.append(part)
            if len(part.rejected):
                index = part.first_position - batch.first_position
                self._leave_out(batch.part(index, index + 1), part.rejected.problems[0][0])

        self._guard.attempt(batch, work)
        self._position, self._applied, self._state = batch.end_position, [], None
        return parts

    def _leave_out(self, record: LogBatch, problem: RecordProblem) -> None:
        is_label = bool(len(record.labels))
        (transaction_id,) = public_ids(record.labels if is_label else record.transactions)
        self._broken.append(record.first_position)
        self.left_out.append(transaction_id)
        what = "The label of transaction" if is_label else "Transaction"
        self._warn(f"{what} {transaction_id} is left out. {problem.detail}")

    def _recover(self) -> Engine:
        """The engine as it was after what was applied of the current batch."""
        if self._state is None:
            self._state = self._engine_before_batch().state()
        copies = {name: array.copy() for name, array in self._state.items()}
        engine = restore_engine(self._catalogue, 0, copies, key=self._key)
        for part in self._applied:
            engine.apply(part.transactions, part.labels, part.is_label)
        return engine

    def _engine_before_batch(self) -> Engine:
        engine, feedback = Engine(self._catalogue, key=self._key), DelayedLabels(self._label_delay_seconds)
        position = 0
        for day in self._days:
            for batch in _batches_of_day(day, self._catalogue, feedback, position):
                if batch.first_position == self._position:
                    return engine
                broken = [p - position for p in self._broken if position <= p < batch.end_position]
                sound = batch.rejecting(broken, _LEFT_OUT) if broken else batch
                engine.apply(sound.transactions, sound.labels, sound.is_label)
                position = batch.end_position
        return engine


def _batches_of_day(
    day: Day, catalogue: Catalogue, feedback: DelayedLabels, position: int
) -> Iterator[LogBatch]:
    transactions = read_clean_day(day[1], catalogue)
    feedback.add(transactions)
    labels = feedback.due((day[0] + 1) * SECONDS_PER_DAY)
    return in_log_order(transactions, labels, position, BATCH_EVENTS)


def in_log_order(transactions: Transactions, labels: Labels, position: int, size: int) -> Iterator[LogBatch]:
    """Events of one day in the order of the log, from a position on, in batches of at most `size`."""
    is_label = merge_by_time(transactions.event_time_seconds, labels.arrival_time_seconds)
    for whole in from_clean(transactions, labels, is_label, position):
        for begin in range(0, len(whole), size):
            yield whole.part(begin, begin + size)
