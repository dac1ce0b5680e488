"""The kernel is the oracle: on any log, in any batches, through any snapshot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.effort import IS_THOROUGH
from tests.feature_logs import PLANS, SECRET, Answer, Event, by_kernel, by_oracle, logs

from zaslon.features.history import History
from zaslon.features.plan import FeaturePlan

EXAMPLES = 5_000 if IS_THOROUGH else 300

# One law per catalogue; together they have the number of examples.
_SHARES = {"short": 0.4, "mission": 0.2, "five": 0.1, "brief": 0.3}


def assert_same(plan: FeaturePlan, found: Sequence[Answer], expected: Sequence[Answer]) -> None:
    """Bit for bit, but for the standard deviation and what is derived from it.

    The kernel takes its root from two 64-bit words, which rounds once more than the oracle's
    whole integer where their difference needs more than 64 bits: the last bit of float32 may differ.
    """
    assert [a.status for a in found] == [a.status for a in expected]
    for event, (one, other) in enumerate(zip(found, expected, strict=True)):
        for name, value, truth in zip(plan.names, one.features, other.features, strict=False):
            same = value == truth or (math.isnan(value) and math.isnan(truth))
            if not same and "_std_" in name:
                same = abs(value - truth) <= np.spacing(np.float32(abs(truth)))
            assert same, f"event {event}: {name} is {value}, the oracle says {truth}"
        assert len(one.features) == len(other.features)


def fold_in_parts(
    plan: FeaturePlan, log: Sequence[Event], cuts: Sequence[tuple[int, bool]], waiting_labels_max: int
) -> list[Answer]:
    """Apply in batches that end at `cuts`; where a cut asks for it, through a snapshot."""
    history = History(plan, secret=SECRET, waiting_labels_max=waiting_labels_max, pool_entries_min=2)
    answers: list[Answer] = []
    begin = 0
    for end, through_snapshot in [*sorted(cuts), (len(log), False)]:
        answers += by_kernel(history, log[begin:end])
        begin = max(begin, end)
        if through_snapshot:
            history = History.restore(
                plan, copied(history), secret=SECRET,
                waiting_labels_max=waiting_labels_max, pool_entries_min=2,
            )  # fmt: skip
    return answers


@pytest.mark.parametrize("name", list(PLANS))
def test_the_kernel_equals_the_oracle_on_any_log_in_any_batches(name: str) -> None:
    plan = PLANS[name]

    @settings(max_examples=max(1, int(EXAMPLES * _SHARES[name])))
    @given(
        log=logs(name),
        cuts=st.lists(st.tuples(st.integers(0, 24), st.booleans()), max_size=3),
        waiting_labels_max=st.sampled_from([1, 2, 100]),
    )
    def law(log: list[Event], cuts: list[tuple[int, bool]], waiting_labels_max: int) -> None:
        found = fold_in_parts(plan, log, cuts, waiting_labels_max)
        assert_same(plan, found, by_oracle(plan, log, waiting_labels_max))

    law()


SECRETS = st.binary(min_size=16, max_size=16)


@settings(max_examples=EXAMPLES // 4)
@given(log=logs("brief", events_max=60), one=SECRETS, other=SECRETS, cut=st.integers(0, 60))
def test_answers_and_state_depend_neither_on_secrets_nor_on_batches(
    log: list[Event], one: bytes, other: bytes, cut: int
) -> None:
    plan = PLANS["brief"]
    whole, parted = History(plan, secret=one), History(plan, secret=other)
    expected = by_kernel(whole, log)
    found = by_kernel(parted, log[:cut])
    parted = History.restore(plan, copied(parted), secret=one)
    found += by_kernel(parted, log[cut:])
    assert repr(found) == repr(expected)
    state = copied(parted)
    assert [n for n, array in whole.save().items() if array.tobytes() != state[n].tobytes()] == []


def copied(history: History) -> dict[str, NDArray[np.generic]]:
    return {name: array.copy() for name, array in history.save().items()}
