"""The split in time: which days a model is trained, validated and tested on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zaslon.domain.errors import DataError
from zaslon.domain.time import parse_day
from zaslon.models.time_split import SplitRules, TimeSplit

WEEKS = SplitRules(test_days=7, validation_days=7, delay_days=7)


def days(first: int, count: int, frauds: int = 9, good: int = 100) -> dict[int, tuple[int, int]]:
    return dict.fromkeys(range(first, first + count), (frauds, good))


def growing(frauds_target: int, days_max: int = 28) -> SplitRules:
    return SplitRules(7, 7, 7, frauds_target, days_max)


def lengths(split: TimeSplit) -> list[tuple[int, str]]:
    return [(len(p), p.decided_by) for p in (split.train, split.validation, split.test)]


def test_the_handbook_weeks_come_out_of_a_split() -> None:
    split = TimeSplit.of(days(parse_day("2018-07-25"), 35), WEEKS)
    assert str(split.train) == "2018-07-25 … 2018-07-31"
    assert str(split.validation) == "2018-08-08 … 2018-08-14"
    assert str(split.test) == "2018-08-22 … 2018-08-28"
    assert split.test.to_json_dict() == {
        "first": "2018-08-22", "last": "2018-08-28", "days": 7, "frauds": 63, "transactions": 763,
        "decided_by": "test_days", "length": "the fewest days wanted (ZASLON_TEST_DAYS)",
    }  # fmt: skip


def test_a_period_grows_until_it_has_the_wanted_frauds() -> None:
    split = TimeSplit.of(days(0, 100), growing(100))
    assert lengths(split) == [(62, "rest"), (12, "period_frauds_target"), (12, "period_frauds_target")]
    assert split.test.frauds == 108


def test_a_bound_in_days_ends_the_growth() -> None:
    split = TimeSplit.of(days(0, 200), growing(1_000, days_max=20))
    assert lengths(split) == [(146, "rest"), (20, "period_days_max"), (20, "period_days_max")]


def test_training_keeps_half_of_the_days_without_the_delays() -> None:
    split = TimeSplit.of(days(0, 64), growing(1_000))
    assert lengths(split) == [(25, "rest"), (7, "days"), (18, "days")], "64 - 14 = 50, half of them 25"


def test_few_days_are_not_shortened_further() -> None:
    assert lengths(TimeSplit.of(days(0, 29), growing(1_000))) == [(1, "rest"), (7, "days"), (7, "days")]


def test_the_last_frauds_are_left_for_training_and_validation() -> None:
    answers = days(0, 100, frauds=0)
    answers[5] = answers[70] = answers[80] = answers[99] = (1, 100)
    split = TimeSplit.of(answers, growing(3))
    assert [p.frauds for p in (split.train, split.validation, split.test)] == [1, 1, 2]


def test_a_bound_below_the_fewest_days_changes_nothing() -> None:
    split = TimeSplit.of(days(0, 100), growing(1_000, days_max=3))
    assert lengths(split) == [(72, "rest"), (7, "validation_days"), (7, "test_days")]


def test_the_test_period_does_not_grow_into_days_that_a_model_knows() -> None:
    known = replace(growing(1_000), new_after=88)
    assert lengths(TimeSplit.of(days(0, 100), known))[2] == (11, "days")
    assert lengths(TimeSplit.of(days(0, 100), replace(known, new_after=97)))[2] == (7, "days")


def test_days_without_a_known_answer_at_the_end_are_not_enough() -> None:
    answers = days(0, 100) | dict.fromkeys(range(90, 100), (0, 0))
    split = TimeSplit.of(answers, growing(20))
    assert (len(split.test), split.test.frauds, split.test.decided_by) == (13, 27, "period_frauds_target")


def test_too_few_days_are_refused_with_how_many_are_needed() -> None:
    with pytest.raises(DataError, match=r"span 28 days, but 29 are needed.*7 until its labels"):
        TimeSplit.of(days(100, 28), WEEKS)


@pytest.mark.parametrize(
    "odd", [{"delay_days": -1}, {"validation_days": 0}, {"test_days": -3}, {"frauds_target": 0}]
)
def test_periods_of_no_days_are_refused(odd: dict[str, int]) -> None:
    with pytest.raises(DataError, match="cannot be made"):
        SplitRules(**{"delay_days": 7, "validation_days": 7, "test_days": 7} | odd)
