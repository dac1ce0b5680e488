"""Guards: what a challenger must keep before it may serve, whatever its ROC-AUC. Each has its number and its limit.

The comparison says which model ranks better. A guard says that the better one does no harm that ranking does not
show: too many good transactions stopped, probabilities that mean nothing, one segment paid for by the others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.models.metrics import Evaluation
from zaslon.models.model import Model

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

SEGMENT_ALPHA = 0.05  # for all segments together
SEGMENT_SHARE_MIN = 0.01  # of all frauds, or of all good transactions
_DRIFT_BINS = 10
_SHARE_MIN = 1e-4  # of a bin, so that an empty one does not make the index infinite
_ROUNDS, _ROWS_TIMED = 5, 100
SERVED_LOG_ODDS = 0.5  # between served and recomputed scores: odds that differ by two thirds
_PROBABILITY_MIN = 1e-6
TIMED = "score_us"  # the guard whose number differs each time it is measured


@dataclass(frozen=True)
class Guard:
    """One guard.

    Attributes:
        name: for machines.
        value: what was measured; None where there is nothing to measure, which passes.
        limit: the greatest value that passes.
        detail: the same for people, in one sentence.
    """

    name: str
    value: float | None
    limit: float
    detail: str

    @property
    def passed(self) -> bool:
        """Whether the value keeps the limit; one that is not a number does not."""
        return self.value is None or self.value <= self.limit

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values; a value that is not finite is null."""
        value = self.value if self.value is None or math.isfinite(self.value) else None
        return {**asdict(self), "value": value, "passed": self.passed}


def not_checked(guards: Sequence[Guard]) -> list[str]:
    """The names of those that had nothing to measure, and pass for that."""
    return [guard.name for guard in guards if guard.value is None]


@dataclass(frozen=True)
class Stops:
    """What one model with its policy's thresholds stops of n transactions: bool[n]."""

    challenger: Bool
    champion: Bool


def business_guards(
    challenger: Evaluation, champion: Evaluation | None, *,
    false_positive_rate_max: float, loss_minor_per_month_max: float,
) -> list[Guard]:  # fmt: skip
    """What the business allows. Where the champion loses more than that, its loss is the limit: waiting would not be better."""
    rate = challenger["false_positive_rate_at_review"]
    loss = challenger.money.lost.value
    limit, rate_max = loss_minor_per_month_max, false_positive_rate_max
    if champion is not None:
        limit = max(limit, champion.money.lost.value)
        rate_max = max(rate_max, champion["false_positive_rate_at_review"])
    return [
        Guard("false_positive_rate", rate, rate_max, f"{rate:.2%} of good transactions are stopped."),
        Guard("loss_minor_per_month", loss, limit, f"Frauds of {loss:,.0f} minor units a month are let through."),
    ]  # fmt: skip


def calibration_guard(challenger: Evaluation, ratio_max: float) -> Guard:
    """Expected frauds over actual ones, or the reverse, whichever is more; 1 is right."""
    ratio = challenger.expected_to_actual_frauds
    off = max(ratio, 1 / ratio) if ratio > 0 else math.inf
    return Guard("calibration", off, ratio_max, f"The scores promise {ratio:.2f} times the frauds that came.")


