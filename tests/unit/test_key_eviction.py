"""Keys that nothing can ask for any more give up their slots; no answer changes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.feature_logs import PLANS, SECRET, START, Event, by_kernel, by_oracle
from tests.oracle import Payment, Verdict

from zaslon.features.deduplication import STEP
from zaslon.features.entity_keys import EMPTY
from zaslon.features.history import History

PLAN = PLANS["brief"]
HORIZON = 15  # `remember` of the catalogue `brief`, which is longer than windows and lateness together


def passing_keys(seconds: int, per_second: int = 3) -> list[Event]:
    """New cards every second, each of which pays twice, and one that pays throughout; new shops too."""
    random = np.random.default_rng(5)
    log: list[Event] = []
    for second in range(seconds):
        now = START + second
        for i in range(per_second):
            number = second * per_second + i
            cards = (number, max(number - int(random.integers(1, 20)), 0), -1)
            for card in cards:
                keys = {"card": card * 1_000_003, "shop": (number // 2 + int(random.integers(0, 3))) * 77}
                late = int(random.integers(0, 3)) * int(random.random() < 0.2)
                log.append(Payment(len(log), now - late, int(random.integers(1, 4_000)), keys))
            if random.random() < 0.5:
                about = max(len(log) - int(random.integers(-2, 60)), 0)
                log.append(Verdict(about, bool(random.random() < 0.5), now + int(random.integers(-3, 9))))
    return log


def slots_of(history: History) -> list[int]:
    return [len(entity.keys) for entity in history.entities]


def test_a_hundred_times_more_keys_than_are_alive_equal_the_oracle() -> None:
    log = passing_keys(200, per_second=1)
    history = History(PLAN, secret=SECRET, pool_entries_min=2)
    found = [
        answer for begin in range(0, len(log), 37) for answer in by_kernel(history, log[begin : begin + 37])
    ]
    assert repr(found) == repr(by_oracle(PLAN, log, 100_000))
    assert max(slots_of(history)) < 60, "200 cards and 100 shops were seen, 15 seconds of them are alive"


def test_memory_is_flat_once_the_horizon_is_full() -> None:
    """6,000 cards, of which 60 are alive at a time: what 20 horizons take, 130 take too."""
    history, log, sizes = History(PLAN, secret=SECRET, pool_entries_min=2), passing_keys(2_000), []
    for begin in range(0, len(log), 500):
        by_kernel(history, log[begin : begin + 500])
        sizes.append((slots_of(history), history.bytes_used()))
    slots, used = sizes[len(sizes) // 7]
    assert sizes[-1][0] == pytest.approx(slots, abs=8)
    assert sizes[-1][1] <= 1.1 * used
    assert max(slots_of(history)) < 200


def test_a_slot_is_kept_to_the_second_that_its_key_is_needed() -> None:
    """Slot 0 is the first that a new key looks at."""
    for after, slots in ((HORIZON - 1, 2), (HORIZON, 1)):
        history = History(PLAN, secret=SECRET)
        by_kernel(history, [Payment(1, START, 5, {"card": 1, "shop": 1})])
        by_kernel(history, [Payment(2, START + after, 5, {"card": 2, "shop": 2})])
        assert slots_of(history) == [slots, slots]


def test_a_label_keeps_its_shop_from_its_arrival_on() -> None:
    """The card has no features of labels, so its slot is free; the shop's label is still in a window."""
    history = History(PLAN, secret=SECRET)
    events: list[Event] = [Payment(1, START, 5, {"card": 1, "shop": 1}), Verdict(1, True, START + 9)]
    by_kernel(history, events)
    by_kernel(history, [Payment(2, START + HORIZON, 5, {"card": 2, "shop": 2})])
    assert slots_of(history) == [1, 2]
    (answer,) = by_kernel(history, [Payment(3, START + HORIZON, 5, {"card": 3, "shop": 1})])
    assert answer.features[PLAN.column_of["shop_known_10s"]] == 1


def test_a_key_that_comes_back_begins_anew() -> None:
    history = History(PLAN, secret=SECRET)
    by_kernel(history, [Payment(1, START, 5, {"card": 1, "shop": 1})])
    back, other = START + HORIZON, START + HORIZON + 1
    log = [Payment(i, t, 5, {"card": c, "shop": c}) for i, (t, c) in enumerate([(back, 2), (other, 1)], 2)]
    answers = by_kernel(history, log)
    assert [a.features[PLAN.column_of["card_count_10s"]] for a in answers] == [0, 0]
    assert slots_of(history) == [2, 2]
    assert history.entities[0].keys.arrays.key[:2].tolist() == [2, 1]


def test_keys_are_found_after_many_deletions() -> None:
    """Every key that has a slot, and no other, is named by the index: no search ends early."""
    history = History(PLAN, secret=SECRET)
    by_kernel(history, passing_keys(800))
    for entity in history.entities:
        keys = entity.keys.arrays
        named = keys.places[keys.places != EMPTY]
        assert sorted(named.tolist()) == list(range(len(entity.keys)))
        taken = keys.key[: len(entity.keys)].copy()
        before, steps = len(entity.keys), np.zeros(len(taken), STEP)
        slots = np.zeros((len(taken), 1), np.uint32)
        steps["row"], steps["transaction"] = np.arange(len(taken)), np.arange(len(taken))
        entity.keys.find(taken, steps, np.zeros(len(taken), np.uint32), slots, 0)
        assert len(entity.keys) == before
        assert slots[:, 0].tolist() == list(range(before))
