"""Frauds of one customer or terminal are a series, and count once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.models.fraud_series import (
    APART_SECONDS,
    NO_SERIES,
    SERIES_SECONDS,
    fraud_series,
    series_means,
)

LATER = 1_000 * SECONDS_PER_DAY
Fraud = tuple[int, int, int]  # day, customer, terminal


def series_of(*frauds: Fraud, before: int = LATER) -> list[int]:
    rows = np.array(frauds, np.int64).reshape(-1, 3)
    found: list[int] = fraud_series(rows[:, 1:], rows[:, 0] * SECONDS_PER_DAY, before).tolist()
    return found


def test_frauds_that_share_nothing_are_a_series_each() -> None:
    assert series_of((0, 1, 1), (0, 2, 2), (9, 3, 3)) == [0, 1, 2]
    assert series_of() == []


def test_frauds_that_share_an_entity_are_one_series() -> None:
    assert series_of((0, 1, 1), (1, 1, 2), (2, 3, 2), (2, 4, 4)) == [0, 0, 0, 1]


def test_series_are_numbered_by_time() -> None:
    assert series_of((5, 1, 1), (0, 2, 2), (5, 1, 3), (4, 2, 4)) == [1, 0, 1, 0]


def test_what_comes_after_a_week_is_no_news_until_much_later() -> None:
    days = (0, 6, 7, 34, 35)
    assert series_of(*((day, 1, day) for day in days)) == [0, 0, NO_SERIES, NO_SERIES, 1]


def test_a_fraud_of_two_series_counts_in_none() -> None:
    assert series_of((0, 1, 1), (0, 2, 2), (1, 1, 2), (2, 3, 3)) == [0, 1, NO_SERIES, 2]


def test_a_fraud_that_does_not_count_takes_no_entity() -> None:
    assert series_of((0, 1, 1), (8, 1, 5), (9, 2, 5)) == [0, NO_SERIES, 1]


def test_a_series_counts_when_it_is_over() -> None:
    frauds = (0, 1, 1), (3, 2, 2), (6, 1, 3)
    days = [series_of(*frauds, before=day * SECONDS_PER_DAY) for day in (6, 7, 10)]
    assert days == [[NO_SERIES] * 3, [0, NO_SERIES, 0], [0, 1, 0]]


def test_the_mean_of_a_series_is_one_value() -> None:
    series = np.array([0, 1, NO_SERIES, 0, 1, 1])
    values = np.array([1.0, 0.0, -1.0, 0.0, 1.0, -1.0])
    assert series_means(values, series).tolist() == [0.5, 0.0]
    assert series_means(values[:0], series[:0]).tolist() == []


FRAUDS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 5), st.integers(0, 5)), max_size=30)


@pytest.mark.law
@given(FRAUDS)
def test_different_series_share_no_entity(frauds: list[Fraud]) -> None:
    series = series_of(*frauds)
    began = {number: min(day for (day, *_), s in zip(frauds, series, strict=True) if s == number)
             for number in set(series)}  # fmt: skip
    for (a, in_a), (b, in_b) in itertools.combinations(zip(frauds, series, strict=True), 2):
        if NO_SERIES in (in_a, in_b) or not (a[1] == b[1] or a[2] == b[2]):
            continue
        apart = abs(began[in_a] - began[in_b]) * SECONDS_PER_DAY
        assert in_a == in_b or apart >= APART_SECONDS - SERIES_SECONDS


@pytest.mark.law
@given(FRAUDS, st.integers(0, 90))
def test_a_later_look_only_adds_series(frauds: list[Fraud], day: int) -> None:
    rows = np.array(sorted(frauds), np.int64).reshape(-1, 3)
    values = np.random.default_rng(1).normal(size=len(rows))
    seconds = rows[:, 0] * SECONDS_PER_DAY
    early, late = (
        series_means(values[seen], fraud_series(rows[seen, 1:], seconds[seen], before)).tolist()
        for seen, before in ((rows[:, 0] <= day, day * SECONDS_PER_DAY), (slice(None), LATER))
    )
    assert late[: len(early)] == early