def segment_guards(
    segments: Mapping[str, Bool], is_fraud: NDArray[np.int8], weight: Float64, stops: Stops | None,
    *, drop_max: float, rise_max: float,
) -> list[Guard]:  # fmt: skip
    """The segment where the challenger finds the fewest frauds beside the champion, and where it stops the most.

    A segment may have few transactions, so a difference counts only where luck does not explain it: McNemar's exact
    test of those that exactly one of the two stops (1947), one-sided, at `SEGMENT_ALPHA` shared by all segments
    (Bonferroni). One with less than `SEGMENT_SHARE_MIN` of the frauds, or of the good transactions, is no segment
    that a model could be chosen by.

    Args:
        segments: bool[n] by name; they may overlap.
        is_fraud: int8[n].
        weight: float64[n].
        stops: of both models; None without a champion.
        drop_max: of the recall, 0 … 1.
        rise_max: of the share of good transactions stopped, 0 … 1.
    """
    if stops is None:
        nothing = "There is no champion to compare segments with."
        return [
            Guard("segment_recall", None, drop_max, nothing),
            Guard("segment_false_positives", None, rise_max, nothing),
        ]
    fraud = is_fraud == 1
    alpha = SEGMENT_ALPHA / max(1, len(segments))
    drops = {
        name: _drop(stops, segment & fraud, weight)
        for name, segment in segments.items()
        if _counts(segment, fraud, weight)
        and _is_shown(stops.champion, stops.challenger, segment & fraud, alpha)
    }
    rises = {
        name: -_drop(stops, segment & ~fraud, weight)
        for name, segment in segments.items()
        if _counts(segment, ~fraud, weight)
        and _is_shown(stops.challenger, stops.champion, segment & ~fraud, alpha)
    }
    return [
        _worst("segment_recall", drops, drop_max, "recall is lower than the champion's by"),
        _worst("segment_false_positives", rises, rise_max, "the share of good transactions stopped is higher by"),
    ]  # fmt: skip


def _counts(segment: Bool, of: Bool, weight: Float64) -> bool:
    return bool(weight[segment & of].sum() >= SEGMENT_SHARE_MIN * weight[of].sum())


def _drop(stops: Stops, of: Bool, weight: Float64) -> float:
    """By how much the challenger's share of stopped transactions is below the champion's."""
    total = float(weight[of].sum())
    if not total:
        return 0.0
    return float(weight[of & stops.champion].sum() - weight[of & stops.challenger].sum()) / total


def _is_shown(more: Bool, fewer: Bool, of: Bool, alpha: float) -> bool:
    """Whether the one stops more of these than the other, by more than luck explains."""
    from scipy.stats import binom  # noqa: PLC0415  only comparisons need it

    first = int(np.count_nonzero(of & more & ~fewer))
    second = int(np.count_nonzero(of & ~more & fewer))
    return bool(first + second) and float(binom.sf(first - 1, first + second, 0.5)) < alpha


def _worst(name: str, found: Mapping[str, float], limit: float, what: str) -> Guard:
    if not found or max(found.values()) <= 0:
        return Guard(name, 0.0, limit, "No segment is shown to be worse than with the champion.")
    segment, value = max(found.items(), key=lambda pair: pair[1])
    return Guard(name, value, limit, f"In the segment '{segment}' {what} {value:.1%}.")


def drift_guard(
    before: Float64, before_weight: Float64, now: Float64, now_weight: Float64, limit: float
) -> Guard:
    """The population stability index of the challenger's scores, from its validation period to the newest days.

    Ten bins that held equally many transactions before; the sum of (q - p) ln(q / p) over their shares (Siddiqi,
    "Credit Risk Scorecards", 2006, where over 0.25 is a changed population).

    Args:
        before, before_weight: float64[n], of the validation period.
        now, now_weight: float64[m].
        limit: of the index.
    """
    order = np.argsort(before, kind="stable")
    cumulated = np.cumsum(before_weight[order])
    at = np.searchsorted(cumulated, cumulated[-1] * np.arange(1, _DRIFT_BINS) / _DRIFT_BINS)
    edges = np.unique(before[order][at])
    p, q = (_shares(edges, *sample) for sample in ((before, before_weight), (now, now_weight)))
    index = float(np.sum((q - p) * np.log(q / p)))
    return Guard("score_drift", index, limit, f"The stability index of its scores is {index:.3f}.")


def _shares(edges: Float64, values: Float64, weight: Float64) -> Float64:
    found = np.bincount(np.searchsorted(edges, values), weight, len(edges) + 1)
    share: Float64 = np.maximum(found / found.sum(), _SHARE_MIN)
    return share


