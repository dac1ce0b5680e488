"""History: everything that is remembered of the past, applied event by event, read as features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Labels, Transactions
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, SECONDS_PER_DAY, parse_duration_seconds
from zaslon.expressions.expression import Expression
from zaslon.features.deduplication import (
    ACCEPTED_COUNT,
    STEP,
    STEP_COUNT,
    DeduplicationIndex,
    Limits,
    Steps,
    identify,
    note_condition,
)
from zaslon.features.entity import POOL_ENTRIES_MIN, EntityHistory, new_scratch
from zaslon.features.entity_keys import NO_SLOT
from zaslon.features.kernel import RowArrays
from zaslon.features.plan import TRANSACTION_FEATURES, EntityPlan, FeaturePlan
from zaslon.system.compiled import Integer, Number, compiled
from zaslon.system.siphash import hashes_of, secret_words

# Bigger batches are applied in parts of this many events: the working set stays in cache.
_PART_EVENTS = 1 << 16
_ROWS_MIN = 1 << 12
# Raise it with any change after which the same log could leave another byte in what `save` gives.
STATE_VERSION = 8


@dataclass(frozen=True)
class Applied:
    """The results of a batch's events.

    Attributes:
        status: uint8[transactions], 0 accepted, else a `Reason`.
        label_status: uint8[labels], LABEL_APPLIED, LABEL_REPEATED, LABEL_WAITS or a `Reason`.
        matrix: float32[accepted, features], rows in log order, columns as `FeaturePlan.names`.
    """

    status: NDArray[np.uint8]
    label_status: NDArray[np.uint8]
    matrix: NDArray[np.float32]


class History:
    """The remembered past of all entities. `apply` is the only way to change it.

    Args:
        plan: the compiled catalogue.
        secret: 16 bytes that key the hash tables: where ids and keys are in memory depends on them,
            nothing that is computed or saved does.
        waiting_labels_max: labels that may wait for their transactions.
        pool_entries_min: entries that pools begin with and grow by, at least.

    Example:
        >>> from zaslon.domain.catalogue import load_catalogue
        >>> from zaslon.features.plan import plan_features
        >>> history = History(plan_features(load_catalogue()), secret=bytes(range(16)))
        >>> len(history)
        0
    """

    def __init__(
        self,
        plan: FeaturePlan,
        *,
        secret: bytes,
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
        self._rows_min = min(_ROWS_MIN, pool_entries_min)
        self._secret = secret_words(secret)
        self.deduplication = DeduplicationIndex(
            len(plan.entities), self._limits, self._rows_min, self._secret
        )
        self.entities = [
            EntityHistory(entity, pool_entries_min, self._secret, plan.keep_seconds)
            for entity in plan.entities
        ]
        self._scratch = new_scratch(plan, self._secret)

    def __len__(self) -> int:
        """Remembered transactions (and waiting labels)."""
        return len(self.deduplication)

    @property
    def watermark_seconds(self) -> int:
        """Newest event time that was accepted; 0 before the first."""
        return self.deduplication.watermark_seconds

    def waiting_labels(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """int64[n] ids and bool[n], whether it is fraud, of the labels whose transactions have not come."""
        return self.deduplication.waiting_labels()

    def rows_by_day(self) -> NDArray[np.int64]:
        """int64[DAYS_MAX], how many transactions of each day are remembered."""
        return self.deduplication.rows_by_day()

    def bytes_used(self) -> int:
        """Bytes of all arrays: what remembering costs."""
        return self.deduplication.bytes_used() + sum(e.bytes_used() for e in self.entities)

    def apply(
        self, transactions: Transactions, labels: Labels, is_label: NDArray[np.bool_],
        known: NDArray[np.float32] | None = None,
    ) -> Applied:  # fmt: skip
        """Apply one batch in log order and return the result of each event.

        Args:
            transactions: clean transactions, in log order.
            labels: labels, in log order.
            is_label: bool[transactions + labels], which kind the k-th event of the batch is.
            known: float32[transactions, features], where the plan is that of one entity (`FeaturePlan.only`):
                the columns of the entities before it are taken from here, and those after it left as they are.

        Raises:
            ValueError: a label arrives before 1970 or after 2106: the caller's clock is wrong.
        """
        arrival = labels.arrival_time_seconds
        if len(arrival) and not 0 <= arrival.min() <= arrival.max() <= EVENT_TIME_SECONDS_MAX:
            raise ValueError(f"labels arrive at {arrival.min()} to {arrival.max()}, outside 1970 to 2106")
        if len(is_label) <= _PART_EVENTS:
            return self._apply_part(transactions, labels, is_label, known)
        label_ends = np.concatenate([[0], np.cumsum(is_label)])
        parts = []
        for begin in range(0, len(is_label), _PART_EVENTS):
            end = min(begin + _PART_EVENTS, len(is_label))
            label_part = slice(int(label_ends[begin]), int(label_ends[end]))
            part = slice(begin - label_part.start, end - label_part.stop)
            parts.append(
                self._apply_part(
                    transactions.take(part), labels.take(label_part), is_label[begin:end],
                    None if known is None else known[part],
                )
            )  # fmt: skip
        return Applied(
            np.concatenate([p.status for p in parts]),
            np.concatenate([p.label_status for p in parts]),
            np.concatenate([p.matrix for p in parts]),
        )

    def _apply_part(
        self, transactions: Transactions, labels: Labels, is_label: NDArray[np.bool_],
        known: NDArray[np.float32] | None,
    ) -> Applied:  # fmt: skip
        self.deduplication.move_up(len(is_label))
        status, label_status = np.empty(len(transactions), np.uint8), np.empty(len(labels), np.uint8)
        steps = np.empty(len(is_label) + 1, STEP)  # one is written before it is known to count
        progress = np.zeros(4, np.int64)
        hashes = hashes_of(transactions.transaction_id, self._secret)
        label_hashes = hashes_of(labels.transaction_id, self._secret)
        while not identify(
            self.deduplication.arrays, self._limits, is_label, transactions.transaction_id, hashes,
            transactions.event_time_seconds, transactions.amount_minor, transactions.digest,
            labels.transaction_id, label_hashes, labels.arrival_time_seconds, labels.is_fraud, labels.are_live,
            status, label_status, steps, progress,
        ):  # fmt: skip
            self.deduplication.make_room()
        if progress[ACCEPTED_COUNT] < len(transactions):
            transactions = transactions.take(status == 0)
            known = None if known is None else known[status == 0]
        batch = _Batch(self, transactions, steps[: progress[STEP_COUNT]], known)
        return Applied(status, label_status, batch.run())

    def save(self) -> dict[str, NDArray[Any]]:
        """The whole state as flat arrays by name, for a snapshot.

        They are views of arrays that the next call changes: write or copy them first.
        """
        saved = {f"remembered/{k}": v for k, v in self.deduplication.save().items()}
        saved["layout"] = np.array([STATE_VERSION], np.int64)
        for entity in self.entities:
            saved |= {f"entity/{entity.plan.entity}/{k}": v for k, v in entity.save().items()}
        return saved

    @staticmethod
    def restore(
        plan: FeaturePlan,
        saved: dict[str, NDArray[Any]],
        *,
        secret: bytes,
        waiting_labels_max: int = 100_000,
        pool_entries_min: int = POOL_ENTRIES_MIN,
    ) -> History:
        """The inverse of `save`; the secret may be another.

        Takes the arrays out of `saved` one by one, so that no two copies are held of all.

        Raises:
            ArtefactError: the arrays belong to another catalogue or version, or are damaged.
        """
        history = History(
            plan, secret=secret, waiting_labels_max=waiting_labels_max, pool_entries_min=pool_entries_min
        )
        try:
            history._take_over(saved)
        except (KeyError, ValueError, IndexError) as error:
            raise ArtefactError(
                f"The snapshot does not fit the catalogue {plan.catalogue.label}: {_message(error)}.",
                hint="Restore it with the catalogue and the version it was made with, or an older one.",
            ) from error
        return history

    def _take_over(self, saved: dict[str, NDArray[Any]]) -> None:
        if saved["layout"].tolist() != [STATE_VERSION]:
            raise ValueError("it was made by another version of Zaslon")
        index = _below("remembered/", saved)
        if index["slots"].ndim != 2 or index["slots"].shape[1] != len(self.entities):
            raise ValueError("its transactions have other entities")
        self.deduplication = DeduplicationIndex.restore(index, self._limits, self._rows_min, self._secret)
        slots = self.deduplication.arrays.slots[: len(self.deduplication)]
        for number, entity in enumerate(self.entities):
            entity.restore(_below(f"entity/{entity.plan.entity}/", saved))
            named = (
                slots[slots[:, number] != NO_SLOT, number] if entity.plan.is_optional else slots[:, number]
            )
            if named.max(initial=0) >= max(len(entity.keys), 1):
                raise ValueError(f"a transaction has an unknown {entity.plan.entity}")
        self.deduplication.rebuild_index()  # last: until then there are two copies of the largest array


def _below(prefix: str, saved: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix`, taken out of `saved`."""
    return {name.removeprefix(prefix): saved.pop(name) for name in [*saved] if name.startswith(prefix)}


