"""Periods hold enough frauds where the days allow it, and never overlap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zaslon.models.time_split import SplitRules, TimeSplit

FIRST = 20_000
Given = tuple[dict[int, tuple[int, int]], SplitRules]
ORDERED = ("train", "validation", "test")

rules_of = st.builds(
    SplitRules,
    test_days=st.integers(1, 10), validation_days=st.integers(1, 10), delay_days=st.integers(0, 10),
    frauds_target=st.integers(1, 60), days_max=st.integers(1, 30),
)  # fmt: skip


@st.composite
def splits(draw: st.DrawFn) -> Given:
    """Days, some without a transaction and many without a fraud, that can be split by the rules."""
    rules = draw(rules_of)
    days = rules.days_needed() + draw(st.integers(0, 60))
    frauds = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 9]), min_size=days, max_size=days))
    quiet = draw(st.sets(st.integers(1, days - 2), max_size=10)) if days > 2 else set()
    return {FIRST + d: (f, 50) for d, f in enumerate(frauds) if d not in quiet}, rules


def frauds_in(answers: dict[int, tuple[int, int]], first: int, last: int) -> int:
    return sum(frauds for day, (frauds, _) in answers.items() if first <= day <= last)


@given(splits())
def test_periods_are_in_order_and_apart_by_the_delay(given_split: Given) -> None:
    answers, rules = given_split
    split = TimeSplit.of(answers, rules)
    assert (split.train.first, split.test.last) == (min(answers), max(answers))
    assert split.validation.first - split.train.last == rules.delay_days + 1
    assert split.test.first - split.validation.last == rules.delay_days + 1
    assert len(split.train) >= 1
    assert len(split.validation) >= rules.validation_days
    assert len(split.test) >= rules.test_days


@given(splits())
def test_periods_grow_within_their_bounds_only(given_split: Given) -> None:
    answers, rules = given_split
    split = TimeSplit.of(answers, rules)
    grown = False
    for period, least in ((split.test, rules.test_days), (split.validation, rules.validation_days)):
        assert len(period) <= max(least, rules.days_max)
        grown = grown or len(period) > least
        if len(period) > least:
            assert frauds_in(answers, period.first + 1, period.last) < rules.frauds_target, (
                "not a day too many"
            )
    usable = max(answers) - min(answers) + 1 - 2 * rules.delay_days
    assert not grown or 2 * len(split.train) >= usable


@given(splits())
def test_a_period_has_the_wanted_frauds_or_says_why_not(given_split: Given) -> None:
    answers, rules = given_split
    split = TimeSplit.of(answers, rules)
    for name in ORDERED:
        period = getattr(split, name)
        assert period.frauds == frauds_in(answers, period.first, period.last)
        assert period.transactions == sum(
            sum(a) for day, a in answers.items() if period.first <= day <= period.last
        )
    assert split.train.decided_by == "rest"
    for period, least, setting in (
        (split.test, rules.test_days, "test_days"),
        (split.validation, rules.validation_days, "validation_days"),
    ):
        if period.frauds >= rules.frauds_target:
            assert period.decided_by == (setting if len(period) == least else "period_frauds_target")
        elif period.decided_by == "period_days_max":
            assert len(period) == rules.days_max
        elif period.decided_by == setting:
            assert len(period) == least >= rules.days_max
        else:
            assert period.decided_by == "days"
            assert len(period) < max(rules.days_max, least)


@given(splits())
def test_growing_never_takes_the_last_fraud_of_an_earlier_period(
    given_split: Given,
) -> None:
    answers, rules = given_split
    split = TimeSplit.of(answers, rules)
    least = TimeSplit.of(answers, SplitRules(rules.test_days, rules.validation_days, rules.delay_days))
    if least.train.frauds and least.validation.frauds:
        assert split.train.frauds
        assert split.validation.frauds


@given(splits())
def test_the_order_in_which_days_are_given_does_not_matter(given_split: Given) -> None:
    answers, rules = given_split
    assert TimeSplit.of(dict(reversed(answers.items())), rules) == TimeSplit.of(answers, rules)
