"""Reasons: a fixed table of texts, and which features are given as reasons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.decisions.reasons import NO_SINGLE_FEATURE, ReasonWriter, explain
from zaslon.domain.features import FeatureInfo

NAN = math.nan


def _aggregate(entity: str, compute: str, window: str, where: str | None = None) -> FeatureInfo:
    middle = f"_{where}" if where else ""
    return FeatureInfo(f"{entity}_{compute}{middle}_{window}", "aggregate", entity, compute, window, where)


def _derived(name: str, expression: str) -> FeatureInfo:
    return FeatureInfo(name, "derived", expression=expression)


def _of(name: str) -> FeatureInfo:
    return FeatureInfo(name, "flag" if name.startswith("flag_") else "transaction")


MEAN = _aggregate("customer", "mean", "30d")
STD = _aggregate("customer", "std", "30d")
SAME = _aggregate("customer", "same_terminal", "30d")
OTHERS = {"hour": 3.0, MEAN.name: 133.2, STD.name: 20.0, SAME.name: 0.0}
CONTEXT = [_of("hour"), _of("amount"), MEAN, STD, SAME]

TABLE = [
    (_of("amount"), 812.4, "the amount is 812.40"),
    (_of("hour"), 3, "paid between 03:00 and 04:00"),
    (_of("hour"), 23, "paid between 23:00 and 24:00"),
    (_of("weekday"), 5, "paid on a Saturday"),
    (_of("second_of_day"), 12_345, "paid at 03:25"),
    (_of("second_of_day"), NAN, "second_of_day is unknown"),
    (_of("mcc"), 5411, "mcc is 5411"),
    (_of("distance_km"), 12.345, "distance_km is 12.35"),
    (_of("distance_km"), NAN, "distance_km is unknown"),
    (_of("flag_amount_zero"), 1, "the record is flagged: amount zero"),
    (_of("flag_amount_zero"), 0, "the record is not flagged: amount zero"),
    (_aggregate("customer", "count", "1h"), 0, "first payment of this customer in 1 hour"),
    (_aggregate("customer", "count", "1h"), 10, "11th payment of this customer in 1 hour"),
    (_aggregate("customer", "count", "90m"), 21, "22nd payment of this customer in 1.5 hours"),
    (_aggregate("terminal", "count", "2w", "large_amount"), 2,
     "2 earlier payments at this terminal in 14 days (large amount only)"),
    (_aggregate("card", "sum", "7d"), 812.4, "earlier payments with this card in 7 days add up to 812.40"),
    (_aggregate("card", "sum", "7d"), 0, "nothing paid earlier with this card in 7 days"),
    (MEAN, 133.2, "this customer's 30-day mean is 133.20"),
    (MEAN, NAN, "no earlier transaction of this customer in 30 days"),
    (_aggregate("customer", "min", "1d"), 2.5, "this customer's 1-day smallest payment is 2.50"),
    (_aggregate("customer", "max", "6h"), 99, "this customer's 6-hour largest payment is 99.00"),
    (_aggregate("customer", "median", "7d"), 45.4, "this customer's 7-day median is 45.40"),
    (_aggregate("customer", "q90", "30d"), 90, "this customer's 30-day 90 % quantile is 90.00"),
    (STD, 12.25, "this customer's 30-day standard deviation is 12.25"),
    (STD, NAN, "fewer than two earlier transactions of this customer in 30 days"),
    (_aggregate("customer", "distinct_terminal", "30d"), 9,
     "9 different terminals of this customer in 30 days"),
    (_aggregate("terminal", "distinct_customer", "30d"), 1, "1 customer at this terminal in 30 days"),
    (_aggregate("card", "distinct_country", "30d"), 3, "3 different countries with this card in 30 days"),
    (_aggregate("customer", "distinct_terminal", "30d"), 0,
     "no earlier transaction of this customer in 30 days"),
    (SAME, 0, "first payment of this customer at this terminal in 30 days"),
    (SAME, 2, "3rd payment of this customer at this terminal in 30 days"),
    (_aggregate("device", "same_card", "1d"), 1, "2nd payment from this device with this card in 1 day"),
    (_aggregate("customer", "since_last", "30d"), 35, "the last payment of this customer was 35 seconds ago"),
    (_aggregate("customer", "since_last", "30d"), 90_000, "the last payment of this customer was 1 day ago"),
    (_aggregate("customer", "since_last", "30d"), NAN, "no earlier transaction of this customer in 30 days"),
    (_aggregate("terminal", "known", "7d"), 12,
     "12 payments at this terminal in 7 days are known to be good or fraud"),
    (_aggregate("terminal", "known", "7d"), 0,
     "no payment at this terminal in 7 days is known to be good or fraud"),
    (_aggregate("terminal", "frauds", "7d"), 5, "5 confirmed frauds at this terminal in 7 days"),
    (_aggregate("terminal", "frauds", "7d"), 1, "1 confirmed fraud at this terminal in 7 days"),
    (_aggregate("terminal", "frauds", "7d"), 0, "no confirmed fraud at this terminal in 7 days"),
    (_aggregate("terminal", "frauds", "7d", "ordinary_amount"), 5,
     "5 confirmed frauds at this terminal in 7 days (ordinary amount only)"),
    (_aggregate("terminal", "risk", "30d"), 0.342, "this terminal's fraud rate is 34.2 % over 30 days"),
    (_aggregate("terminal", "risk", "30d"), 0.0004, "this terminal's fraud rate is 0.04 % over 30 days"),
    (_aggregate("terminal", "risk", "30d"), NAN, "this terminal's fraud rate over 30 days is unknown"),
    (_aggregate("terminal", "recent_risk", "30d"), 1,
     "100.0 % of the newest known payments at this terminal in 30 days were fraud"),
    (_aggregate("terminal", "recent_risk", "30d"), NAN,
     "no payment at this terminal in 30 days is known to be good or fraud"),
    (_aggregate("terminal", "since_fraud", "30d"), 2.5 * 86_400,
     "the newest confirmed fraud at this terminal was 2.5 days ago"),
    (_aggregate("terminal", "since_fraud", "30d"), NAN, "no confirmed fraud at this terminal in 30 days"),
    (_aggregate("terminal", "since_first_fraud", "30d"), 12 * 86_400,
     "the first confirmed fraud at this terminal in 30 days was 12 days ago"),
    (_aggregate("terminal", "good_since_fraud", "30d"), 3,
     "3 payments at this terminal confirmed good since the newest confirmed fraud"),
    (_aggregate("terminal", "good_since_fraud", "30d"), NAN,
     "no confirmed fraud at this terminal in 30 days"),
    (_aggregate("terminal", "something_new", "30d"), 3, "terminal_something_new_30d is 3"),
    (_derived("ratio", "amount / customer_mean_30d"), 6.1,
     "amount 812.40 is 6.1× this customer's 30-day mean"),
    (_derived("ratio", "amount/customer_mean_30d"), 0.253,
     "amount 812.40 is 0.25× this customer's 30-day mean"),
    (_derived("ratio", "amount / customer_mean_30d"), 123.4,
     "amount 812.40 is 123× this customer's 30-day mean"),
    (_derived("far", "(amount - customer_mean_30d) / customer_std_30d"), 4.23,
     "amount 812.40 is 4.2 standard deviations above this customer's 30-day mean"),
    (_derived("far", "(amount - customer_mean_30d) / customer_std_30d"), -1,
     "amount 812.40 is 1.0 standard deviations below this customer's 30-day mean"),
    (_derived("far", "(amount - customer_mean_30d) / customer_std_30d"), NAN,
     "too few different amounts of this customer in 30 days to compare 812.40 with"),
    (_derived("is_new", "customer_same_terminal_30d = 0"), 1,
     "first payment of this customer at this terminal in 30 days"),
    (_derived("is_night", "hour <= 6"), 1, "is_night holds: hour <= 6, with hour 3"),
    (_derived("is_late", "hour > 22"), 0, "is_late does not hold: hour > 22, with hour 3"),
    (_derived("odd", "amount * hour + 1"), 2438.2,
     "odd is 2438.2: amount * hour + 1, with amount 812.40, hour 3"),
    (_derived("odd", "LN(hour - 3)"), NAN, "odd has no value: LN(hour - 3), with hour 3"),
    (_derived("odd", "amount / gone"), 2, "odd is 2: amount / gone"),
]  # fmt: skip


@pytest.mark.parametrize(("info", "value", "text"), TABLE, ids=[f"{t[0].name}={t[1]}" for t in TABLE])
def test_a_feature_has_a_plain_sentence(info: FeatureInfo, value: float, text: str) -> None:
    features = [*(f for f in CONTEXT if f.name != info.name), info]
    x = np.array([[OTHERS.get(f.name, 0.0) for f in features]], np.float32)
    x[0, -1] = value
    contributions = np.zeros(x.shape)
    contributions[0, -1] = 1.5
    reasons = explain(features, x, contributions, np.array([81_240]))
    assert [(r.code, r.text, r.weight) for r in reasons[0]] == [(f"feature:{info.name}", text, 1.5)]


def test_a_ratio_without_a_value_names_the_cause() -> None:
    ratio = _derived("ratio", "amount / customer_mean_30d")
    for mean, text in [
        (NAN, "no earlier transaction of this customer in 30 days"),
        (0.0, "amount 812.40, and this customer's 30-day mean is 0"),
    ]:
        x = np.array([[mean, NAN]], np.float32)
        reasons = explain([MEAN, ratio], x, np.array([[0.0, 1.0]]), np.array([81_240]))
        assert reasons[0][0].text == text


def test_the_currency_has_its_own_digits() -> None:
    features = [MEAN, _of("amount"), _derived("ratio", "amount / customer_mean_30d")]
    x, contributions = np.array([[133.0, 812.0, 6.1]], np.float32), np.array([[1.0, 2.0, 3.0]])
    texts = [r.text for r in explain(features, x, contributions, np.array([812]), minor_digits=0)[0]]
    assert texts == [
        "amount 812 is 6.1× this customer's 30-day mean", "the amount is 812",
        "this customer's 30-day mean is 133",
    ]  # fmt: skip


FEATURES = [_of("a"), _of("b"), _of("c"), _of("d")]


def test_only_what_raises_the_score_is_given_the_strongest_first() -> None:
    x = np.array([[1, 2, 3, 4]], np.float32)
    given_ = explain(FEATURES, x, np.array([[0.5, -3.0, 0.7, 0.0]]), np.array([100]))[0]
    assert [(r.text, r.weight) for r in given_] == [("c is 3", 0.7), ("a is 1", 0.5)]
    given_ = explain(FEATURES, x, np.array([[0.5, 0.5, 0.7, 0.9]]), np.array([100]), top=3)[0]
    assert [r.code for r in given_] == ["feature:d", "feature:c", "feature:a"]


@pytest.mark.parametrize("contributions", [[-1.0, -2.0, 0.0, -0.1], [0.0] * 4, [NAN] * 4])
def test_without_a_raised_score_there_is_one_reason(contributions: list[float]) -> None:
    x = np.array([[1, 2, 3, 4]], np.float32)
    assert explain(FEATURES, x, np.array([contributions]), np.array([100])) == [[NO_SINGLE_FEATURE]]


def test_equal_sentences_of_two_features_appear_once() -> None:
    features = [SAME, _derived("is_new", "customer_same_terminal_30d = 0"), _of("c")]
    x = np.array([[0, 1, 3]], np.float32)
    given_ = explain(features, x, np.array([[0.5, 0.9, 0.1]]), np.array([100]), top=2)[0]
    assert [r.code for r in given_] == ["feature:is_new", "feature:c"]


def test_no_transactions_have_no_reasons() -> None:
    empty = np.zeros((0, 4))
    assert explain(FEATURES, empty.astype(np.float32), empty, np.zeros(0, np.int64)) == []


@pytest.mark.parametrize(
    ("x", "contributions", "amounts", "top"),
    [((2, 4), (2, 3), 2, 3), ((2, 4), (2, 4), 1, 3), ((2, 3), (2, 3), 2, 3), ((2, 4), (2, 4), 2, 0)],
)
def test_arrays_that_do_not_belong_together_are_refused(
    x: tuple[int, int], contributions: tuple[int, int], amounts: int, top: int
) -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        explain(
            FEATURES, np.zeros(x, np.float32), np.zeros(contributions), np.zeros(amounts, np.int64),
            top=top,
        )  # fmt: skip


ALL = [*CONTEXT, *{t[0].name: t[0] for t in TABLE if t[0].name not in {c.name for c in CONTEXT}}.values()]
WRITER = ReasonWriter.of(ALL)
anything = st.sampled_from([NAN, 0.0, 1.0, 2.0, 3.5, 1e9])


@given(st.lists(anything, min_size=len(ALL), max_size=len(ALL)), st.integers(0, 10**12), st.integers(0, 99))
def test_reasons_do_not_depend_on_the_batch(values: list[float], amount_minor: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.array([values, values[::-1]], np.float32)
    contributions = rng.normal(size=x.shape)
    amounts = np.array([amount_minor, 5])
    together = WRITER.explain(x, contributions, amounts)
    for i in range(2):
        exclusive = WRITER.explain(x[i : i + 1], contributions[i : i + 1], amounts[i : i + 1])[0]
        assert exclusive == together[i]
        assert 1 <= len(exclusive) <= 3
        assert all(reason.text and "nan" not in reason.text for reason in exclusive)
