"""Admission: records are cleaned once, before the log, which holds what came of it.

    raw records ─ admit ─► LogBatch ─ log ─► engine, now and at every replay

Whatever a record contains, admission gives it exactly one entry: a transaction, a label or a rejection.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import (
    Change,
    Degradation,
    EntryKind,
    Labels,
    LogBatch,
    Originals,
    RecordBatch,
    Rejected,
    Transactions,
)
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
        record = batch.part(index, index + 1)
        nothing = replace(record, lengths=np.zeros(1, np.int64))
        rejected = _admitted(nothing, catalogue, key).rejecting([0], problem_of_fault(error))
        return replace(rejected, originals=_originals(record))

    parts = by_halves(
        lambda begin, end: _admitted(batch.part(begin, end), catalogue, key), len(batch), alone
    )  # fmt: skip
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
) -> LogBatch:
    """Rows that were cleaned from files as records of the log; the files keep the original bytes.

    Args:
        transactions: in log order; each arrives at its event time.
        labels: in log order.
        is_label: bool[transactions + labels], which kind the k-th record is.
        first_position: log position of the first one.
    """
    arrival = np.empty(len(is_label), np.int64)
    arrival[~is_label] = transactions.event_time_seconds
    arrival[is_label] = labels.arrival_time_seconds
    return LogBatch(
        first_position, np.where(is_label, _LABEL, _TRANSACTION).astype(np.uint8),
        np.full(len(is_label), int(Degradation.NOTHING), np.uint8), arrival, transactions, labels,
        Rejected(np.zeros(0, np.int64), []),
    )  # fmt: skip
