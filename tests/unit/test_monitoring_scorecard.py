"""The scorecard: what was reached, the cause of a miss, and nothing that was not measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zaslon.domain.estimates import Estimate, exact_interval
from zaslon.monitoring.scorecard import Goals, Reached, Scorecard, make_scorecard, unseeable_share


def sure(value: float) -> Estimate:
    """A figure based on very many transactions."""
    return Estimate(value, value, value)


MET = Reached(
    frauds=900, frauds_effective=900, transactions=100_000, days=10,
    recall=sure(0.99), precision=sure(0.6), false_positive_rate=sure(0.04), roc_auc=sure(0.95),
    loss_minor_per_month=sure(1_000_000), reviews_per_day=sure(40.0), transactions_per_second=900.0,
)  # fmt: skip


def card(reached: Reached, goals: Goals | None = None) -> Scorecard:
    return make_scorecard(goals or Goals(), reached, currency="RUB", minor_digits=2)


def row(found: Scorecard, goal: str) -> tuple[str | None, str, str]:
    (chosen,) = [r for r in found.rows if r.goal.startswith(goal)]
    return chosen.status, chosen.reached, chosen.comment


def test_goals_that_are_reached_need_no_excuse() -> None:
    found = card(MET)
    assert [r.status for r in found.rows if r.status is not None] == ["met"] * 4
    assert row(found, "Frauds missed") == ("met", "1.0% (1.0% to 1.0%)", "")
    assert row(found, "Customers' loss")[:2] == ("met", "10,000 RUB (10,000 to 10,000)")
    assert {(r.frauds, r.transactions) for r in found.rows} == {(900, 100_000)}


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(0.985, 0.995, "met"), (0.9, 0.97, "not_met"), (0.97, 0.995, "not_shown"), (0.98, 0.99, "met"),
     (float("nan"), float("nan"), "not_shown")],
)  # fmt: skip
def test_a_goal_is_met_where_the_whole_interval_meets_it(low: float, high: float, status: str) -> None:
    reached = replace(MET, recall=Estimate(0.985 if low != 0.9 else 0.95, low, high))
    assert row(card(reached), "Frauds missed")[0] == status


def test_a_goal_not_shown_says_how_many_days_would_show_it() -> None:
    few = replace(MET, frauds=50, frauds_effective=50, recall=Estimate(0.99, 0.96, 0.999))
    assert row(card(few), "Frauds missed") == (
        "not_shown", "1.0% (0.1% to 4.0%)", "50 frauds in 10 days are too few to decide: about 152 days would.",
    )  # fmt: skip
    assert card(few).rows[0].days_needed == 152
    assert [r.days_needed for r in card(MET).rows] == [None] * len(card(MET).rows)
    at_limit = replace(few, recall=Estimate(0.98, 0.95, 0.995))
    assert (
        row(card(at_limit), "Frauds missed")[2]
        == "50 frauds in 10 days are too few to decide: it is at the limit."
    )


def test_frauds_that_share_customers_are_named_where_they_decide() -> None:
    few = replace(MET, frauds=300, frauds_effective=40.0, recall=Estimate(0.99, 0.96, 0.999))
    comment = row(card(few), "Frauds missed")[2]
    assert "300 frauds in 10 days, which say as much as 40 single ones" in comment
    single = row(card(replace(few, frauds_effective=299.0)), "Frauds missed")[2]
    assert "single ones" not in single


@pytest.mark.parametrize(("missed", "frauds"), [(0, 20), (1, 100), (9, 300), (3, 100)])
def test_the_days_named_are_about_those_that_show_the_goal(missed: int, frauds: int) -> None:
    """The same share of that many frauds has an exact interval clear of the limit, and of a tenth fewer has not."""
    rate = missed / frauds
    few = replace(
        MET,
        frauds=frauds,
        frauds_effective=frauds,
        recall=Estimate(1 - rate, *exact_interval(1 - rate, frauds)),
    )
    found = card(few).rows[0]
    assert (found.status, found.days_needed is None) == ("not_shown", False)
    assert found.days_needed is not None

    def is_shown(days: float) -> bool:
        low, high = exact_interval(rate, frauds * days / few.days)
        return high <= 0.02 or low > 0.02

    assert is_shown(found.days_needed)
    assert not is_shown(0.9 * found.days_needed)


def test_a_loss_that_is_not_shown_names_days_too() -> None:
    none = replace(MET, loss_minor_per_month=Estimate(0, 0, 120_000_000))
    assert card(none).rows[2].days_needed == 24, "nothing lost: its limit falls with the days"
    some = replace(MET, loss_minor_per_month=Estimate(30_000_000, 10_000_000, 70_000_000))
    assert card(some).rows[2].days_needed == 40, "an ordinary interval falls with their square root"


def test_a_missed_goal_names_its_cause_in_catalogue_terms() -> None:
    missed = replace(
        MET,
        recall=sure(0.7),
        unseeable_share=0.19,
        entities=("card", "device"),
        recall_at_least_delay=("0 hours", 0.99),
    )
    assert row(card(missed), "Frauds missed") == (
        "not_met", "30.0% (30.0% to 30.0%)",
        "19.0% of the frauds had no evidence when they happened: an ordinary amount, and no fraud of the same "
        "card or device known yet. With labels at once, 1.0% would be missed.",
    )  # fmt: skip
    lost = replace(missed, loss_minor_per_month=sure(90_000_000))
    assert row(card(lost), "Customers' loss")[::2] == ("not_met", "The same frauds that are missed above.")


def test_a_missed_loss_goal_names_its_cause_with_few_frauds() -> None:
    lost = replace(MET, loss_minor_per_month=sure(90_000_000), recall_at_least_delay=("6 hours", 0.995))
    assert row(card(lost), "Frauds missed")[0] == "met"
    assert row(card(lost), "Customers' loss")[::2] == (
        "not_met",
        "With labels after 6 hours, 0.5% would be missed.",
    )


def test_rounding_never_misses_a_goal() -> None:
    assert 1 - 49 / 50 > 0.02
    assert row(card(replace(MET, recall=sure(49 / 50))), "Frauds missed")[0] == "met"


@pytest.mark.parametrize("share", [None, 0.01])
def test_missing_evidence_is_blamed_only_if_measured(share: float | None) -> None:
    few = replace(MET, recall=sure(0.7), unseeable_share=share, entities=("card",))
    assert row(card(few), "Frauds missed")[2] == "See the report for which frauds are missed."


def test_where_nothing_was_stopped_there_is_no_precision() -> None:
    none = replace(MET, precision=sure(float("nan")))
    assert row(card(none), "Precision") == (None, "nothing was stopped", "")


def test_too_many_stopped_good_transactions_are_reported() -> None:
    many = replace(MET, false_positive_rate=sure(0.0501))
    assert row(card(many), "Good transactions") == ("not_met", "5.01% (5.01% to 5.01%)", "")
    judged = replace(many, false_positive_rate_before=0.0449)
    status, _, why = row(card(judged), "Good transactions")
    assert (status, why) == (
        "not_met",
        "On the validation period, by which thresholds are judged, it was 4.49%; these days are later ones.",
    )


@pytest.mark.parametrize(("most", "status"), [(None, None), (39, "not_met"), (40, "met"), (0, "not_met")])
def test_the_analysts_day_is_a_goal_where_their_capacity_is_set(most: int | None, status: str | None) -> None:
    found = card(replace(MET, reviews_per_day_before=35.4), Goals(reviews_per_day_max=most))
    assert row(found, "Reviews")[0] == status
    assert ("it was 35;" in row(found, "Reviews")[2]) is (status == "not_met")


def test_the_analysts_day_is_not_shown_where_days_differ() -> None:
    few = replace(MET, reviews_per_day=Estimate(38, 30, 46))
    found = card(few, Goals(reviews_per_day_max=40))
    assert row(found, "Reviews")[:2] == ("not_shown", "38 (30 to 46)")


def test_an_ordinary_amount_without_known_fraud_proves_nothing() -> None:
    card_frauds = np.array([0, 1, 0, np.nan, 0], np.float32)
    device_frauds = np.array([0, 0, 2, 0, 0], np.float32)
    ordinary = np.array([True, True, True, True, False])
    weight = np.array([1, 1, 1, 2, 5], np.float32)
    assert unseeable_share([card_frauds, device_frauds], ordinary, weight) == pytest.approx(0.3)
    nothing = np.zeros(0, np.float32)
    assert unseeable_share([nothing], np.zeros(0, np.bool_), nothing) == 0.0
