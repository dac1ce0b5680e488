"""What the laws are too small for: busy keys, big batches, long histories, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from tests.feature_logs import (
    DAY,
    FIVE,
    PLANS,
    SECRET,
    START,
    Answer,
    Event,
    as_labels,
    as_transactions,
    by_kernel,
    by_oracle,
)
from tests.oracle import Oracle, Payment, Verdict

from zaslon.domain.catalogue import load_catalogue, parse_catalogue
from zaslon.domain.events import Kind, Labels, RecordBatch, Transactions
from zaslon.features.history import History, merge_by_time
from zaslon.features.plan import plan_features
from zaslon.intake import clean_batch


def same(found: list[Answer], expected: list[Answer]) -> bool:
    return [a.status for a in found] == [a.status for a in expected] and all(
        np.allclose(a.features, b.features, rtol=1e-6, atol=0, equal_nan=True)
        for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_key_with_many_events_equals_the_oracle(seed: int) -> None:
    random = np.random.default_rng(seed)
    plan = PLANS["short"]
    log: list[Event] = []
    now = START
    for i in range(400):
        now += int(random.integers(0, 2)) * int(random.random() < 0.3)
        late = int(random.integers(0, 19)) if random.random() < 0.2 else 0
        keys = {"card": int(random.random() < 0.05), "shop": int(random.integers(0, 4))}
        log.append(Payment(i, now - late, int(random.integers(0, 5_000)), keys, {}, int(random.integers(8))))
        if random.random() < 0.5:
            log.append(Verdict(int(random.integers(0, i + 5)), bool(random.random() < 0.4), now))
    expected = by_oracle(plan, log, 20)
    history = History(plan, secret=SECRET, waiting_labels_max=20, pool_entries_min=2)
    found = []
    for begin in range(0, len(log), 61):
        found += by_kernel(history, log[begin : begin + 61])
        saved = {name: array.copy() for name, array in history.save().items()}
        history = History.restore(plan, saved, secret=SECRET, waiting_labels_max=20, pool_entries_min=2)
    assert max(a.features[plan.column_of["card_count_90s"]] for a in found if a.features) > 250
    assert same(found, expected)


def test_counterparties_beyond_the_first_hash_set_count() -> None:
    plan = PLANS["short"]
    busy = [Payment(i, START, 5, {"card": i, "shop": 0}) for i in range(6_000)]
    answers = by_kernel(History(plan, secret=SECRET), busy)
    counted = [a.features[plan.column_of["shop_distinct_card_90s"]] for a in answers]
    assert counted == list(range(6_000))


def mission_like(customers: int, days: int, seed: int = 1) -> list[tuple[Transactions, Labels]]:
    """Days like the mission's: 47 payments a customer a month, 1,000 uneven terminals, 6 % fraud."""
    random = np.random.default_rng(seed)
    weights = 1 / (np.arange(1_000) + 4.0)  # the busiest terminal has 4.5 %
    per_day = customers * 47 // 30
    made: list[tuple[Transactions, Labels]] = []
    catalogue = load_catalogue()
    empty = as_transactions(catalogue, [])
    for day in range(days):
        ids = np.arange(day * per_day, (day + 1) * per_day)
        moment = np.sort(START + day * DAY + random.integers(0, DAY, per_day))
        keys = {
            "customer": random.integers(0, customers, per_day),
            "terminal": random.choice(1_000, per_day, p=weights / weights.sum()),
        }
        fraud = random.random(per_day) < 0.06
        digest = random.integers(0, 2**64, (per_day, 2), dtype=np.uint64)
        none = np.full(per_day, -1, np.int8)
        transactions = Transactions(
            ids, moment, random.integers(1, 20_000, per_day), keys, empty.numbers,
            np.zeros(per_day, np.uint32), digest, none, none,
        )  # fmt: skip
        made.append((transactions, Labels(ids, fraud, moment + 7 * DAY)))
    return made


