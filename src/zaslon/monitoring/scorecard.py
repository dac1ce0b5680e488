"""The scorecard: each business goal, its target, what was reached, and why where it was not.

A goal is met or not met where the whole 95 % interval lies on one side of the target; else it is not
shown: the frauds were too few to decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.estimates import Estimate
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
        frauds, transactions: how many of each all figures are based on, not weighted; `days` in how many days.
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

    frauds: int
    transactions: int
    days: int
    recall: Estimate
    precision: Estimate
    false_positive_rate: Estimate
    roc_auc: Estimate
    loss_minor_per_month: Estimate
    reviews_per_day: float
    unseeable_share: float | None = None
    entities: tuple[str, ...] = ()
    false_positive_rate_before: float | None = None
    reviews_per_day_before: float | None = None
    recall_at_least_delay: tuple[str, float] | None = None
    rules: int = 0
    transactions_per_second: float | None = None


class Status(StrEnum):
    """Whether a goal is reached."""

    MET = "met"
    NOT_MET = "not_met"
    NOT_SHOWN = "not_shown"


@dataclass(frozen=True)
class ScorecardRow:
    """One goal as it is printed.

    `status` is None without a target or a measurement. `frauds` and `transactions` are how many the
    figure is based on.
    """

    goal: str
    target: str
    reached: str
    status: Status | None
    frauds: int
    transactions: int
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
    missed = _complement(reached.recall)
    loss, loss_max = reached.loss_minor_per_month, goals.loss_minor_per_month_max
    of_missed = _status(missed, goals.missed_frauds_max)
    of_stopped = _status(reached.false_positive_rate, goals.false_positive_rate_max)
    of_loss = _status(loss, loss_max)
    why = _why_out_of_reach(goals, reached)
    before = _before(reached.false_positive_rate_before, ".2%")

    def row(
        goal: str, target: str, figure: str, status: Status | None = None, comment: str = ""
    ) -> ScorecardRow:
        return ScorecardRow(goal, target, figure, status, reached.frauds, reached.transactions, comment)

    def money(minor: float) -> str:
        return whole_text(round(minor), minor_digits)

    rows = [
        row(
            "Frauds missed", f"≤ {goals.missed_frauds_max:.1%}", _shown(missed, ".1%"), of_missed,
            _comment(of_missed, why, missed, goals.missed_frauds_max, reached),
        ),
        row(
            "Good transactions stopped", f"≤ {goals.false_positive_rate_max:.1%}",
            _shown(reached.false_positive_rate, ".2%"), of_stopped,
            _comment(
                of_stopped, before, reached.false_positive_rate, goals.false_positive_rate_max, reached
            ),
        ),
        row(
            "Customers' loss in 30 days", f"≤ {money(loss_max)} {currency}",
            f"{money(loss.value)} {currency} ({money(loss.low)} to {money(loss.high)})"
            if math.isfinite(loss.low) else f"{money(loss.value)} {currency}",
            of_loss,
            _comment(
                of_loss, "The same frauds that are missed above." if of_missed == Status.NOT_MET else why,
                loss, loss_max, reached,
            ),
        ),
        row(*_reviews(goals, reached)),
        row("Precision of what is stopped", "–", _precision(reached.precision)),
        row("ROC-AUC", "–", _shown(reached.roc_auc, ".3f")),
    ]  # fmt: skip
    if reached.rules:
        rows.append(row(*_rules(reached.rules)))
    if reached.transactions_per_second is not None:
        is_fast = reached.transactions_per_second >= goals.transactions_per_second_min
        rows.append(
            row(
                "Transactions decided per second", f"≥ {goals.transactions_per_second_min:.0f}",
                f"{reached.transactions_per_second:,.0f}", Status.MET if is_fast else Status.NOT_MET,
                "one engine on this machine, log and store included",
            )
        )  # fmt: skip
    return Scorecard(tuple(rows))


def _complement(share: Estimate) -> Estimate:
    return Estimate(1 - share.value, 1 - share.high, 1 - share.low)


def _status(measured: Estimate, most: float) -> Status:
    """Where the interval lies; where there is none, where the figure does."""
    low, high = measured.low, measured.high
    if not math.isfinite(low) or not math.isfinite(high):
        low = high = measured.value
    if high <= most + _ROUNDING:
        return Status.MET
    return Status.NOT_MET if low > most + _ROUNDING else Status.NOT_SHOWN


def _comment(status: Status, why: str, measured: Estimate, most: float, reached: Reached) -> str:
    if status == Status.MET:
        return ""
    if status == Status.NOT_MET:
        return why
    count = f"{reached.frauds:,} frauds in {reached.days} days are too few to decide"
    days = _days_to_tell(measured, most, reached.days)
    return f"{count}: about {days:,} days would." if days else f"{count}: it is at the limit."


def _days_to_tell(measured: Estimate, most: float, days: int) -> int | None:
    """After how many days the same figure would lie clear of the limit; None where it is at the limit.

    An interval becomes narrower with the square root of the days.
    """
    distance = abs(most - measured.value)
    half = (measured.high if measured.value <= most else 2 * measured.value - measured.low) - measured.value
    if distance <= _ROUNDING:
        return None
    return max(days + 1, math.ceil(days * (half / distance) ** 2 - _ROUNDING))


def _shown(measured: Estimate, form: str) -> str:
    """A figure with its interval."""
    if not math.isfinite(measured.low):
        return f"{measured.value:{form}}"
    return f"{measured.value:{form}} ({measured.low:{form}} to {measured.high:{form}})"


def _rules(rules: int) -> tuple[str, str, str, None, str]:
    """The figures are the model's alone; a row about the rules makes that clear."""
    return (
        "Rules beside the model", "–", f"{rules} may act", None,
        "The figures above are of the model's thresholds alone, without what rules stop or allow.",
    )  # fmt: skip


def _precision(precision: Estimate) -> str:
    return "nothing was stopped" if math.isnan(precision.value) else _shown(precision, ".1%")


def _reviews(goals: Goals, reached: Reached) -> tuple[str, str, str, Status | None, str]:
    """The analysts' day: within their capacity, if it is set."""
    name, most = "Reviews on an average day", goals.reviews_per_day_max
    count = f"{reached.reviews_per_day:,.0f}"
    if most is None:
        hint = (
            "No capacity is set (ZASLON_REVIEWS_PER_DAY_MAX); where one is, the surest are blocked instead."
        )
        return name, "not set", count, None, hint
    is_met = round(reached.reviews_per_day) <= most
    comment = "" if is_met else _before(reached.reviews_per_day_before, ",.0f")
    return name, f"≤ {most:,}", count, Status.MET if is_met else Status.NOT_MET, comment


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
        if recall > reached.recall.value:
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
