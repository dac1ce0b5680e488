"""Thresholds: the cheapest pair under the limits, proved against trying every pair."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.decisions.policy import Costs, Thresholds
from zaslon.decisions.thresholds import ChosenThresholds, Limits, choose_thresholds
from zaslon.domain.errors import DataError

DAY = 86_400
FREE = Limits(false_positive_rate_max=1.0, missed_frauds_max=1.0, loss_minor_per_month_max=10**15)


def _data(rows: list[tuple[float, bool, int, int, int]]) -> dict[str, Any]:
    score, is_fraud, amount, weight, day = zip(*rows, strict=True)
    return {
        "score": np.array(score, np.float64),
        "is_fraud": np.array(is_fraud, np.bool_),
        "amount_minor": np.array(amount, np.int64),
        "weight": np.array(weight, np.float64),
        "event_time_seconds": np.array(day, np.int64) * DAY,
    }


def _days(data: dict[str, Any]) -> int:
    """From the first to the last, quiet ones included."""
    seen = (data["event_time_seconds"] // DAY).tolist()
    return len(range(min(seen), max(seen) + 1))


def _measured(data: dict[str, Any], review: float, block: float, costs: Costs) -> dict[str, float]:
    """What a pair of thresholds does, computed as simply as possible."""
    stopped, blocked = data["score"] >= review, data["score"] >= block
    fraud, weight = data["is_fraud"], data["weight"]
    days = _days(data)
    loss = (weight * data["amount_minor"])[fraud & ~stopped].sum()
    reviewed = weight[stopped & ~blocked].sum()
    return {
        "false_positive_rate": weight[~fraud & stopped].sum() / weight[~fraud].sum(),
        "missed": weight[fraud & ~stopped].sum() / weight[fraud].sum(),
        "loss": loss / (days / 30),
        "reviews": reviewed / days,
        "stopped": weight[stopped].sum(),
        "cost": loss + costs.review_minor * reviewed
        + costs.blocked_good_minor * weight[~fraud & blocked].sum(),
    }  # fmt: skip


def _best(data: dict[str, Any], limits: Limits, costs: Costs) -> dict[str, float]:
    """Every pair is tried."""
    cuts = [math.inf, *np.unique(data["score"]).tolist()]
    tried = [_measured(data, r, b, costs) for r in cuts for b in cuts if r <= b]
    capacity = math.inf if limits.reviews_per_day_max is None else limits.reviews_per_day_max
    possible = [
        m for m in tried
        if m["false_positive_rate"] <= limits.false_positive_rate_max and m["reviews"] <= capacity
    ]  # fmt: skip
    kept = [
        m for m in possible
        if m["missed"] <= limits.missed_frauds_max and m["loss"] <= limits.loss_minor_per_month_max
    ]  # fmt: skip
    if kept:
        return min(kept, key=lambda m: m["cost"])
    return min(possible, key=lambda m: (m["missed"], m["stopped"], m["cost"]))


rows = st.lists(
    st.tuples(
        st.integers(0, 8).map(lambda k: k / 8), st.booleans(), st.integers(0, 500),
        st.integers(1, 3), st.integers(0, 2),
    ),
    min_size=2, max_size=14,
).filter(lambda r: any(x[1] for x in r) and not all(x[1] for x in r))  # fmt: skip
limits_tried = st.builds(
    Limits,
    false_positive_rate_max=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    missed_frauds_max=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    loss_minor_per_month_max=st.sampled_from([0, 1_000, 5_000, 10**9]),
    reviews_per_day_max=st.sampled_from([None, 0, 1, 3]),
)
costs_tried = st.builds(
    Costs, review_minor=st.sampled_from([0, 50, 200]), blocked_good_minor=st.sampled_from([0, 300])
)


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Compile before Hypothesis measures the time of an example."""
    choose_thresholds(**_data(EASY), limits=Limits(), costs=Costs())


