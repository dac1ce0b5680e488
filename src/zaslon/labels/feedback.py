"""Answers in a file become label events that arrive after a delay, as they would in life."""

from __future__ import annotations

import numpy as np

from zaslon.domain.events import Labels, Transactions, joined_id_text
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX


class DelayedLabels:
    """Labels on their way: `add` transactions with answers, `due` gives what has arrived.

    Args:
        delay_seconds: from the transaction to the arrival of its label, 0 or more.
    """

    def __init__(self, delay_seconds: int) -> None:
        self._delay_seconds = delay_seconds
        self._waiting: list[Labels] = []

    def __len__(self) -> int:
        """How many labels are still on their way."""
        return sum(len(labels) for labels in self._waiting)

    def add(self, transactions: Transactions) -> None:
        """Put the labels of transactions that carry an answer on their way."""
        known = transactions.is_fraud >= 0
        if not known.any():
            return
        self._waiting.append(
            Labels(
                transactions.transaction_id[known],
                transactions.is_fraud[known] == 1,
                np.minimum(
                    transactions.event_time_seconds[known] + self._delay_seconds, EVENT_TIME_SECONDS_MAX
                ),
                None if transactions.id_text is None else transactions.id_text[known],
            )
        )

    def due(self, before_seconds: int) -> Labels:
        """Labels that arrive before a moment, in order of arrival; each is given once."""
        taken, kept = [], []
        for labels in self._waiting:
            arrived = labels.arrival_time_seconds < before_seconds
            if arrived.any():
                taken.append(labels.take(arrived))
            if not arrived.all():
                kept.append(labels.take(~arrived))
        self._waiting = kept
        return _in_order(taken)


def _in_order(parts: list[Labels]) -> Labels:
    if not parts:
        return Labels(np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0, np.int64))
    ids = np.concatenate([p.transaction_id for p in parts])
    arrivals = np.concatenate([p.arrival_time_seconds for p in parts])
    is_fraud, id_text = np.concatenate([p.is_fraud for p in parts]), joined_id_text(parts)
    # As days are ordered: by what people know ids by, so that no key decides.
    order = np.lexsort((ids if id_text is None else id_text, arrivals))
    return Labels(ids, is_fraud, arrivals, id_text).take(order)
