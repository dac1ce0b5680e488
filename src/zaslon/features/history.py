"""History: everything that is remembered of the past, folded event by event, read as features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Labels, Transactions
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, SECONDS_PER_DAY, parse_duration_seconds
from zaslon.features.entity import POOL_ENTRIES_MIN, EntityHistory, new_scratch
from zaslon.features.kernel import LABEL, TRANSACTION, StepArrays
from zaslon.features.plan import FeaturePlan
from zaslon.features.remembered import (
    BASE,
    CONDITION_SHIFT,
    FRAUD,
    GOOD,
    LABEL_APPLIED,
    LabelMarks,
    Limits,
    Remembered,
    TransactionMarks,
    identify,
)

# Bigger batches are folded in parts of this many events: the working set stays in cache.
_PART_EVENTS = 1 << 16
_ROWS_MIN = 1 << 12
_LAYOUT = 3  # of a snapshot; raise it with any change of what `save` gives


@dataclass(frozen=True)
class Folded:
    """What a batch's events came to.

    Attributes:
        status: uint8[transactions], 0 accepted, else a `Reason`.
        label_status: uint8[labels], LABEL_APPLIED, LABEL_REPEATED, LABEL_WAITS or a `Reason`.
        matrix: float32[accepted, features], rows in log order, columns as `FeaturePlan.names`.
    """

    status: NDArray[np.uint8]
    label_status: NDArray[np.uint8]
    matrix: NDArray[np.float32]


class History:
    """The remembered past of all entities. `fold` is the only way to change it.

    Example:
        >>> from zaslon.domain.catalogue import load_catalogue
        >>> from zaslon.features.plan import plan_features
        >>> history = History(plan_features(load_catalogue()))
        >>> len(history)
        0
    """

    def __init__(
        self,
        plan: FeaturePlan,
        *,
        waiting_labels_max: int = 100_000,
        pool_entries_min: int = POOL_ENTRIES_MIN,
    ) -> None:
        retention = plan.catalogue.retention
        self.plan = plan
        self._limits = Limits(
            parse_duration_seconds(retention.late_within),
            parse_duration_seconds(retention.remember),
            waiting_labels_max,
        )
        self.remembered = Remembered(len(plan.entities), self._limits, min(_ROWS_MIN, pool_entries_min))
        self.entities = [EntityHistory(entity, pool_entries_min) for entity in plan.entities]
        self._scratch = new_scratch(plan)

    def __len__(self) -> int:
        """Remembered transactions (and waiting labels)."""
        return len(self.remembered)

    @property
    def watermark_seconds(self) -> int:
        """Newest event time that was accepted; 0 before the first."""
        return self.remembered.watermark_seconds

    def bytes_used(self) -> int:
        """Bytes of all arrays: what remembering costs."""
        return self.remembered.bytes_used() + sum(e.bytes_used() for e in self.entities)

    def fold(self, transactions: Transactions, labels: Labels, is_label: NDArray[np.bool_]) -> Folded:
        """Fold one batch in log order and return what each event came to.

        Args:
            transactions: clean transactions, in log order.
            labels: labels, in log order.
            is_label: bool[transactions + labels], which kind the k-th event of the batch is.

        Raises:
            ValueError: a label arrives before 1970 or after 2106: the caller's clock is wrong.
        """
        arrival = labels.arrival_time_seconds
        if len(arrival) and not 0 <= arrival.min() <= arrival.max() <= EVENT_TIME_SECONDS_MAX:
            raise ValueError(f"labels arrive at {arrival.min()} to {arrival.max()}, outside 1970 to 2106")
        if len(is_label) <= _PART_EVENTS:
            return self._fold_part(transactions, labels, is_label)
        label_ends = np.concatenate([[0], np.cumsum(is_label)])
        parts = []
        for begin in range(0, len(is_label), _PART_EVENTS):
            end = min(begin + _PART_EVENTS, len(is_label))
            label_part = slice(int(label_ends[begin]), int(label_ends[end]))
            part = slice(begin - label_part.start, end - label_part.stop)
            parts.append(
                self._fold_part(transactions.take(part), labels.take(label_part), is_label[begin:end])
            )
        return Folded(
            np.concatenate([p.status for p in parts]),
            np.concatenate([p.label_status for p in parts]),
            np.concatenate([p.matrix for p in parts]),
        )

    def _fold_part(self, transactions: Transactions, labels: Labels, is_label: NDArray[np.bool_]) -> Folded:
        self.remembered.make_room(len(is_label))
        marks, label_marks = self._identify(transactions, labels, is_label)
        batch = _Batch(self, transactions, labels, is_label, marks, label_marks)
        return Folded(marks.status, label_marks.status, batch.run())

    def _identify(
        self, transactions: Transactions, labels: Labels, is_label: NDArray[np.bool_]
    ) -> tuple[TransactionMarks, LabelMarks]:
        n, m = len(transactions), len(labels)
        marks = TransactionMarks(
            np.zeros(n, np.uint8), np.zeros(n, np.int64), np.zeros(n, np.uint8),
            np.zeros(n, np.int64), np.zeros(n, np.int64),
        )  # fmt: skip
        label_marks = LabelMarks(
            np.zeros(m, np.uint8), np.zeros(m, np.int64), np.zeros(m, np.uint8),
            np.zeros(m, np.int64), np.zeros(m, np.int64),
        )  # fmt: skip
        identify(
            self.remembered.arrays, self._limits, is_label,
            transactions.transaction_id, transactions.event_time_seconds,
            transactions.fingerprint, labels.transaction_id, labels.arrival_time_seconds,
            labels.is_fraud, marks, label_marks,
        )  # fmt: skip
        return marks, label_marks

    def save(self) -> dict[str, NDArray[Any]]:
        """The whole state as flat arrays by name, for a snapshot.

        They are views of what the next fold changes: write or copy them before.
        """
        saved = {f"remembered/{k}": v for k, v in self.remembered.save().items()}
        saved["layout"] = np.array([_LAYOUT], np.int64)
        for entity in self.entities:
            saved |= {f"entity/{entity.plan.entity}/{k}": v for k, v in entity.save().items()}
        return saved

    @staticmethod
    def restore(
        plan: FeaturePlan,
        saved: dict[str, NDArray[Any]],
        *,
        waiting_labels_max: int = 100_000,
        pool_entries_min: int = POOL_ENTRIES_MIN,
    ) -> History:
        """The inverse of `save`. Takes the arrays out of `saved`, so that no two copies are held of all.

        Raises:
            ArtefactError: the arrays belong to another catalogue or version, or are damaged.
        """
        history = History(plan, waiting_labels_max=waiting_labels_max, pool_entries_min=pool_entries_min)
        try:
            history._take_over(saved)
        except (KeyError, ValueError, IndexError) as error:
            raise ArtefactError(
                f"The snapshot does not fit the catalogue {plan.catalogue.label}: {_told(error)}.",
                hint="Restore it with the catalogue and the version it was made with, or an older one.",
            ) from error
        return history

    def _take_over(self, saved: dict[str, NDArray[Any]]) -> None:
        if saved["layout"].tolist() != [_LAYOUT]:
            raise ValueError("it was made by another version of Zaslon")
        remembered = _below("remembered/", saved)
        if remembered["slots"].ndim != 2 or remembered["slots"].shape[1] != len(self.entities):
            raise ValueError("its transactions have other entities")
        self.remembered = Remembered.restore(remembered, self._limits)
        slots = self.remembered.arrays.slots[: len(self.remembered)]
        for number, entity in enumerate(self.entities):
            entity.restore(_below(f"entity/{entity.plan.entity}/", saved))
            if slots[:, number].max(initial=0) >= max(len(entity.keys), 1):
                raise ValueError(f"a transaction has an unknown {entity.plan.entity}")


def _below(prefix: str, saved: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix`, taken out of `saved`."""
    return {name.removeprefix(prefix): saved.pop(name) for name in [*saved] if name.startswith(prefix)}


