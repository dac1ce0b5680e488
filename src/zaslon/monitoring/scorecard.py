"""The scorecard: each business goal, its target, what was reached, and why where it was not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.money import whole_text

_ROUNDING = 1e-9  # of sums of weights: 49 frauds of 50 are 98 %


@dataclass(frozen=True)
class Goals:
    """The targets. Rates are shares; the loss is in minor units per 30 days.

    `reviews_per_day_max` is what the analysts have time for; None if not configured.
    """

    missed_frauds_max: float = 0.02
    false_positive_rate_max: float = 0.05
    loss_minor_per_month_max: int = 50_000_000
    reviews_per_day_max: int | None = None
    transactions_per_second_min: float = 400.0


@dataclass(frozen=True)
class Reached:
    """What the test period showed.

    Attributes:
        recall, precision, false_positive_rate, roc_auc: shares; precision NaN if nothing stopped.
        loss_minor_per_month: money of missed frauds, 30 days.
        unseeable_share: share of the frauds that had no evidence when they happened (an ordinary
            amount, no fraud of the same `entities` known yet), or None if unknown.
        reviews_per_day: what the analysts get on an average day.
        entities: names of what fraud is counted by, for the sentence on evidence.
        false_positive_rate_before, reviews_per_day_before: the same on the validation period, by which
            thresholds are judged, or None.
        recall_at_least_delay: recall with the shortest label delay measured, or None.
        rules: rules of the policy that may act; no figure here includes their effect.
        transactions_per_second: decided through the engine, log and store included; None if not
            measured.
    """

    recall: float
    precision: float
    false_positive_rate: float
    roc_auc: float
    loss_minor_per_month: float
    reviews_per_day: float
    unseeable_share: float | None = None
    entities: tuple[str, ...] = ()
    false_positive_rate_before: float | None = None
    reviews_per_day_before: float | None = None
    recall_at_least_delay: tuple[str, float] | None = None
    rules: int = 0
    transactions_per_second: float | None = None


@dataclass(frozen=True)
class ScorecardRow:
    """One goal as it is printed. `met` is None without a target or a measurement."""

    goal: str
    target: str
    reached: str
    met: bool | None
    comment: str = ""


@dataclass(frozen=True)
class Scorecard:
    """All goals of a period."""

    rows: tuple[ScorecardRow, ...]

    def to_json_dict(self) -> list[dict[str, Any]]:
        """Plain values."""
        return [asdict(row) for row in self.rows]


def make_scorecard(goals: Goals, reached: Reached, *, currency: str, minor_digits: int) -> Scorecard:
    """Compare what was reached with the goals; a goal that was missed names the cause."""
    missed = 1 - reached.recall
    loss = round(reached.loss_minor_per_month)
    missed_met = missed <= goals.missed_frauds_max + _ROUNDING
    loss_met = loss <= goals.loss_minor_per_month_max
    stopped_met = reached.false_positive_rate <= goals.false_positive_rate_max + _ROUNDING
    reason = "" if missed_met and loss_met else _why_out_of_reach(goals, reached)
    rows = [
        ScorecardRow(
            "Frauds missed", f"≤ {goals.missed_frauds_max:.1%}", f"{missed:.1%}", missed_met,
            "" if missed_met else reason,
        ),
        ScorecardRow(
            "Good transactions stopped", f"≤ {goals.false_positive_rate_max:.1%}",
            f"{reached.false_positive_rate:.2%}", stopped_met,
            "" if stopped_met else _before(reached.false_positive_rate_before, ".2%"),
        ),
        ScorecardRow(
            "Customers' loss in 30 days",
            f"≤ {whole_text(goals.loss_minor_per_month_max, minor_digits)} {currency}",
            f"{whole_text(loss, minor_digits)} {currency}", loss_met,
            "" if loss_met else reason if missed_met else "The same frauds that are missed above.",
        ),
        _reviews(goals, reached),
        _precision(reached.precision),
        ScorecardRow("ROC-AUC", "–", f"{reached.roc_auc:.3f}", None),
    ]  # fmt: skip
    if reached.rules:
        rows.append(_rules(reached.rules))
    if reached.transactions_per_second is not None:
        rows.append(
            ScorecardRow(
                "Transactions decided per second",
                f"≥ {goals.transactions_per_second_min:.0f}",
                f"{reached.transactions_per_second:,.0f}",
                reached.transactions_per_second >= goals.transactions_per_second_min,
                "one engine on this machine, log and store included",
            )
        )
    return Scorecard(tuple(rows))


def _rules(rules: int) -> ScorecardRow:
    """The figures are the model's alone; a row about the rules makes that clear."""
    return ScorecardRow(
        "Rules beside the model", "–", f"{rules} may act", None,
        "The figures above are of the model's thresholds alone, without what rules stop or allow.",
    )  # fmt: skip


def _precision(precision: float) -> ScorecardRow:
    reached = "nothing was stopped" if math.isnan(precision) else f"{precision:.1%}"
    return ScorecardRow("Precision of what is stopped", "–", reached, None)


def _reviews(goals: Goals, reached: Reached) -> ScorecardRow:
    """The analysts' day: within their capacity, if it is set."""
    most = goals.reviews_per_day_max
    count = f"{reached.reviews_per_day:,.0f}"
    if most is None:
        hint = (
            "No capacity is set (ZASLON_REVIEWS_PER_DAY_MAX); where one is, the surest are blocked instead."
        )
        return ScorecardRow("Reviews on an average day", "not set", count, None, hint)
    met = round(reached.reviews_per_day) <= most
    comment = "" if met else _before(reached.reviews_per_day_before, ",.0f")
    return ScorecardRow("Reviews on an average day", f"≤ {most:,}", count, met, comment)


def _before(value: float | None, form: str) -> str:
    """Why a limit that thresholds are chosen by is not kept."""
    if value is None:
        return ""
    return (
        f"On the validation period, by which thresholds are judged, it was {value:{form}}; "
        "these days are later ones."
    )


def _why_out_of_reach(goals: Goals, reached: Reached) -> str:
    parts = []
    if reached.unseeable_share is not None and reached.unseeable_share > goals.missed_frauds_max:
        parts.append(
            f"{reached.unseeable_share:.1%} of the frauds had no evidence when they happened: an "
            f"ordinary amount, and no fraud of the same {' or '.join(reached.entities)} known yet."
        )
    if reached.recall_at_least_delay is not None:
        delay, recall = reached.recall_at_least_delay
        if recall > reached.recall:
            when = "at once" if delay.startswith("0 ") else f"after {delay}"
            parts.append(f"With labels {when}, {1 - recall:.1%} would be missed.")
    return " ".join(parts) or "See the report for which frauds are missed."


def unseeable_share(
    known_frauds: Sequence[NDArray[np.float32]],
    ordinary: NDArray[np.bool_],
    weight: NDArray[np.float32],
) -> float:
    """Weighted share of frauds without evidence: an ordinary amount and no known fraud anywhere.

    Args:
        known_frauds: float32[n] for each entity, frauds known when the fraud happened.
        ordinary: bool[n], whether its amount was ordinary for the customer.
        weight: float32[n].
    """
    blind = ordinary.copy()
    for known in known_frauds:
        blind &= ~(known > 0)
    total = float(weight.sum())
    return float(weight[blind].sum()) / total if total else 0.0