@given(rows=rows, limits=limits_tried, costs=costs_tried)
def test_the_choice_is_as_good_as_the_best_of_all_pairs(
    rows: list[tuple[float, bool, int, int, int]], limits: Limits, costs: Costs
) -> None:
    data = _data(rows)
    chosen = choose_thresholds(**data, limits=limits, costs=costs)
    reached = _measured(data, chosen.review, chosen.block, costs)
    best = _best(data, limits, costs)
    days = _days(data)
    assert reached["cost"] == pytest.approx(best["cost"])
    assert chosen.cost_minor_per_month == pytest.approx(best["cost"] / days * 30)
    assert chosen.review <= chosen.block
    _assert_the_report_is_true(chosen, reached, limits)
    if chosen.not_kept:
        assert reached["missed"] == pytest.approx(best["missed"])
        assert reached["stopped"] == pytest.approx(best["stopped"])


def _assert_the_report_is_true(chosen: ChosenThresholds, reached: dict[str, float], limits: Limits) -> None:
    assert chosen.recall == pytest.approx(1 - reached["missed"])
    assert chosen.false_positive_rate == pytest.approx(reached["false_positive_rate"])
    assert chosen.loss_minor_per_month == pytest.approx(reached["loss"])
    assert chosen.reviews_per_day == pytest.approx(reached["reviews"])
    assert chosen.false_positive_rate <= limits.false_positive_rate_max
    by_name = {limit.name: limit for limit in chosen.limits}
    assert by_name["missed_frauds_max"].is_kept == (reached["missed"] <= limits.missed_frauds_max)
    assert by_name["loss_minor_per_month_max"].is_kept == (reached["loss"] <= limits.loss_minor_per_month_max)
    assert all(limit.is_kept or "it would take stopping" in limit.sentence for limit in chosen.limits)


@given(rows=rows, limits=limits_tried, costs=costs_tried, seed=st.integers(0, 9))
def test_the_order_of_the_transactions_does_not_matter(
    rows: list[tuple[float, bool, int, int, int]], limits: Limits, costs: Costs, seed: int
) -> None:
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    one = choose_thresholds(**_data(rows), limits=limits, costs=costs)
    other = choose_thresholds(**_data(shuffled), limits=limits, costs=costs)
    assert one.report() == other.report()


EASY = [(0.9, True, 10_000, 1, 0), (0.8, True, 10_000, 1, 1), (0.1, False, 500, 1, 1), (0.2, False, 9, 1, 2)]


def test_separable_data_stop_every_fraud_and_nothing_else() -> None:
    chosen = choose_thresholds(**_data(EASY), limits=Limits(), costs=Costs())
    assert (chosen.review, chosen.block) == (0.8, 0.8)
    assert (chosen.recall, chosen.recall_by_amount, chosen.precision) == (1.0, 1.0, 1.0)
    assert chosen.not_kept == ()
    assert chosen.report()["not_kept"] == []


def test_a_limit_out_of_reach_is_named_with_what_it_would_take() -> None:
    rows = [(0.9, True, 10_000, 1, 0), (0.1, True, 90_000, 1, 1)]
    rows += [(0.2 + i / 100, False, 100, 1, i % 3) for i in range(20)]
    chosen = choose_thresholds(**_data(rows), limits=Limits(loss_minor_per_month_max=1_000), costs=Costs())
    assert chosen.recall == 0.5
    assert [limit.name for limit in chosen.not_kept] == [
        "missed_frauds_max", "loss_minor_per_month_max",
    ]  # fmt: skip
    assert [limit.sentence for limit in chosen.limits] == [
        "0.0 % of good transactions are stopped; at most 5.0 % is allowed.",
        "50.0 % of frauds are missed; at most 2.0 % is wanted, 48.0 percentage points less;"
        " it would take stopping 100.0 % of good transactions.",
        "9,000 is lost in 30 days; at most 10 is wanted, 8,990 less;"
        " it would take stopping 100.0 % of good transactions.",
    ]