def _message(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


class _Batch:
    """The accepted transactions of one batch while they and its labels are applied to the entities."""

    def __init__(
        self, history: History, transactions: Transactions, steps: Steps, known: NDArray[np.float32] | None
    ) -> None:
        self.history, self.plan = history, history.plan
        self.transactions, self.steps = transactions, steps
        table = history.deduplication.arrays
        self.rows = RowArrays(table.time, table.note, table.slots)
        shape = (len(transactions), len(self.plan.names))
        self.matrix = np.empty(shape, np.float32) if known is None else known.copy()

    def run(self) -> NDArray[np.float32]:
        self._find_keys()
        if not len(self.transactions):  # labels alone meet no condition and have no features
            self._apply_entities(lambda number: None)
            return self.matrix
        values = _Values(self.plan, self.transactions, self.matrix)
        with np.errstate(all="ignore"):  # values beyond float32 become infinite on purpose
            self._apply_entities(lambda number: self._meet_conditions(number, values))
            for name, expression in self.plan.derived:
                self.matrix[:, self.plan.column_of[name]] = values.of(expression)
        return self.matrix

    def _find_keys(self) -> None:
        """Give the transactions' keys their slots."""
        keys, rows = self.transactions.entity_keys, self.rows
        for number, entity in enumerate(self.history.entities):
            entity.keys.find(keys[entity.plan.entity], self.steps, rows.time, rows.slots, number)
            entity.add_slots()

    def _apply_entities(self, before: Callable[[int], None]) -> None:
        history = self.history
        for number, entity in enumerate(history.entities):
            before(number)
            steps = self._steps_of(number, entity.plan) if entity.plan.is_optional else self.steps
            history._scratch = entity.apply(self.rows, steps, history._scratch, self.matrix)
        before(len(history.entities))

    def _steps_of(self, number: int, plan: EntityPlan) -> Steps:
        """The steps about transactions that have a key of the entity; the features of others are NaN."""
        has_key = self.rows.slots[self.steps["row"], number] != NO_SLOT
        transaction = self.steps["transaction"][~has_key]
        self.matrix[np.ix_(transaction[transaction >= 0], plan.targets)] = np.nan
        steps: Steps = self.steps[has_key]
        return steps

    def _meet_conditions(self, number: int, values: _Values) -> None:
        """Evaluate the conditions first needed by entity `number` and note them in the table."""
        for bit, (name, expression) in enumerate(self.plan.conditions):
            if self.plan.condition_before.get(name) == number:
                note_condition(self.steps, np.atleast_1d(values.of(expression)), bit, self.rows.note)


class _Values(dict[str, Any]):
    """What expressions see, by name: the transactions' own columns, exact, then those of the matrix.

    Columns are float64 and made once, when first asked for. Of a single transaction they are plain
    numbers: NumPy takes longer to be called than to compute one.
    """

    def __init__(self, plan: FeaturePlan, transactions: Transactions, matrix: NDArray[np.float32]) -> None:
        own = _own_columns(plan, transactions)
        matrix[:, : len(own)] = own.T
        self._matrix, self._column_of, self._is_single = matrix, plan.column_of, len(matrix) == 1
        super().__init__(zip(plan.names, own[:, 0].tolist() if self._is_single else own, strict=False))

    def __missing__(self, name: str) -> Any:
        column = self._matrix[:, self._column_of[name]]
        value = self[name] = float(column[0]) if self._is_single else column.astype(np.float64)
        return value

    def of(self, expression: Expression) -> Any:
        """The expression's value for every transaction, or for the single one."""
        return expression.evaluate_row(self) if self._is_single else expression.evaluate(self)


def transaction_columns(plan: FeaturePlan, transactions: Transactions) -> dict[str, NDArray[Any]]:
    """float64[n] by name: the features of the transaction itself, and its flags as 0 or 1."""
    return dict(zip(plan.names, _own_columns(plan, transactions), strict=False))


def _own_columns(plan: FeaturePlan, transactions: Transactions) -> NDArray[np.float64]:
    """float64[columns, n], in the order in which the plan's names begin."""
    first_number, numbers = len(TRANSACTION_FEATURES), plan.catalogue.number_fields
    first_flag = first_number + len(numbers)
    columns = np.empty((first_flag + len(plan.catalogue.flag_names), len(transactions)))
    _describe(
        transactions.event_time_seconds, transactions.amount_minor, transactions.flags,
        float(10**plan.catalogue.minor_digits), first_flag, columns,
    )  # fmt: skip
    for number, name in enumerate(numbers, start=first_number):
        columns[number] = transactions.numbers[name]
    return columns


@compiled
def _describe(
    time: NDArray[np.int64], amount_minor: NDArray[np.int64], flags: NDArray[np.uint32],
    scale: Number, first_flag: Integer, columns: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill the columns of TRANSACTION_FEATURES, and those of the flags from `first_flag` on."""
    for i in range(time.size):
        second = time[i] % SECONDS_PER_DAY
        columns[0, i] = amount_minor[i] / scale
        columns[1, i] = second // 3600
        columns[2, i] = (time[i] // SECONDS_PER_DAY + 3) % 7  # 1970-01-01 was a Thursday
        columns[3, i] = second
        for bit in range(columns.shape[0] - first_flag):
            columns[first_flag + bit, i] = (flags[i] >> np.uint32(bit)) & np.uint32(1)


def merge_by_time(
    event_time_seconds: NDArray[np.int64], label_time_seconds: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """`is_label` for ordered transactions and ordered labels; a label goes first at a tie."""
    is_label = np.zeros(len(event_time_seconds) + len(label_time_seconds), np.bool_)
    before = np.searchsorted(event_time_seconds, label_time_seconds, side="left")
    is_label[before + np.arange(len(label_time_seconds))] = True
    return is_label
