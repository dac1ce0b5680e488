"""Entity after entity, in any partitions: the features of one process that sees every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.effort import IS_THOROUGH
from tests.feature_logs import PLANS, SECRET, Event, as_transactions, logs
from tests.oracle import Payment

from zaslon.domain.errors import DataError
from zaslon.domain.events import NO_KEY, Transactions
from zaslon.domain.time import SECONDS_PER_DAY, parse_duration_seconds
from zaslon.engine.entity_pass import EntityPass
from zaslon.features.history import History, merge_by_time
from zaslon.features.plan import FeaturePlan
from zaslon.labels.feedback import DelayedLabels

pytestmark = pytest.mark.law

EXAMPLES = 1_500 if IS_THOROUGH else 150


def clean_days(plan: FeaturePlan, log: Sequence[Event], answers: Sequence[int]) -> Transactions:
    """The payments of a log as clean days have them: in order, no id twice, with answers."""
    payments = sorted({e.id: e for e in log if isinstance(e, Payment)}.values(), key=lambda p: (p.time, p.id))
    transactions = as_transactions(plan.catalogue, payments)
    given = np.resize(np.array(answers, np.int8), len(payments))
    return replace(transactions, is_fraud=given)


def at_once(plan: FeaturePlan, transactions: Transactions, delay_seconds: int) -> NDArray[np.float32]:
    """The features of one process."""
    history, feedback, parts = History(plan, secret=SECRET), DelayedLabels(delay_seconds), []
    for _, rows in by_day(transactions):
        day = transactions.take(rows)
        feedback.add(day)
        labels = feedback.due((int(day.event_time_seconds[0]) // SECONDS_PER_DAY + 1) * SECONDS_PER_DAY)
        is_label = merge_by_time(day.event_time_seconds, labels.arrival_time_seconds)
        parts.append(history.apply(day, labels, is_label).matrix)
    return np.concatenate(parts)


def by_day(transactions: Transactions) -> list[tuple[int, NDArray[np.int64]]]:
    """Day numbers and the rows of each."""
    day = transactions.event_time_seconds // SECONDS_PER_DAY
    return [(int(number), np.flatnonzero(day == number)) for number in np.unique(day)]


def entity_after_entity(
    plan: FeaturePlan, transactions: Transactions, delay_seconds: int, partitions: int
) -> NDArray[np.float32]:
    """The same, where a process sees the transactions of some keys only."""
    matrix = np.zeros((len(transactions), len(plan.names)), np.float32)
    for number, entity in enumerate(plan.catalogue.entities):
        keys = transactions.entity_keys[entity]
        partition = np.where(keys == NO_KEY, transactions.transaction_id, keys) % partitions
        filled = np.empty_like(matrix)
        for some in range(partitions):
            mine = np.flatnonzero(partition == some)
            run = EntityPass(plan, number, SECRET, delay_seconds)
            for day, rows in by_day(transactions.take(mine)):
                filled[mine[rows]] = run.day(day, transactions.take(mine[rows]), matrix[mine[rows]])
        matrix = filled
    return matrix


@pytest.mark.parametrize("name", list(PLANS))
def test_passes_over_entities_equal_one_process(name: str) -> None:
    plan = PLANS[name]
    remember = parse_duration_seconds(plan.catalogue.retention.remember)

    @settings(max_examples=EXAMPLES)
    @given(
        log=logs(name, events_max=60),
        answers=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=7),
        delay=st.integers(0, remember - 1),
        partitions=st.integers(1, 4),
    )
    def law(log: list[Event], answers: list[int], delay: int, partitions: int) -> None:
        transactions = clean_days(plan, log, answers)
        if not len(transactions):
            return
        whole = at_once(plan, transactions, delay)
        parts = entity_after_entity(plan, transactions, delay, partitions)
        assert parts.tobytes() == whole.tobytes()

    law()


def test_labels_later_than_what_is_remembered_are_refused() -> None:
    plan = PLANS["brief"]
    with pytest.raises(DataError, match=r"later than what is remembered \(15s\)"):
        EntityPass(plan, 0, SECRET, 15)
    EntityPass(plan, 0, SECRET, 14)


def test_clean_days_with_an_id_twice_are_refused() -> None:
    plan = PLANS["brief"]
    payment = Payment(1, 18_000 * SECONDS_PER_DAY, 100, {"card": 1, "shop": 2}, {}, 0)
    twice = as_transactions(plan.catalogue, [payment, payment])
    run = EntityPass(plan, 0, SECRET, 5)
    with pytest.raises(DataError, match="twice"):
        run.day(18_000, twice, np.zeros((2, len(plan.names)), np.float32))