def test_thresholds_are_infinite_if_stopping_never_pays() -> None:
    rows = [(0.4, True, 1, 1, 0), (0.5, False, 1, 1, 0)]
    chosen = choose_thresholds(**_data(rows), limits=FREE, costs=Costs(review_minor=10))
    assert (chosen.review, chosen.block) == (math.inf, math.inf)
    assert math.isnan(chosen.precision)
    assert chosen.report()["review"] is None


def test_analysts_capacity_moves_reviews_to_blocks() -> None:
    rows = [(0.5 + i / 100, i % 2 == 0, 10_000, 1, 0) for i in range(10)]
    costs = Costs(review_minor=1, blocked_good_minor=1_000)
    free = choose_thresholds(**_data(rows), limits=FREE, costs=costs)
    tight = choose_thresholds(**_data(rows), limits=replace(FREE, reviews_per_day_max=3), costs=costs)
    assert free.recall == tight.recall == 1.0
    assert free.reviews_per_day > 3 >= tight.reviews_per_day
    assert tight.limits[-1].sentence == "2.0 reviews a day; the analysts have time for 3."


def test_frauds_of_amount_zero_leave_no_money_to_lose() -> None:
    rows = [(0.5, True, 0, 1, 0), (0.4, False, 0, 1, 0)]
    assert choose_thresholds(**_data(rows), limits=Limits(), costs=Costs()).recall_by_amount == 1.0


def _with(**changes: Any) -> dict[str, Any]:
    return _data(EASY) | changes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_with(is_fraud=np.zeros(4, np.bool_)), "no fraud among 4 transactions"),
        (_with(is_fraud=np.ones(4, np.bool_)), "no good transaction among 4"),
        (_with(score=np.array([0.1, 0.2, math.nan, 0.3])), "a score is not between 0 and 1"),
        (_with(score=np.array([0.1, 0.2, 1.5, 0.3])), "a score is not between 0 and 1"),
        (_with(weight=np.array([1.0, 0.0, 1.0, 1.0])), "a weight is not a positive number"),
        (_with(weight=np.array([1.0, math.inf, 1.0, 1.0])), "a weight is not a positive number"),
        (_with(amount_minor=np.array([1, -2, 3, 4])), "an amount is negative"),
        (_with(score=np.zeros(3)), "different lengths"),
        ({name: column[:0] for name, column in _data(EASY).items()}, "no fraud among 0"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(data: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_thresholds(**data, limits=Limits(), costs=Costs())


def test_a_report_holds_plain_values() -> None:
    chosen = choose_thresholds(**_data(EASY), limits=Limits(reviews_per_day_max=5), costs=Costs())
    report = replace(chosen).report()
    assert report["recall"] == 1.0
    limits = report["limits"]
    assert isinstance(limits, list)
    assert [limit["name"] for limit in limits][-1] == "reviews_per_day_max"


@pytest.mark.parametrize("reviews_per_day_max", [0, 1, 3])
def test_thresholds_that_somebody_stated_are_kept_and_described(reviews_per_day_max: int) -> None:
    limits = replace(FREE, reviews_per_day_max=reviews_per_day_max)
    stated = Thresholds(review=0.35, block=math.inf)
    chosen = choose_thresholds(**_data(EASY), limits=limits, costs=Costs(), stated=stated)
    assert (chosen.review, chosen.block) == (0.35, math.inf)
    data = _data(EASY)
    stopped = data["score"] >= 0.35
    frauds = data["is_fraud"]
    assert chosen.recall == pytest.approx(
        data["weight"][stopped & frauds].sum() / data["weight"][frauds].sum()
    )
    assert chosen.blocks_per_day == 0
    assert chosen.limits[-1].is_kept == (chosen.reviews_per_day <= reviews_per_day_max)
