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

from zaslon.domain.estimates import Estimate, trials_needed
from zaslon.domain.money import whole_text

_SHARE_NAMED = 0.8  # of the frauds: fewer effective ones are explained
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
        frauds_effective: as many single frauds would say as much about recall; frauds of one customer or terminal
            come together.
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
    frauds_effective: float
    transactions: int
    days: int
    recall: Estimate
    precision: Estimate
    false_positive_rate: Estimate
    roc_auc: Estimate
    loss_minor_per_month: Estimate
    reviews_per_day: Estimate
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

    `status` is None without a target or a measurement. `frauds` and `transactions` are how many the figure
    is based on, `frauds_effective` as many single frauds say as much about recall. `days_needed`: of a goal
    that is not shown, after how many days it would be, if that can be estimated.
    """

    goal: str
    target: str
    reached: str
    status: Status | None
    frauds: int
    frauds_effective: float
    transactions: int
    comment: str = ""
    days_needed: int | None = None


@dataclass(frozen=True)
class Scorecard:
    """All goals of a period."""

    rows: tuple[ScorecardRow, ...]

    def to_json_dict(self) -> list[dict[str, Any]]:
        """Plain values."""
        return [asdict(row) for row in self.rows]


def make_scorecard(goals: Goals, reached: Reached, *, currency: str, minor_digits: int) -> Scorecard:
    """Compare what was reached with the goals; a goal that was missed names the cause."""
    rows = [
        *_of_rates(goals, reached),
        _of_loss(goals, reached, currency, minor_digits),
        _of_reviews(goals, reached),
        _row(reached, "Precision of what is stopped", "–", _precision(reached.precision)),
        _row(reached, "ROC-AUC", "–", _display_text(reached.roc_auc, ".3f")),
    ]
    if reached.rules:
        rows.append(_of_rules(reached))
    if reached.transactions_per_second is not None:
        rows.append(_of_speed(goals, reached, reached.transactions_per_second))
    return Scorecard(tuple(rows))


def _row(
    reached: Reached, goal: str, target: str, figure: str, status: Status | None = None, comment: str = "",
    days_needed: int | None = None,
) -> ScorecardRow:  # fmt: skip
    return ScorecardRow(
        goal,
        target,
        figure,
        status,
        reached.frauds,
        reached.frauds_effective,
        reached.transactions,
        comment,
        days_needed,
    )


def _of_rates(goals: Goals, reached: Reached) -> tuple[ScorecardRow, ScorecardRow]:
    missed, missed_max = _complement(reached.recall), goals.missed_frauds_max
    stopped, stopped_max = reached.false_positive_rate, goals.false_positive_rate_max
    good = reached.transactions - reached.frauds
    return (
        _row(
            reached, "Frauds missed", f"≤ {missed_max:.1%}", _display_text(missed, ".1%"),
            *_judged(
                missed, missed_max, reached, _why_out_of_reach(goals, reached),
                _days_for_rate(missed, missed_max, reached.frauds_effective, reached.days),
            ),
        ),
        _row(
            reached, "Good transactions stopped", f"≤ {stopped_max:.1%}", _display_text(stopped, ".2%"),
            *_judged(
                stopped, stopped_max, reached, _before(reached.false_positive_rate_before, ".2%"),
                _days_for_rate(stopped, stopped_max, good, reached.days),
            ),
        ),
    )  # fmt: skip


def _of_loss(goals: Goals, reached: Reached, currency: str, minor_digits: int) -> ScorecardRow:
    loss, most = reached.loss_minor_per_month, goals.loss_minor_per_month_max

    def money(minor: float) -> str:
        return whole_text(round(minor), minor_digits)

    figure = f"{money(loss.value)} {currency}"
    if _has_interval(loss):
        figure += f" ({money(loss.low)} to {money(loss.high)})"
    is_missed = _status(_complement(reached.recall), goals.missed_frauds_max) == Status.NOT_MET
    why = "The same frauds that are missed above." if is_missed else _why_out_of_reach(goals, reached)
    days = _days_for_mean(loss, most, reached.days)
    return _row(
        reached, "Customers' loss in 30 days", f"≤ {money(most)} {currency}", figure,
        *_judged(loss, most, reached, why, days),
    )  # fmt: skip


def _of_reviews(goals: Goals, reached: Reached) -> ScorecardRow:
    """The analysts' day: within their capacity, if it is set."""
    name, most, reviews = "Reviews on an average day", goals.reviews_per_day_max, reached.reviews_per_day
    if most is None:
        hint = (
            "No capacity is set (ZASLON_REVIEWS_PER_DAY_MAX); where one is, the surest are blocked instead."
        )
        return _row(reached, name, "not set", _display_text(reviews, ",.0f"), None, hint)
    judged = _judged(
        reviews, most, reached, _before(reached.reviews_per_day_before, ",.0f"),
        _days_for_mean(reviews, most, reached.days),
    )  # fmt: skip
    return _row(reached, name, f"≤ {most:,}", _display_text(reviews, ",.0f"), *judged)