def speed_guard(model: Model, x: NDArray[np.float32], limit_us: float) -> Guard:
    """Microseconds of a processor that a transaction alone takes to be scored and explained: the least mean of some rounds.

    Processor time, because a model is no slower for what else the machine has to do.

    Args:
        model: the challenger.
        x: float32[n, F], at least one row.
        limit_us: microseconds.
    """
    rows = [x[i : i + 1] for i in range(min(len(x), _ROWS_TIMED))]
    means = []
    for _ in range(1 + _ROUNDS):  # the first one warms up
        begin = time.thread_time()
        for row in rows:
            model.score(row)
            model.contributions(row)
        means.append((time.thread_time() - begin) / len(rows) * 1e6)
    value = min(means[1:])
    return Guard(
        TIMED,
        value,
        limit_us,
        f"A transaction alone takes {value:.0f} µs of a processor to be scored and explained.",
    )


def size_guard(model: Model, limit_bytes: int) -> Guard:
    """Bytes of the artefact."""
    size = len(model.trees.encode()) + len(model.described())
    return Guard("model_bytes", float(size), float(limit_bytes), f"The artefact has {size:,} bytes.")


def integrity_guard(
    saved: Model | None, challenger: Model, x: NDArray[np.float32], problem: str = ""
) -> Guard:
    """Rows that the saved model scores differently, bit for bit; infinite where it cannot be read.

    Args:
        saved: as read from its directory; None where that failed.
        challenger: as it was judged.
        x: float32[n, F].
        problem: why it cannot be read.
    """
    if saved is None:
        return Guard("integrity", math.inf, 0.0, problem)
    different = float(np.count_nonzero(saved.score(x) != challenger.score(x)))
    return Guard(
        "integrity",
        different,
        0.0,
        f"The saved artefact scores {different:,.0f} of {len(x):,} rows differently.",
    )


def leak_guard(findings: Sequence[str]) -> Guard:
    """Features that know the answer, and other signs of a leak, as sentences."""
    detail = " ".join(findings) or "Nothing that the model learns from gives the answer away."
    return Guard("leaks", float(len(findings)), 0.0, detail)


def age_guard(learned_until_day: int, champion_learned_until_day: int | None) -> Guard:
    """Days by which the challenger's knowledge ends before the champion's. Arguments are day numbers."""
    if champion_learned_until_day is None:
        return Guard("age_days", None, 0.0, "There is no champion to be older than.")
    behind = max(0, champion_learned_until_day - learned_until_day)
    detail = "It has learned from days as new as the champion's." if not behind else (
        f"The days that it learned from end {behind} days before the champion's."
    )  # fmt: skip
    return Guard("age_days", float(behind), 0.0, detail)


def rollback_guard(times: int) -> Guard:
    """How often people went back from this very model to another one."""
    detail = (
        "Nobody has rolled it back."
        if not times
        else "It was rolled back before: only a person may promote it."
    )
    return Guard("rolled_back", float(times), 0.0, detail)


def parity_guard(served: Float64, recomputed: Float64, share_max: float) -> Guard:
    """Decisions whose served score differs clearly from the one that the clean data give.

    They differ where transactions or labels reached the engine in another order or at other times than the clean
    data say, or not at all: then a model learns from other features than it will be served. Most scores are near 0,
    so log-odds are compared. Labels that came an hour earlier or later than training assumes move them a little.

    Args:
        served, recomputed: float64[n], 0 … 1, scores of the champion for the same transactions.
        share_max: of the decisions, 0 … 1.
    """
    if not len(served):
        nothing = (
            "Not checked: no decision of the champion about these transactions is in this home's own log or in the "
            "archive, which `zaslon store archive` fills, also from a stream."
        )
        return Guard("served_parity", None, share_max, nothing)
    differs = np.abs(_log_odds(served) - _log_odds(recomputed)) > SERVED_LOG_ODDS
    share = float(np.mean(differs))
    detail = f"{share:.1%} of {len(served):,} served scores differ from those of the clean data."
    return Guard("served_parity", share, share_max, detail)


def _log_odds(probability: Float64) -> Float64:
    inside = np.clip(probability, _PROBABILITY_MIN, 1 - _PROBABILITY_MIN)
    found: Float64 = np.log(inside / (1 - inside))
    return found
