"""Clean days → features: history folded in log order, labels arriving when they would in life."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import Labels, Transactions
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine
from zaslon.features.history import merge_by_time
from zaslon.intake import read_clean_day
from zaslon.labels.feedback import DelayedLabels

# Events folded at once: bounds memory to some ten megabytes whatever the length of a day.
PART_EVENTS = 1 << 16

Day = tuple[int, Path]


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


def featurise(
    engine: Engine, days: Sequence[Day], catalogue: Catalogue, feedback: DelayedLabels
) -> Iterator[FeaturisedPart]:
    """Fold clean days, oldest first, and yield their features part by part.

    `feedback` carries the labels on their way from one call to the next.
    """
    for day, path in days:
        transactions = read_clean_day(path, catalogue)
        feedback.add(transactions)
        labels = feedback.due((day + 1) * SECONDS_PER_DAY)
        for part, part_labels, is_label in _parts(transactions, labels):
            applied = engine.apply(part, part_labels, is_label)
            accepted = applied.status == 0
            kept = part if accepted.all() else part.take(accepted)
            yield FeaturisedPart(day, kept, applied.matrix)


def _parts(
    transactions: Transactions, labels: Labels
) -> Iterator[tuple[Transactions, Labels, NDArray[np.bool_]]]:
    """One day's events in log order, cut into parts."""
    is_label = merge_by_time(transactions.event_time_seconds, labels.arrival_time_seconds)
    label_ends = np.concatenate([[0], np.cumsum(is_label)])
    for begin in range(0, len(is_label), PART_EVENTS):
        end = min(begin + PART_EVENTS, len(is_label))
        label_part = slice(int(label_ends[begin]), int(label_ends[end]))
        part = slice(begin - label_part.start, end - label_part.stop)
        yield transactions.take(part), labels.take(label_part), is_label[begin:end]
