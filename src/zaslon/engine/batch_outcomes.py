"""From columns to outcomes: one per record, in log order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zaslon.decisions.deciding import Decided, decide, fall_back
from zaslon.domain.events import Degradation, LogBatch, TransactionId, Transactions, public_ids
from zaslon.domain.outcomes import (
    Action,
    Decision,
    LabelAccepted,
    Outcome,
    ReasonGiven,
    Rejection,
)
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.features.deduplication import LABEL_WAITS
from zaslon.features.history import Applied, transaction_columns

if TYPE_CHECKING:
    from zaslon.engine.engine import Engine

_PROBLEMS = {
    Reason.TOO_LATE: "is older than the newest accepted event by more than late_within = {late}; "
    "its exact history is no longer remembered",
    Reason.DUPLICATE: "repeats a transaction that already has its outcome, with the same content",
    Reason.CONFLICTING_DUPLICATE: "has the id of an earlier transaction but other content",
    Reason.UNKNOWN_TRANSACTION: "concerns no remembered transaction, and too many labels "
    "already wait for theirs",
}
_ACTIONS = tuple(Action)
_ALLOW, _NOTHING = int(Action.ALLOW), int(Degradation.NOTHING)


class BatchOutcomes:
    """The outcomes of one batch, assembled from the results of each stage."""

    def __init__(
        self, engine: Engine, batch: LogBatch, applied: Applied, accepted: NDArray[np.bool_],
        scores: NDArray[np.float64],
    ) -> None:  # fmt: skip
        self.engine, self.batch, self.applied = engine, batch, applied
        self.accepted, self.refused = accepted.nonzero()[0], (~accepted).nonzero()[0]
        self.scores = scores
        self.degradation = batch.degradation[batch.transaction_index[accepted]]
        self.outcomes: list[Outcome | None] = [None] * len(batch)

    def assemble(self) -> list[Outcome]:
        """One outcome per record."""
        self._rejections()
        self._labels()
        self._decisions()
        done = [outcome for outcome in self.outcomes if outcome is not None]
        assert len(done) == len(self.batch), "a record has no outcome"
        return done

    def _position(self, index: int) -> int:
        return self.batch.first_position + index

    def _reject(
        self, index: int, problems: tuple[RecordProblem, ...], transaction_id: TransactionId | None = None
    ) -> None:
        raw = self.batch.original(index)
        if raw is not None:
            raw = raw[: self.engine.catalogue.record.max_record_bytes]
        self.outcomes[index] = Rejection(self._position(index), problems, raw, transaction_id)

    def _rejections(self) -> None:
        rejected = self.batch.rejected
        for index, problems in zip(rejected.index.tolist(), rejected.problems, strict=True):
            self._reject(index, problems)
        ids = public_ids(self.batch.transactions) if len(self.refused) else []
        for row in self.refused.tolist():
            reason = Reason(int(self.applied.status[row]))
            self._refuse(int(self.batch.transaction_index[row]), reason, ids[row])

    def _refuse(self, index: int, reason: Reason, transaction_id: TransactionId) -> None:
        """Reject what could be read and cannot be applied."""
        late = self.engine.catalogue.retention.late_within
        problem = f"Transaction {transaction_id} {_PROBLEMS[reason].format(late=late)}"
        self._reject(index, (RecordProblem(reason, None, problem),), transaction_id)

    def _labels(self) -> None:
        labels = self.batch.labels
        if not len(labels):
            return
        ids = public_ids(labels)
        for i, index in enumerate(self.batch.label_index.tolist()):
            status, transaction_id = int(self.applied.label_status[i]), ids[i]
            if status == Reason.UNKNOWN_TRANSACTION:
                self._refuse(index, Reason.UNKNOWN_TRANSACTION, transaction_id)
            else:
                self.outcomes[index] = LabelAccepted(
                    self._position(index), transaction_id, bool(labels.is_fraud[i]),
                    waiting=status == LABEL_WAITS,
                )  # fmt: skip

    @property
    def transactions(self) -> Transactions:
        """Those that were accepted, in log order."""
        transactions = self.batch.transactions
        return transactions.take(self.accepted) if len(self.refused) else transactions

    def decided(self) -> Decided:
        """The actions alone, for every accepted transaction."""
        return self._decided(
            _RuleColumns(self.engine, transaction_columns(self.engine.plan, self.transactions), self)
        )

    def _decided(self, columns: _RuleColumns) -> Decided:
        assert self.engine.policy is not None
        decided = decide(self.engine.policy, self.scores, columns)
        return fall_back(decided, self.degradation) if self.degradation.any() else decided

    def _decisions(self) -> None:
        if not len(self.accepted):
            return
        engine, transactions = self.engine, self.transactions
        columns = _RuleColumns(engine, transaction_columns(engine.plan, transactions), self)
        decided = self._decided(columns)
        reasons = self._reasons(decided.action)
        digits = engine.catalogue.minor_digits
        fired = decided.fired.tolist()
        flags = _flag_names(engine.catalogue.flag_names, transactions.flags)
        versions, first_position = engine.versions, self.batch.first_position
        actions = [_ACTIONS[a] for a in decided.action.tolist()]
        ids, times = public_ids(transactions), transactions.event_time_seconds.tolist()
        scores = self.scores.tolist()
        degraded = [Degradation(left).code if left else None for left in self.degradation.tolist()]
        for row, index in enumerate(self.batch.transaction_index[self.accepted].tolist()):
            rules: tuple[str, ...] = ()
            in_shadow: tuple[str, ...] = ()
            given = reasons.get(row, ())
            if fired[row]:
                rules, in_shadow = decided.rule_names(row), decided.rule_names(row, shadow=True)
                given = (*decided.rule_reasons(row, columns, digits), *given)
            self.outcomes[index] = Decision(
                first_position + index, ids[row], times[row], actions[row], scores[row],
                given, rules, flags[row], versions, in_shadow, degraded[row],
            )  # fmt: skip

    def _reasons(self, action: NDArray[np.uint8]) -> dict[int, tuple[ReasonGiven, ...]]:
        """Reasons of the model for what is not allowed, by row."""
        stopped = ((action != _ALLOW) & (self.degradation == _NOTHING)).nonzero()[0]
        if not len(stopped):
            return {}
        engine = self.engine
        assert engine.model is not None
        matrix = engine.for_model(self.applied.matrix[stopped])
        amounts = self.batch.transactions.amount_minor[self.accepted[stopped]]
        contributions = engine.model.contributions(matrix)
        given = engine.reason_writer.explain(matrix, contributions, amounts)
        return dict(zip(stopped.tolist(), map(tuple, given), strict=True))


class _RuleColumns(dict[str, NDArray[Any]]):
    """Columns for rules: the transaction's own, the features, and `score`."""

    def __init__(self, engine: Engine, columns: dict[str, NDArray[Any]], batch: BatchOutcomes) -> None:
        super().__init__(columns, score=batch.scores)
        self._engine, self._matrix = engine, batch.applied.matrix

    def __missing__(self, name: str) -> NDArray[Any]:
        return self._matrix[:, self._engine.plan.column_of[name]]


def _flag_names(names: tuple[str, ...], flags: NDArray[np.uint32]) -> list[tuple[str, ...]]:
    """Names of the set flags, by row."""
    values = flags.tolist()
    by_value = {
        value: tuple(name for bit, name in enumerate(names) if value >> bit & 1) for value in set(values)
    }
    return [by_value[value] for value in values]
