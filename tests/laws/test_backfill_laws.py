"""The state of the days that count decides as the state of all days does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import IS_THOROUGH
from tests.feature_logs import PLANS, SECRET, START, Event, as_labels, as_transactions, logs
from tests.laws.test_entity_pass_laws import by_day, clean_days
from tests.oracle import Payment, Verdict

from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.events import Transactions
from zaslon.domain.time import SECONDS_PER_DAY, parse_duration_seconds
from zaslon.features.history import History, merge_by_time
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.labels.feedback import DelayedLabels

pytestmark = pytest.mark.law

EXAMPLES = 1_500 if IS_THOROUGH else 150


def state_after(plan: FeaturePlan, transactions: Transactions, delay_seconds: int) -> History:
    """What clean days leave in memory."""
    history, feedback = History(plan, secret=SECRET), DelayedLabels(delay_seconds)
    for day, rows in by_day(transactions):
        part = transactions.take(rows)
        feedback.add(part)
        labels = feedback.due((day + 1) * SECONDS_PER_DAY)
        history.apply(part, labels, merge_by_time(part.event_time_seconds, labels.arrival_time_seconds))
    return history


def decided(history: History, log: Sequence[Event]) -> tuple[bytes, bytes, bytes]:
    """What becomes of every event, and every feature, bit for bit."""
    payments = [event for event in log if isinstance(event, Payment)]
    verdicts = [event for event in log if isinstance(event, Verdict)]
    is_label = np.array([isinstance(event, Verdict) for event in log], np.bool_)
    transactions = as_transactions(history.plan.catalogue, payments)
    applied = history.apply(transactions, as_labels(verdicts), is_label)
    return applied.status.tobytes(), applied.label_status.tobytes(), applied.matrix.tobytes()


def after(past: Sequence[Payment], log: Sequence[Event], newest: int) -> list[Event]:
    """A log that follows: with ids of its own, times from the newest on, and repeats of and verdicts on the past."""
    shift, first_id = newest - START, max(payment.id for payment in past) + 1
    later: list[Event] = []
    for number, event in enumerate(log):
        if isinstance(event, Payment):
            later.append(replace(event, id=event.id + first_id, time=max(event.time + shift, 0)))
        else:
            of_past = past[-1 - event.id % len(past)].id
            of_either = of_past if number % 2 else event.id + first_id
            later.append(replace(event, id=of_either, arrival=max(event.arrival + shift, 0)))
        if number % 3 == 0:
            later.append(past[-1 - number % len(past)])
    return later


@pytest.mark.parametrize("name", list(PLANS))
def test_older_days_decide_nothing(name: str) -> None:
    plan = PLANS[name]
    remember = parse_duration_seconds(plan.catalogue.retention.remember)

    @settings(max_examples=EXAMPLES)
    @given(
        log=logs(name, events_max=60),
        following=logs(name, events_max=20),
        answers=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=7),
        delay=st.integers(0, remember - 1),
    )
    def law(log: list[Event], following: list[Event], answers: list[int], delay: int) -> None:
        payments = sorted(
            {e.id: e for e in log if isinstance(e, Payment)}.values(), key=lambda p: (p.time, p.id)
        )
        if not payments:
            return
        transactions = clean_days(plan, log, answers)
        newest = int(transactions.event_time_seconds[-1])
        counts = transactions.event_time_seconds >= newest - plan.decisive_seconds(delay)
        later = after(payments, following, newest)
        whole = decided(state_after(plan, transactions, delay), later)
        assert decided(state_after(plan, transactions.take(np.flatnonzero(counts)), delay), later) == whole

    law()


def test_chains_of_conditions_reach_further_back() -> None:
    assert PLANS["brief"].decisive_seconds(2) == 15 + 2  # its condition sees the amount only
    assert PLANS["short"].decisive_seconds(0) == 2 * 110  # its condition counts a card's events
    two = PLANS["five"].catalogue
    text = two.model_copy(update={"conditions": {**two.conditions, "odd_customer": "amount > 1"}})
    assert plan_features(text).decisive_seconds(0) == 2 * PLANS["five"].keep_seconds


CHAIN = """
name = "chain"
version = 1
fields = [
  {name = "id", role = "transaction_id"},
  {name = "at", role = "event_time", format = "epoch_seconds"},
  {name = "paid", role = "amount"},
  {name = "a", role = "entity", entity = "a"},
  {name = "b", role = "entity", entity = "b"},
  {name = "c", role = "entity", entity = "c"},
]
retention = {late_within = "1s", remember = "10s"}
prior = {rate = 0.1, strength = 1.0}
aggregates = [
  {entity = "a", windows = ["9s"], compute = ["count"]},
  {entity = "b", windows = ["9s"], compute = ["count"], where = "alone"},
  {entity = "c", windows = ["9s"], compute = ["count"], where = "in_a_row"},
]
[conditions]
alone = "a_count_9s = 0"
in_a_row = "b_count_alone_9s > 0"
"""


def test_a_condition_over_a_condition_needs_the_events_before_both() -> None:
    """What one event says about another is passed on twice, each time over nearly a window."""
    plan = plan_features(parse_catalogue(CHAIN))
    assert plan.decisive_seconds(0) == 3 * 10
    times = [0, 8, 16, 17]
    keys = [
        {"a": 1, "b": 9, "c": 9},
        {"a": 1, "b": 2, "c": 8},
        {"a": 3, "b": 2, "c": 3},
        {"a": 4, "b": 4, "c": 4},
    ]
    past = [Payment(n, START + t, 100, k) for n, (t, k) in enumerate(zip(times, keys, strict=True))]
    whole = state_after(plan, as_transactions(plan.catalogue, past), 0)
    part = state_after(plan, as_transactions(plan.catalogue, past[1:]), 0)
    following = [Payment(9, START + 24, 100, {"a": 5, "b": 5, "c": 3})]
    assert decided(whole, following) != decided(part, following)