def test_a_large_batch_is_applied_in_parts_with_the_same_bytes() -> None:
    transactions, labels = mission_like(50_000, 1)[0]
    first = labels.take(slice(0, 30_000))
    early = Labels(first.transaction_id, first.is_fraud, np.sort(first.arrival_time_seconds - 7 * DAY))
    is_label = merge_by_time(transactions.event_time_seconds, early.arrival_time_seconds)
    assert len(is_label) > 1 << 16
    plan = plan_features(load_catalogue())
    whole = History(plan, secret=SECRET).apply(transactions, early, is_label)
    history, parts = History(plan, secret=SECRET), []
    ends = np.concatenate([[0], np.cumsum(is_label)])
    for begin in range(0, len(is_label), 9_999):
        end = min(begin + 9_999, len(is_label))
        of_labels = slice(int(ends[begin]), int(ends[end]))
        of_transactions = slice(begin - of_labels.start, end - of_labels.stop)
        parts.append(
            history.apply(transactions.take(of_transactions), early.take(of_labels), is_label[begin:end])
        )
    assert np.concatenate([p.matrix for p in parts]).tobytes() == whole.matrix.tobytes()
    assert np.concatenate([p.label_status for p in parts]).tobytes() == whole.label_status.tobytes()


def applied_by_day(history: History, days: list[tuple[Transactions, Labels]]) -> Iterator[int]:
    """Apply day after day, every label seven days after its payment; yields each day that is done."""
    for day, (transactions, _) in enumerate(days):
        labels = days[day - 7][1] if day >= 7 else as_labels([])
        is_label = merge_by_time(transactions.event_time_seconds, labels.arrival_time_seconds)
        status = history.apply(transactions, labels, is_label).status
        assert not status.any()
        yield day


def test_a_remembered_event_costs_at_most_64_bytes() -> None:
    """With the default catalogue, once its horizons are full: 45 days of ids, 37 days of windows."""
    history, days = History(plan_features(load_catalogue()), secret=SECRET), mission_like(4_000, 50)
    for day in applied_by_day(history, days):
        assert day < 45 or history.bytes_used() <= 64 * len(history)
    assert len(history) >= 45 * len(days[0][0])
    assert history.bytes_used() >= 40 * len(history), "not all is counted"


def test_only_digests_cost_more_while_history_fills() -> None:
    """They are kept for the 7 days of `late_within`; all else stays within its share of the 64 bytes.

    The fixed cost of 20,000 customers and of empty room is shared by 250,000 events and more.
    """
    history, days = History(plan_features(load_catalogue()), secret=SECRET), mission_like(20_000, 16)
    for day in applied_by_day(history, days):
        digests = history.deduplication.arrays.digest.nbytes
        assert digests <= 1.05 * 16 * min(day + 1, 8) * 31_334
        if day >= 8:
            assert history.bytes_used() - digests <= 61 * len(history)
    assert len(history) >= 16 * 31_000, "nothing may be forgotten yet"


def test_keys_that_fall_silent_give_their_memory_back() -> None:
    plan = PLANS["short"]
    history = History(plan, secret=SECRET, pool_entries_min=2)
    for round_number in range(300):
        begin = START + 200 * round_number
        keys = [10 * round_number + i for i in range(10)]
        by_kernel(
            history,
            [Payment(k * 10 + j, begin + j, 7, {"card": k, "shop": 1}) for k in keys for j in range(10)],
        )
    entries = sum(len(pool.time) for entity in history.entities for pool in entity.pools)
    assert entries < 3_000, "30,000 payments were made and 100 are within any window"


def test_five_cleaned_text_entities_equal_the_oracle() -> None:
    catalogue = parse_catalogue(FIVE)
    plan, oracle = PLANS["five"], Oracle(catalogue)
    names = ("customer", "terminal", "card", "device", "address")
    random = np.random.default_rng(3)
    history, expected, records = History(plan, secret=SECRET), [], []
    for i in range(120):
        moment = START + 600 * i
        words = {name: f"{name[:2]}-{int(random.integers(0, 3))}é" for name in names}
        amount, basket = int(random.integers(1, 90)), int(random.integers(1, 6))
        fields = {f"{name}_ref": word for name, word in words.items()}
        records.append(json.dumps({"id": i, "at": moment, "paid": amount, **fields, "basket": basket}))
        keys = {name: hash(word) for name, word in words.items()}
        reason, values = oracle.pay(Payment(i, moment, amount, keys, {"basket": float(basket)}))
        assert reason == 0
        expected.append([values[name] for name in plan.names])
    batch = RecordBatch.of(
        [r.encode() for r in records], [Kind.TRANSACTION_JSON] * len(records), [START + DAY] * len(records)
    )
    cleaned = clean_batch(batch, catalogue, b"secret")
    assert not len(cleaned.rejected)
    found = history.apply(cleaned.transactions, cleaned.labels, cleaned.is_label)
    np.testing.assert_allclose(found.matrix, np.array(expected), rtol=1e-6, equal_nan=True)