def _told(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


class _Batch:
    """The columns of one batch while it is folded through the entities."""

    def __init__(
        self, history: History, transactions: Transactions, labels: Labels,
        is_label: NDArray[np.bool_], marks: TransactionMarks, label_marks: LabelMarks,
    ) -> None:  # fmt: skip
        self.history, self.plan = history, history.plan
        accepted = marks.status == 0
        applied = label_marks.status == LABEL_APPLIED
        effective = np.empty(len(is_label), np.bool_)
        effective[~is_label] = accepted
        effective[is_label] = applied
        self.is_label = is_label[effective]
        self.at_transactions = np.flatnonzero(~self.is_label)
        self.at_labels = np.flatnonzero(self.is_label)
        all_accepted = bool(accepted.all())
        self.transactions = transactions if all_accepted else transactions.take(accepted)
        self.marks = marks if all_accepted else TransactionMarks(*(a[accepted] for a in marks))
        self.label_marks = LabelMarks(*(a[applied] for a in label_marks))
        self.label_time = labels.arrival_time_seconds[applied]
        self.label_verdict = np.where(labels.is_fraud[applied], FRAUD, GOOD).astype(np.uint8)
        table = history.remembered.arrays
        base = int(table.counters[BASE])
        self.places = self.marks.row - base
        self.label_places = self.label_marks.row - base
        self.bits = np.zeros(len(self.transactions), np.uint8)
        self.matrix = np.empty((len(self.transactions), len(self.plan.names)), np.float32)
        self.columns = transaction_columns(self.plan, self.transactions)

    def run(self) -> NDArray[np.float32]:
        for i, name in enumerate(self.columns):
            self.matrix[:, i] = self.columns[name]
        slots = self._slots()
        common = self._common_steps()
        for number, entity in enumerate(self.history.entities):
            self._meet_conditions(number)
            self._fold_entity(number, entity, slots, common)
        self._meet_conditions(len(self.history.entities))
        self._derive()
        return self.matrix

    def _slots(self) -> NDArray[np.uint32]:
        """Slots of every transaction's keys, uint32[n, entities], kept for later labels."""
        table = self.history.remembered.arrays
        slots = np.empty((len(self.transactions), len(self.history.entities)), np.uint32)
        for number, entity in enumerate(self.history.entities):
            slots[:, number] = entity.keys.slots(self.transactions.entity_keys[entity.plan.entity])
            entity.add_slots()
        table.slots[self.places] = slots
        return slots

    def _common_steps(self) -> StepArrays:
        """Steps with all columns that are the same for every entity."""
        n, m = len(self.transactions), len(self.at_labels)
        none, no_label = np.zeros(n, np.int64), np.zeros(m, np.int64)
        event_time = self.history.remembered.arrays.time[self.label_places].astype(np.int64)
        return StepArrays(
            kind=np.where(self.is_label, LABEL, TRANSACTION).astype(np.uint8),
            slot=np.empty(0, np.uint32),
            time=self._merged(self.transactions.event_time_seconds, self.label_time),
            watermark=self._merged(self.marks.watermark, self.label_marks.watermark),
            amount_minor=self._merged(self.transactions.amount_minor, no_label),
            others=np.empty((0, 0), np.uint32),
            bits=np.empty(0, np.uint8),
            verdict=self._merged(self.marks.waiting, self.label_verdict),
            verdict_time=self._merged(self.marks.waiting_time, no_label),
            event_time=self._merged(none, event_time),
            previous=self._merged(none.astype(np.uint8), self.label_marks.previous),
            previous_time=self._merged(none, self.label_marks.previous_time),
            row=self._merged(np.arange(n), no_label),
        )

    def _fold_entity(
        self, number: int, entity: EntityHistory, slots: NDArray[np.uint32], common: StepArrays
    ) -> None:
        table = self.history.remembered.arrays
        names = [e.plan.entity for e in self.history.entities]
        columns = [names.index(c) for c in entity.plan.counterparties]
        others = np.zeros((len(self.is_label), len(columns)), np.uint32)
        if columns:
            others[self.at_transactions] = slots[:, columns]
        label_bits = table.note[self.label_places] >> CONDITION_SHIFT
        steps = common._replace(
            slot=self._merged(slots[:, number], table.slots[self.label_places, number]),
            others=others,
            bits=self._merged(self.bits, label_bits),
        )
        self.history._scratch = entity.fold(steps, self.history._scratch, self.matrix)

    def _meet_conditions(self, number: int) -> None:
        """Evaluate the conditions first needed by entity `number` and note them in the table."""
        due = [c for c in self.plan.conditions if self.plan.condition_before[c[0]] == number]
        if not due:
            return
        columns = _Columns(self)
        for name, expression in due:
            bit = list(self.plan.catalogue.conditions).index(name)
            self.bits |= expression.evaluate(columns).astype(np.uint8) << np.uint8(bit)
        table = self.history.remembered.arrays
        table.note[self.places] = (table.note[self.places] & 3) | (self.bits << CONDITION_SHIFT)

    def _derive(self) -> None:
        columns = _Columns(self)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and that is no accident
            for name, expression in self.plan.derived:
                self.matrix[:, self.plan.column_of[name]] = expression.evaluate(columns)

    def _merged(self, of_transactions: NDArray[Any], of_labels: NDArray[Any]) -> NDArray[Any]:
        """One column in log order from the transactions' and the labels' values."""
        if not len(self.at_labels):
            return np.ascontiguousarray(of_transactions)
        merged = np.empty(len(self.is_label), of_transactions.dtype)
        merged[self.at_transactions] = of_transactions
        merged[self.at_labels] = of_labels
        return merged


class _Columns(dict[str, NDArray[Any]]):
    """Columns by name for expressions: the exact transaction columns, then the matrix."""

    def __init__(self, batch: _Batch) -> None:
        super().__init__(batch.columns)
        self._batch = batch

    def __missing__(self, name: str) -> NDArray[Any]:
        return self._batch.matrix[:, self._batch.plan.column_of[name]]


def transaction_columns(plan: FeaturePlan, transactions: Transactions) -> dict[str, NDArray[Any]]:
    """float64[n] by name: the features of the transaction itself, and its flags as 0 or 1."""
    moment = transactions.event_time_seconds
    columns: dict[str, NDArray[Any]] = {
        "amount": transactions.amount_minor / 10.0**plan.catalogue.minor_digits,
        "hour": (moment % SECONDS_PER_DAY // 3600).astype(np.float64),
        "weekday": ((moment // SECONDS_PER_DAY + 3) % 7).astype(np.float64),  # 1970-01-01: Thursday
        "second_of_day": (moment % SECONDS_PER_DAY).astype(np.float64),
    }
    for name in plan.catalogue.number_fields:
        columns[name] = transactions.numbers[name]
    for bit, name in enumerate(plan.catalogue.flag_names):
        columns[f"flag_{name}"] = ((transactions.flags >> np.uint32(bit)) & 1).astype(np.float64)
    return columns


def merge_by_time(
    event_time_seconds: NDArray[np.int64], label_time_seconds: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """`is_label` for ordered transactions and ordered labels; a label goes first at a tie."""
    is_label = np.zeros(len(event_time_seconds) + len(label_time_seconds), np.bool_)
    before = np.searchsorted(event_time_seconds, label_time_seconds, side="left")
    is_label[before + np.arange(len(label_time_seconds))] = True
    return is_label
