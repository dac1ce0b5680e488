"""The scorecard says what was reached, and why not more, and nothing that nobody measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zaslon.monitoring.scorecard import Goals, Reached, Scorecard, make_scorecard, unseeable_share

MET = Reached(
    recall=0.99, precision=0.6, false_positive_rate=0.04, roc_auc=0.95, loss_minor_per_month=1_000_000,
    reviews_per_day=40.0, transactions_per_second=900.0,
)  # fmt: skip


def card(reached: Reached, goals: Goals | None = None) -> Scorecard:
    return make_scorecard(goals or Goals(), reached, currency="RUB", minor_digits=2)


def row(found: Scorecard, goal: str) -> tuple[bool | None, str, str]:
    (chosen,) = [r for r in found.rows if r.goal.startswith(goal)]
    return chosen.met, chosen.reached, chosen.comment


def test_goals_that_are_reached_need_no_excuse() -> None:
    found = card(MET)
    assert [r.met for r in found.rows if r.met is not None] == [True] * 4
    assert row(found, "Frauds missed") == (True, "1.0%", "")
    assert row(found, "Customers' loss")[:2] == (True, "10,000 RUB")


def test_a_missed_goal_names_its_cause_in_catalogue_terms() -> None:
    missed = replace(
        MET,
        recall=0.7,
        unseeable_share=0.19,
        entities=("card", "device"),
        recall_at_least_delay=("0 hours", 0.99),
    )
    assert row(card(missed), "Frauds missed") == (
        False, "30.0%",
        "19.0% of the frauds had no evidence when they happened: an ordinary amount, and no fraud of the same "
        "card or device known yet. With labels at once, 1.0% would be missed.",
    )  # fmt: skip
    lost = replace(missed, loss_minor_per_month=90_000_000)
    assert row(card(lost), "Customers' loss")[::2] == (False, "The same frauds that are missed above.")


def test_a_missed_loss_goal_names_its_cause_with_few_frauds() -> None:
    lost = replace(MET, loss_minor_per_month=90_000_000, recall_at_least_delay=("6 hours", 0.995))
    assert row(card(lost), "Frauds missed")[0] is True
    assert row(card(lost), "Customers' loss")[::2] == (
        False,
        "With labels after 6 hours, 0.5% would be missed.",
    )


def test_rounding_never_misses_a_goal() -> None:
    assert 1 - 49 / 50 > 0.02
    assert row(card(replace(MET, recall=49 / 50)), "Frauds missed")[0] is True


@pytest.mark.parametrize("share", [None, 0.01])
def test_missing_evidence_is_blamed_only_if_measured(share: float | None) -> None:
    comment = row(card(replace(MET, recall=0.7, unseeable_share=share, entities=("card",))), "Frauds missed")[
        2
    ]
    assert comment == "See the report for which frauds are missed."


def test_where_nothing_was_stopped_there_is_no_precision() -> None:
    assert row(card(replace(MET, precision=float("nan"))), "Precision") == (None, "nothing was stopped", "")


def test_too_many_stopped_good_transactions_are_reported() -> None:
    assert row(card(replace(MET, false_positive_rate=0.0501)), "Good transactions") == (False, "5.01%", "")
    judged = replace(MET, false_positive_rate=0.0501, false_positive_rate_before=0.0449)
    met, _, why = row(card(judged), "Good transactions")
    assert (met, why) == (
        False,
        "On the validation period, by which thresholds are judged, it was 4.49%; these days are later ones.",
    )


@pytest.mark.parametrize(("most", "met"), [(None, None), (39, False), (40, True), (0, False)])
def test_the_analysts_day_is_a_goal_where_their_capacity_is_set(most: int | None, met: bool | None) -> None:
    found = card(replace(MET, reviews_per_day_before=35.4), Goals(reviews_per_day_max=most))
    assert row(found, "Reviews")[0] is met
    assert ("it was 35;" in row(found, "Reviews")[2]) is (met is False)


def test_an_ordinary_amount_without_known_fraud_is_no_evidence() -> None:
    card_frauds = np.array([0, 1, 0, np.nan, 0], np.float32)
    device_frauds = np.array([0, 0, 2, 0, 0], np.float32)
    ordinary = np.array([True, True, True, True, False])
    weight = np.array([1, 1, 1, 2, 5], np.float32)
    assert unseeable_share([card_frauds, device_frauds], ordinary, weight) == pytest.approx(0.3)
    nothing = np.zeros(0, np.float32)
    assert unseeable_share([nothing], np.zeros(0, np.bool_), nothing) == 0.0