def _of_rules(reached: Reached) -> ScorecardRow:
    """The figures are the model's alone; a row about the rules makes that clear."""
    return _row(
        reached, "Rules beside the model", "–", f"{reached.rules} may act", None,
        "The figures above are of the model's thresholds alone, without what rules stop or allow.",
    )  # fmt: skip


def _of_speed(goals: Goals, reached: Reached, per_second: float) -> ScorecardRow:
    is_fast = per_second >= goals.transactions_per_second_min
    return _row(
        reached, "Transactions decided per second", f"≥ {goals.transactions_per_second_min:.0f}",
        f"{per_second:,.0f}", Status.MET if is_fast else Status.NOT_MET,
        "one engine on this machine, log and store included",
    )  # fmt: skip


def _complement(share: Estimate) -> Estimate:
    return Estimate(1 - share.value, 1 - share.high, 1 - share.low)


def _has_interval(measured: Estimate) -> bool:
    return math.isfinite(measured.low) and math.isfinite(measured.high)


def _status(measured: Estimate, most: float) -> Status:
    """Where the whole interval lies; without one nothing is shown."""
    if not _has_interval(measured):
        return Status.NOT_SHOWN
    if measured.high <= most + _ROUNDING:
        return Status.MET
    return Status.NOT_MET if measured.low > most + _ROUNDING else Status.NOT_SHOWN


def _judged(
    measured: Estimate, most: float, reached: Reached, why: str, days: int | None
) -> tuple[Status, str, int | None]:
    """The status of a goal, the comment on it, and after how many days it would be shown."""
    status = _status(measured, most)
    if status == Status.MET:
        return status, "", None
    if status == Status.NOT_MET:
        return status, why, None
    count = f"{reached.frauds:,} frauds in {reached.days} days are too few to decide"
    if reached.frauds_effective < _SHARE_NAMED * reached.frauds:
        count = (
            f"{reached.frauds:,} frauds in {reached.days} days, which say as much as "
            f"{reached.frauds_effective:,.0f} single ones because they share customers or terminals, are too few "
            "to decide"
        )
    if days is None:
        return status, f"{count}: it is at the limit.", None
    return status, f"{count}: about {days:,} days would.", days


def _days_for_rate(rate: Estimate, most: float, trials: float, days: int) -> int | None:
    """After how many days the same rate would lie clear of the limit; None where it is at the limit."""
    needed = trials_needed(rate.value, most, trials) if trials else None
    return None if needed is None else max(days + 1, math.ceil(days * needed / trials))


def _days_for_mean(mean: Estimate, most: float, days: int) -> int | None:
    """The same of a mean: its interval becomes narrower with the square root of the days.

    That of nothing at all, such as no loss, becomes narrower with the days themselves.
    """
    distance = abs(most - mean.value)
    if not _has_interval(mean) or distance <= _ROUNDING:
        return None
    half = mean.high - mean.value if mean.value <= most else mean.value - mean.low
    times = half / distance
    return max(days + 1, math.ceil(days * (times if mean.value == 0 else times**2) - _ROUNDING))


def _display_text(measured: Estimate, form: str) -> str:
    """A figure with its interval."""
    if not _has_interval(measured):
        return f"{measured.value:{form}}"
    return f"{measured.value:{form}} ({measured.low:{form}} to {measured.high:{form}})"


def _precision(precision: Estimate) -> str:
    return "nothing was stopped" if math.isnan(precision.value) else _display_text(precision, ".1%")


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
