"""Admission: records are cleaned once, before the log, which holds what came of it.

    raw records ─ admit ─► LogBatch ─ log ─► engine, now and at every replay

Whatever a record contains, admission gives it exactly one entry: a transaction, a label or a rejection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import (
    NO_KEY,
    Change,
    Degradation,
    EntryKind,
    Labels,
    LogBatch,
    Originals,
    RecordBatch,
    Rejected,
    Transactions,
    public_ids,
)
from zaslon.domain.rejections import RecordProblem
from zaslon.intake import clean_batch
from zaslon.intake.ordinary import check_cleaning, problem_of_fault
from zaslon.system.isolation import by_halves

_TRANSACTION, _LABEL, _REJECTED, _CHANGE = map(int, EntryKind)


def admit(batch: RecordBatch, catalogue: Catalogue, key: bytes) -> LogBatch:
    """Clean a batch of raw records for the log; it keeps positions, arrivals and original bytes.

    A record that breaks our own code is rejected as `engine_error`.

    Args:
        batch: records in log order, with their time of arrival.
        catalogue: how they look.
        key: secret for pseudonyms, up to 64 bytes.
    """

    def alone(index: int, error: Exception) -> LogBatch:
        check_cleaning(catalogue, key, error)
        return as_engine_error(
            batch.part(index, index + 1), lambda record: _admitted(record, catalogue, key), error
        )

    parts = by_halves(
        lambda begin, end: _admitted(batch.part(begin, end), catalogue, key), len(batch), alone
    )  # fmt: skip
    return parts[0] if len(parts) == 1 else LogBatch.concatenate(parts)


def as_engine_error(
    record: RecordBatch, admitted: Callable[[RecordBatch], LogBatch], error: Exception
) -> LogBatch:
    """A record that breaks our own code before it is admitted, rejected for that with its bytes.

    Args:
        record: one, into which nothing looks here.
        admitted: makes records of the log; it is given one without any bytes.
        error: how our code failed.
    """
    nothing = admitted(replace(record, lengths=np.zeros(1, np.int64)))
    rejected = nothing.rejecting([0], problem_of_fault(error))
    return replace(rejected, originals=_originals(record))


def writable(
    batch: LogBatch, encoded: Callable[[LogBatch], bytes], ordinary: Callable[[], LogBatch]
) -> LogBatch:
    """The same records; one that breaks our own code where the log is written is rejected as `engine_error`.

    Args:
        batch: as `admit` gives it.
        encoded: a batch as the log takes it; changes nothing.
        ordinary: makes a batch of ordinary records.

    Raises:
        Exception: what `encoded` raises where ordinary records break it, too.
    """

    def work(begin: int, end: int) -> LogBatch:
        part = batch.part(begin, end)
        encoded(part)
        return part

    def alone(index: int, error: Exception) -> LogBatch:
        rejected = batch.part(index, index + 1).rejecting([0], problem_of_fault(error))
        try:
            encoded(ordinary())
            encoded(rejected)
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None
        return rejected

    parts = by_halves(work, len(batch), alone)
    return parts[0] if len(parts) == 1 else LogBatch.concatenate(parts)


def change_entry(change: Change, position: int, arrival_seconds: int, catalogue: Catalogue) -> LogBatch:
    """A change of what decides as a record of the log, a batch by itself.

    Args:
        change: what decides after it, loaded and checked already.
        position: log position of the record.
        arrival_seconds: when it was made, seconds since 1970.
        catalogue: of the log.
    """
    nothing = _admitted(RecordBatch.of([], [], [], position), catalogue, b"")
    return replace(
        nothing, kind=np.array([_CHANGE], np.uint8), degradation=np.zeros(1, np.uint8),
        arrival_time_seconds=np.array([arrival_seconds]), originals=None, change=change,
    )  # fmt: skip


def _admitted(batch: RecordBatch, catalogue: Catalogue, key: bytes) -> LogBatch:
    cleaned = clean_batch(batch, catalogue, key)
    kind = np.full(len(batch), _REJECTED, np.uint8)
    kind[cleaned.transaction_index] = _TRANSACTION
    kind[cleaned.label_index] = _LABEL
    return LogBatch(
        batch.first_position, kind, batch.degradation, batch.arrival_time_seconds,
        cleaned.transactions, cleaned.labels, cleaned.rejected, _originals(batch),
    )  # fmt: skip


def _originals(batch: RecordBatch) -> Originals:
    return Originals(batch.buffer, batch.starts, batch.lengths)


def from_clean(
    transactions: Transactions, labels: Labels, is_label: NDArray[np.bool_], first_position: int
) -> list[LogBatch]:
    """Rows that were cleaned from files as records of the log; the files keep the original bytes.

    One batch, unless a row breaks our own code: that is a batch of its own, rejected, with its columns as bytes.

    Args:
        transactions: in log order; each arrives at its event time.
        labels: in log order.
        is_label: bool[transactions + labels], which kind the k-th record is.
        first_position: log position of the first one.

    Raises:
        Exception: what every row raises; then no row is to blame.
    """
    faults: list[Exception] = []

    def run(begin: int, end: int) -> tuple[Transactions, Labels]:
        first, last = (int(np.count_nonzero(is_label[:place])) for place in (begin, end))
        return transactions.take(slice(begin - first, end - last)), labels.take(slice(first, last))

    def work(begin: int, end: int) -> LogBatch:
        return _joined(*run(begin, end), is_label[begin:end], first_position + begin)

    def alone(index: int, error: Exception) -> LogBatch:
        faults.append(error)
        return _rejected_row(*run(index, index + 1), first_position + index, problem_of_fault(error))

    parts = by_halves(work, len(is_label), alone)
    if 1 < len(faults) == len(is_label):
        raise faults[0]
    return parts


def _joined(
    transactions: Transactions, labels: Labels, is_label: NDArray[np.bool_], first_position: int
) -> LogBatch:
    arrival = np.empty(len(is_label), np.int64)
    arrival[~is_label] = transactions.event_time_seconds
    arrival[is_label] = labels.arrival_time_seconds
    return LogBatch(
        first_position, np.where(is_label, _LABEL, _TRANSACTION).astype(np.uint8),
        np.full(len(is_label), int(Degradation.NOTHING), np.uint8), arrival, transactions, labels,
        Rejected(np.zeros(0, np.int64), []),
    )  # fmt: skip


def _rejected_row(
    transactions: Transactions, labels: Labels, position: int, problem: RecordProblem
) -> LogBatch:
    """One row, of either kind, as a rejected record of the log."""
    moments = labels.arrival_time_seconds if len(labels) else transactions.event_time_seconds
    nothing = slice(0, 0)
    return LogBatch(
        position, np.array([_REJECTED], np.uint8), np.array([int(Degradation.NOTHING)], np.uint8), moments,
        transactions.take(nothing), labels.take(nothing), Rejected(np.zeros(1, np.int64), [(problem,)]),
        columns_as_original(transactions, labels),
    )  # fmt: skip


def columns_as_original(transactions: Transactions, labels: Labels) -> Originals:
    """What the log would hold of one record that has no bytes, as JSON; nothing where there is no record."""
    content = orjson.dumps(_typed(transactions, labels)) if len(transactions) or len(labels) else b""
    return Originals(np.frombuffer(content, np.uint8), np.zeros(1, np.int64), np.array([len(content)]))


def _typed(rows: Transactions, labels: Labels) -> dict[str, object]:
    if len(labels):
        return {"transaction_id": public_ids(labels)[0], "is_fraud": bool(labels.is_fraud[0])}
    return {
        "transaction_id": public_ids(rows)[0], "event_time_seconds": int(rows.event_time_seconds[0]),
        "amount_minor": int(rows.amount_minor[0]), "flags": int(rows.flags[0]),
        **{name: int(keys[0]) if keys[0] != NO_KEY else None for name, keys in rows.entity_keys.items()},
        **{name: float(values[0]) for name, values in rows.numbers.items()},
    }  # fmt: skip