def digests_kept(history: History) -> int:
    return len(history.save()["remembered/digest"])


def test_digests_are_kept_only_while_a_repeat_is_not_too_late() -> None:
    """`short` takes what is less than 20 seconds late, and remembers 100 seconds."""
    history = History(PLANS["short"], secret=SECRET, pool_entries_min=2)
    for begin in range(0, 300, 7):
        moments = range(START + begin, START + begin + 7)
        by_kernel(history, [Payment(t, t, 5, {"card": 1, "shop": 1}) for t in moments])
        assert digests_kept(history) == min(begin + 7, 20)
    assert 100 <= len(history) <= 101
    assert len(history.deduplication.arrays.digest) < 30


def test_a_label_from_the_future_does_not_make_digests_stay() -> None:
    history = History(PLANS["short"], secret=SECRET, pool_entries_min=2)
    for second in range(200):
        payment = Payment(second, START + second, 5, {"card": 1, "shop": 1})
        waits, waits_in_vain = (Verdict(i, True, START + 10_000) for i in (second, 1_000 + second))
        by_kernel(history, [waits, waits_in_vain, payment])
    assert digests_kept(history) <= 3 * 20


def frauds_seen(history: History, log: Sequence[Event], batch_events: int) -> list[float]:
    """`card_frauds_90s` of every accepted payment, in batches of so many events."""
    column = history.plan.names.index("card_frauds_90s")
    answers = [
        answer
        for begin in range(0, len(log), batch_events)
        for answer in by_kernel(history, log[begin : begin + batch_events])
    ]
    return [answer.features[column] for answer in answers if answer.features]


@pytest.mark.parametrize("batch_events", [1, 2, 3])
@pytest.mark.parametrize("order", ["LAB", "ALB"])
def test_a_live_label_counts_for_the_next_payment(order: str, batch_events: int) -> None:
    """Its arrival is years after the payments: an old file is played back, or clocks differ."""
    events: dict[str, Event] = {
        "L": Verdict(1, True, START + 10**8, is_live=True),
        "A": Payment(1, START, 5, {"card": 1, "shop": 1}),
        "B": Payment(2, START + 9, 5, {"card": 1, "shop": 1}),
    }
    history = History(PLANS["short"], secret=SECRET, pool_entries_min=2)
    assert frauds_seen(history, [events[name] for name in order], batch_events) == [0, 1]


def test_a_live_label_waits_over_a_gap_in_the_log() -> None:
    later = START + 10**6
    log: list[Event] = [
        Payment(1, START, 5, {"card": 1, "shop": 1}),
        Verdict(2, True, later, is_live=True),
        Payment(2, later, 5, {"card": 1, "shop": 1}),
        Payment(3, later + 1, 5, {"card": 1, "shop": 1}),
    ]
    assert frauds_seen(History(PLANS["short"], secret=SECRET), log, 2) == [0, 0, 1]


@pytest.mark.parametrize("arrival", [0, 10**8])
def test_no_label_keeps_rows_behind_it(arrival: int) -> None:
    """One that never finds its payment is changed now and then, or arrived years ahead of the log."""
    history = History(PLANS["short"], secret=SECRET, pool_entries_min=2)
    for second in range(1_000):
        now = START + second
        log: list[Event] = [Payment(second, now, 5, {"card": 1, "shop": 1})]
        if second % 30 == 0:
            log.append(Verdict(10**6, second % 60 == 0, now + arrival, is_live=True))
        by_kernel(history, log)
    assert len(history) <= 103
