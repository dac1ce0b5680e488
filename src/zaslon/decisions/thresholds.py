"""Thresholds from expected loss under the business limits.

A choice is a pair of cuts through the transactions ordered by score: those above the first are
reviewed, those above the second blocked. Its cost is

    amounts of missed frauds + reviews · review_minor + blocked good transactions · blocked_good_minor

The cheapest pair that keeps all limits is taken. Where no pair keeps them all, the
false-positive limit and the analysts' capacity are kept, the recall is the greatest that they
allow, with the fewest stopped transactions at that recall and then the least cost; the report
names each limit that is not reached, and by how much. Reviewing and blocking both stop a fraud:
an analyst is taken to see it. (Elkan, "The foundations of cost-sensitive learning", IJCAI 2001,
for thresholds from costs; the limits are our own addition.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.decisions.policy import Costs, Thresholds
from zaslon.decisions.wording import percent_text
from zaslon.domain.errors import DataError
from zaslon.domain.money import whole_text
from zaslon.domain.time import days_spanned
from zaslon.system.compiled import compiled

DAYS_PER_MONTH = 30  # as in the business limits: thirty days, so that months compare

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """What the business allows.

    Attributes:
        false_positive_rate_max: share of good transactions that are stopped (reviewed or blocked).
        missed_frauds_max: share of frauds that are allowed.
        loss_minor_per_month_max: money of missed frauds in 30 days, minor units.
        reviews_per_day_max: what the analysts can look at on an average day; None: no limit.
    """

    false_positive_rate_max: float = 0.05
    missed_frauds_max: float = 0.02
    loss_minor_per_month_max: int = 50_000_000
    reviews_per_day_max: int | None = None


@dataclass(frozen=True)
class LimitReached:
    """One business limit, what was reached, and whether that keeps it.

    `limit` and `reached` are a share, minor units in 30 days, or reviews a day, by `name`.
    `sentence` is the same in words; for a limit that is not met, by how much it is missed.
    """

    name: str
    limit: float
    reached: float
    is_kept: bool
    sentence: str


@dataclass(frozen=True)
class ChosenThresholds:
    """The chosen thresholds and what they do to the transactions that they were chosen on.

    Attributes:
        review, block: a score from here on is reviewed or blocked; `inf` for never.
        recall: share of frauds stopped; `recall_by_amount` the same by money.
        precision: share of stopped transactions that are frauds; NaN where none is stopped.
        false_positive_rate: share of good transactions stopped.
        loss_minor_per_month: amounts of missed frauds, in 30 days.
        reviews_per_day, blocks_per_day: on an average day from the first to the last in the data.
        cost_minor_per_month: the loss and what stopping costs, in 30 days.
        limits: each limit, kept or not.
    """

    review: float
    block: float
    recall: float
    recall_by_amount: float
    precision: float
    false_positive_rate: float
    loss_minor_per_month: float
    reviews_per_day: float
    blocks_per_day: float
    cost_minor_per_month: float
    limits: tuple[LimitReached, ...]

    @property
    def not_kept(self) -> tuple[LimitReached, ...]:
        """The limits that these data do not allow to keep."""
        return tuple(limit for limit in self.limits if not limit.is_kept)

    def report(self) -> Mapping[str, object]:
        """Plain values for JSON; limits that are not reached are listed."""
        values: dict[str, object] = {
            name: (value if not isinstance(value, float) or math.isfinite(value) else None)
            for name, value in vars(self).items()
            if name != "limits"
        }
        values["limits"] = [vars(limit) for limit in self.limits]
        values["not_kept"] = [limit.name for limit in self.not_kept]
        return values


def choose_thresholds(
    score: Float64,
    is_fraud: NDArray[np.bool_],
    amount_minor: NDArray[np.int64],
    weight: Float64,
    event_time_seconds: NDArray[np.int64],
    limits: Limits,
    costs: Costs,
    *,
    minor_digits: int = 2,
    stated: Thresholds | None = None,
) -> ChosenThresholds:
    """The thresholds of least expected cost under `limits`, chosen on validation data.

    Transactions of equal score are never separated, so their order does not matter. One sort and a
    few passes: about 0.4 s a million transactions.

    Args:
        score: float64[n], probability of fraud.
        is_fraud: bool[n], the truth.
        amount_minor: int64[n].
        weight: float64[n], how many transactions each represents (1 without sampling).
        event_time_seconds: int64[n]; the days from the first to the last turn sums into rates.
        limits, costs: of the policy.
        minor_digits: of the currency, for the sentences.
        stated: thresholds that somebody has decided on: they are kept, and described.

    Raises:
        DataError: no frauds or no good transactions, a score that is not a probability, a weight
            that is not positive, or arrays of different lengths.
    """
    _check_lengths(score, is_fraud, amount_minor, weight, event_time_seconds)
    _check_values(score, is_fraud, amount_minor, weight)
    days = days_spanned(event_time_seconds.min(), event_time_seconds.max())
    cuts = _cuts(score, is_fraud, amount_minor, weight)
    if stated is None:
        review, block = _best_cuts(cuts, days, limits, costs)
        return _described(cuts, review, block, days, limits, costs, minor_digits)
    review, block = (_cut_at(cuts, threshold) for threshold in (stated.review, stated.block))
    described = _described(cuts, review, block, days, limits, costs, minor_digits)
    return replace(described, review=stated.review, block=stated.block)


def _cut_at(cuts: _Cuts, threshold: float) -> int:
    """The cut below the last score that reaches a threshold."""
    return int(np.searchsorted(-cuts.threshold, -threshold, side="right")) - 1


@dataclass(frozen=True)
class _Cuts:
    """Sums over the transactions above each possible cut, k+1 of them for k different scores.

    Cut 0 is above all scores, cut j just below the j-th highest; sums are weighted.
    """

    threshold: Float64
    good: Float64
    fraud: Float64
    fraud_minor: Float64

    @property
    def stopped(self) -> Float64:
        return self.good + self.fraud


def _cuts(
    score: Float64, is_fraud: NDArray[np.bool_], amount_minor: NDArray[np.int64], weight: Float64
) -> _Cuts:
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))

    def above(values: Float64) -> Float64:
        return np.concatenate(([0.0], np.cumsum(values[order])[last]))

    fraud = np.where(is_fraud, weight, 0.0)
    return _Cuts(
        np.concatenate(([math.inf], ordered[last])),
        above(np.where(is_fraud, 0.0, weight)),
        above(fraud),
        above(fraud * amount_minor),
    )


def _best_cuts(cuts: _Cuts, days: int, limits: Limits, costs: Costs) -> tuple[int, int]:
    """Which cut to review from and which to block from.

    Sums only grow with the cut, so the limits leave a range of review cuts. Within it the cost
    is a sum of a term of the review cut and one of the block cut; the analysts' capacity bounds
    the block cut from below, hence the sliding minimum.
    """
    months = days / DAYS_PER_MONTH
    loss = cuts.fraud_minor[-1] - cuts.fraud_minor
    missed = (cuts.fraud[-1] - cuts.fraud) / cuts.fraud[-1]
    allowed = cuts.good / cuts.good[-1] <= limits.false_positive_rate_max
    enough = (missed <= limits.missed_frauds_max) & (loss / months <= limits.loss_minor_per_month_max)
    last = int(np.flatnonzero(allowed)[-1])
    first = int(np.argmax(enough))  # the last cut misses nothing, so there is one
    if first > last:
        first = last = int(np.argmax(cuts.fraud == cuts.fraud[last]))
    capacity = math.inf if limits.reviews_per_day_max is None else limits.reviews_per_day_max * days
    of_review = loss + costs.review_minor * cuts.stopped
    of_block = costs.blocked_good_minor * cuts.good - costs.review_minor * cuts.stopped
    queue = np.empty(last + 1, np.int64)
    return _cheapest_pair(of_review, of_block, cuts.stopped, capacity, first, last, queue)


@compiled
def _cheapest_pair(
    of_review: Float64, of_block: Float64, stopped: Float64, capacity: float, first: int, last: int,
    queue: NDArray[np.int64],
) -> tuple[int, int]:  # fmt: skip
    """The pair (review, block) of least of_review[review] + of_block[block].

    For first <= review <= last, block <= review, stopped[review] - stopped[block] <= capacity.
    The earliest pair wins a tie. `queue`, scratch of last + 1, holds block cuts of growing cost, as in
    the usual sliding-window minimum, so the whole takes one pass.
    """
    head, tail = 0, 0
    best_review, best_block, best_cost = first, first, np.inf
    for review in range(last + 1):
        while tail > head and of_block[queue[tail - 1]] > of_block[review]:
            tail -= 1
        queue[tail] = review
        tail += 1
        while stopped[review] - stopped[queue[head]] > capacity:
            head += 1
        cost = of_review[review] + of_block[queue[head]]
        if review >= first and cost < best_cost:
            best_review, best_block, best_cost = review, queue[head], cost
    return best_review, best_block


def _described(
    cuts: _Cuts, review: int, block: int, days: int, limits: Limits, costs: Costs, minor_digits: int
) -> ChosenThresholds:
    months = days / DAYS_PER_MONTH
    loss = float(cuts.fraud_minor[-1] - cuts.fraud_minor[review])
    reviewed = float(cuts.stopped[review] - cuts.stopped[block])
    blocked_good, stopped = float(cuts.good[block]), float(cuts.stopped[review])
    cost = loss + costs.review_minor * reviewed + costs.blocked_good_minor * blocked_good
    money = float(cuts.fraud_minor[-1])
    return ChosenThresholds(
        review=float(cuts.threshold[review]),
        block=float(cuts.threshold[block]),
        recall=float(cuts.fraud[review] / cuts.fraud[-1]),
        recall_by_amount=float(cuts.fraud_minor[review]) / money if money else 1.0,
        precision=float(cuts.fraud[review]) / stopped if stopped else math.nan,
        false_positive_rate=float(cuts.good[review] / cuts.good[-1]),
        loss_minor_per_month=loss / months,
        reviews_per_day=reviewed / days,
        blocks_per_day=float(cuts.stopped[block]) / days,
        cost_minor_per_month=cost / months,
        limits=_limits_reached(cuts, review, block, days, limits, minor_digits),
    )


def _limits_reached(
    cuts: _Cuts, review: int, block: int, days: int, limits: Limits, minor_digits: int
) -> tuple[LimitReached, ...]:
    months = days / DAYS_PER_MONTH
    good_share = cuts.good / cuts.good[-1]
    missed = (cuts.fraud[-1] - cuts.fraud) / cuts.fraud[-1]
    loss = (cuts.fraud_minor[-1] - cuts.fraud_minor) / months
    stopped = float(good_share[review])

    def money(minor: float) -> str:
        return whole_text(minor, minor_digits)

    def sought(name: str, values: Float64, most: float, sentence: str, excess: str) -> LimitReached:
        """A limit that needs enough stopped: what else it would take, where it is not kept."""
        is_kept = bool(values[review] <= most)
        if not is_kept:
            price = percent_text(float(good_share[int(np.argmax(values <= most))]))
            sentence += f", {excess} less; it would take stopping {price} of good transactions"
        return LimitReached(name, most, float(values[review]), is_kept, sentence + ".")

    most_missed, most_loss = limits.missed_frauds_max, float(limits.loss_minor_per_month_max)
    reached = [
        LimitReached(
            "false_positive_rate_max", limits.false_positive_rate_max, stopped,
            stopped <= limits.false_positive_rate_max,
            f"{percent_text(stopped)} of good transactions are stopped; at most"
            f" {percent_text(limits.false_positive_rate_max)} is allowed.",
        ),
        sought(
            "missed_frauds_max", missed, most_missed,
            f"{percent_text(float(missed[review]))} of frauds are missed; at most"
            f" {percent_text(most_missed)} is wanted",
            f"{100 * (missed[review] - most_missed):.1f} percentage points",
        ),
        sought(
            "loss_minor_per_month_max", loss, most_loss,
            f"{money(loss[review])} is lost in {DAYS_PER_MONTH} days; at most {money(most_loss)}"
            " is wanted",
            money(loss[review] - most_loss),
        ),
    ]  # fmt: skip
    if (most := limits.reviews_per_day_max) is not None:
        reviews = float(cuts.stopped[review] - cuts.stopped[block]) / days
        sentence = f"{reviews:.1f} reviews a day; the analysts have time for {most}."
        # Sums of weights: a rounding error must not count as a review too many.
        reached.append(LimitReached("reviews_per_day_max", most, reviews, reviews <= most + 1e-6, sentence))
    return tuple(reached)


def _check_lengths(*columns: NDArray[Any]) -> None:
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise DataError(
            f"Thresholds cannot be chosen: the columns have different lengths ({sorted(lengths)})."
        )


def _check_values(
    score: Float64, is_fraud: NDArray[np.bool_], amount_minor: NDArray[np.int64], weight: Float64
) -> None:
    if not is_fraud.any() or is_fraud.all():
        what = "no fraud" if not is_fraud.any() else "no good transaction"
        raise DataError(
            f"Thresholds cannot be chosen: {what} among {len(score)} transactions.",
            hint="Take a longer validation period.",
        )
    if not ((score >= 0) & (score <= 1)).all():
        raise DataError("Thresholds cannot be chosen: a score is not between 0 and 1.")
    if not ((weight > 0) & np.isfinite(weight)).all():
        raise DataError("Thresholds cannot be chosen: a weight is not a positive number.")
    if (amount_minor < 0).any():
        raise DataError("Thresholds cannot be chosen: an amount is negative.")
