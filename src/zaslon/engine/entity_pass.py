"""Features of clean days when no process sees all rows: one entity after the other.

A process that has all transactions of some customers computes the customers' columns, with the kernel
that serves; then the rows are exchanged so that another has all transactions of some terminals, and so
on. The columns are those of one process with all rows, bit for bit (tests/laws/test_entity_pass_laws.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import DataError
from zaslon.domain.events import Transactions
from zaslon.domain.time import SECONDS_PER_DAY, parse_duration_seconds
from zaslon.features.history import History, merge_by_time
from zaslon.features.plan import FeaturePlan
from zaslon.labels.feedback import DelayedLabels


def check_label_delay(plan: FeaturePlan, label_delay_seconds: int) -> None:
    """Refuse labels that come when their transactions are no longer remembered: what these are depends on all rows.

    Raises:
        DataError: they come so late.
    """
    remember = plan.catalogue.retention.remember
    if label_delay_seconds >= parse_duration_seconds(remember):
        raise DataError(
            f"Labels that come after {label_delay_seconds} s are later than what is remembered ({remember}).",
            hint="Give a shorter --label-delay, or raise retention.remember in the catalogue.",
        )


class EntityPass:
    """Applies all transactions of some keys of one entity, in log order, day after day.

    Args:
        plan: of the catalogue.
        number: which of its entities; those before it have been passed.
        secret: 16 bytes that key hash tables; no result depends on it.
        label_delay_seconds: when the answers of transactions become known.

    Raises:
        DataError: labels come when their transactions are no longer remembered. What is remembered depends
            on all rows then, so no process can do this with some of them.
    """

    def __init__(self, plan: FeaturePlan, number: int, secret: bytes, label_delay_seconds: int) -> None:
        check_label_delay(plan, label_delay_seconds)
        self._history = History(plan.only(number), secret=secret)
        self._feedback = DelayedLabels(label_delay_seconds)

    def day(self, day: int, transactions: Transactions, known: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply one day, days in ascending order; returns float32[transactions, features].

        Args:
            day: day number; all transactions are of this day.
            transactions: in log order.
            known: float32[transactions, features], filled for the entities before this one.

        Raises:
            DataError: an id is there twice, so these are no clean days of one run.
        """
        self._feedback.add(transactions)
        labels = self._feedback.due((day + 1) * SECONDS_PER_DAY)
        is_label = merge_by_time(transactions.event_time_seconds, labels.arrival_time_seconds)
        applied = self._history.apply(transactions, labels, is_label, known)
        if applied.status.any():
            raise DataError(
                "A transaction is there twice in the clean days.", hint="Clean all files again, in one run."
            )
        return applied.matrix
