"""The verdict of a comparison: one rule, written down before anybody looks at the figures.

ROC-AUC decides, at 5 %. A model is better where the whole interval of the paired difference lies above 0 and
DeLong's test agrees, worse where both say the opposite. Everything else about a promotion is a guard, not a
second chance: with four measures, each tested at 5 %, one of them is "better" by luck far more often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from zaslon.models.comparison import ALPHA, Comparison, Measure
from zaslon.models.delong import error_needed, power

# An improvement of ROC-AUC that is worth finding, and with what probability a period must find it before its
# silence counts. 0.8 is the convention of study planning (Cohen, "Statistical power analysis", 1988).
RELEVANT_DIFFERENCE, POWER_WANTED = 0.02, 0.8
# Of the rarer class. With 30 the bootstrap's interval misses the truth in 10 % of samples, from 100 on in 5 %.
FRAUDS_MIN = 50
# Of single frauds that would say as much. With 26 the verdict errs in 7 % of samples, from 60 on in 5 %.
EFFECTIVE_MIN = 20
# An interval so many times as wide as that of single frauds is explained.
_WIDTH_NAMED = 1.1


class Verdict(StrEnum):
    """Whether the second of two models is better."""

    FIRST = "first"
    BETTER = "better"
    NOT_SHOWN = "not_shown"
    WORSE = "worse"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"


@dataclass(frozen=True)
class Judged:
    """A verdict with its reasons in words.

    `days_needed`: from how many days a comparison would find a relevant improvement, where these are not enough
    and that can be estimated.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    days_needed: int | None = None


def judge(found: Comparison) -> Judged:
    """The verdict on the second model of a comparison."""
    measured = _measured(found)
    rarer = min(found.frauds, found.transactions - found.frauds)
    together = _together(found)
    if rarer < FRAUDS_MIN or found.frauds_effective < EFFECTIVE_MIN:
        needed = _days_needed(found, rarer)
        count = f"{found.frauds:,} frauds among {found.transactions:,} transactions"
        reasons = (measured, *together, f"{count} are too few to compare on: {_would_do(needed)}")
        return Judged(Verdict.NOT_ENOUGH_EVIDENCE, reasons, needed)
    side = _side(found)
    if side:
        verdict, where = (Verdict.BETTER, "above") if side > 0 else (Verdict.WORSE, "below")
        why = f"The whole interval lies {where} 0, and DeLong's test agrees (p {found.delong.p:.2g})."
        return Judged(verdict, (measured, *together, why, *_against(found, side)))
    return _undecided(found, (measured, *together), rarer)


def _side(found: Comparison) -> int:
    """1 where the second model is better, -1 where it is worse, 0 where that is not shown."""
    difference = found.measures["roc_auc"].difference
    if not found.delong.p < ALPHA:
        return 0
    return int(difference.low > 0) - int(difference.high < 0)


def _undecided(found: Comparison, measured: tuple[str, ...], rarer: int) -> Judged:
    inside = "The interval holds 0"
    if found.measures["roc_auc"].p < ALPHA:
        inside = f"DeLong's test does not agree with the interval (p {found.delong.p:.2g})"
    elif found.delong.p < ALPHA:
        inside = "The interval holds 0, although DeLong's test is below 0.05"
    error = _error(found)
    chance = power(RELEVANT_DIFFERENCE, error, ALPHA) if error > 0 else 1.0
    finds = (
        f"an improvement of {RELEVANT_DIFFERENCE:g} would be found here with a probability of {chance:.0%}"
    )
    if chance >= POWER_WANTED:
        return Judged(Verdict.NOT_SHOWN, (*measured, f"{inside}; {finds}."))
    needed = _days_needed(found, rarer)
    reasons = (*measured, f"{inside}, but {finds} only: {_would_do(needed)}")
    return Judged(Verdict.NOT_ENOUGH_EVIDENCE, reasons, needed)


def _measured(found: Comparison) -> str:
    roc_auc = found.measures["roc_auc"]
    low, high = roc_auc.difference.low, roc_auc.difference.high
    return (
        f"ROC-AUC is {roc_auc.b:.4f} against {roc_auc.a:.4f}: a difference of {roc_auc.difference.value:+.4f} "
        f"({low:+.4f} to {high:+.4f})."
    )


def _together(found: Comparison) -> tuple[str, ...]:
    """That frauds share customers or terminals, where it makes the figures clearly less sure."""
    if found.delong.effect.width < _WIDTH_NAMED:
        return ()
    return (
        f"Frauds of the same customer or terminal come together: {found.frauds:,} say as much as "
        f"{found.frauds_effective:,.0f} single ones.",
    )


def _against(found: Comparison, side: int) -> tuple[str, ...]:
    """Measures that are surely different in the other direction."""
    names = {"pr_auc": "PR-AUC", "recall": "Recall", "loss_minor_per_month": "Loss"}
    return tuple(
        f"{text} says the opposite ({'higher' if measure.difference.value > 0 else 'lower'}, p {measure.p:.2g})."
        for name, text in names.items()
        if (measure := found.measures[name]).p < ALPHA and _gain(name, measure) * side < 0
    )


def _gain(name: str, measure: Measure) -> float:
    """The difference, positive where the second model is better."""
    return -measure.difference.value if name.startswith("loss") else measure.difference.value


def _error(found: Comparison) -> float:
    """The standard error that the normal distribution needs to say as much as Student's does with few groups."""
    return found.delong.standard_error * found.delong.effect.doubt


def _would_do(days_needed: int | None) -> str:
    if days_needed is None:
        return "how many days would be enough cannot be estimated."
    return f"about {days_needed:,} days would be enough."


def _days_needed(found: Comparison, rarer: int) -> int | None:
    """Days after which there are enough frauds and a relevant improvement is found as often as wanted.

    A standard error falls with the square root of the days.
    """
    if not rarer:
        return None
    times = max(FRAUDS_MIN / rarer, EFFECTIVE_MIN / found.frauds_effective)
    error = _error(found)
    if math.isfinite(error):
        times = max(times, (error / error_needed(RELEVANT_DIFFERENCE, POWER_WANTED, ALPHA)) ** 2)
    return max(found.days + 1, math.ceil(found.days * times))
