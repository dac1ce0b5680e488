"""Frauds that belong together count for fewer than as many single ones.

A stolen card pays ten times and a tampered terminal takes a hundred cards: one event, on which a model is right or
wrong as a whole. By how much the frauds that share an entity make a figure less sure is its design effect (Kish,
"Survey Sampling", 1965). Frauds may share one of several entities, so it is taken from the multiway variance of
Cameron, Gelbach and Miller, "Robust inference with multiway clustering", JBES 2011.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.estimates import Estimate
from zaslon.domain.events import NO_KEY
from zaslon.models.intervals import student, student_p
from zaslon.models.ranking import FALSE_POSITIVE_RATES, Ranking, fraud_parts, threshold_at

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Who has more of the good transactions is a country or a payment provider, not one event: frauds of it come again
# next month, and both models will meet them.
LARGEST_SHARE = 0.05
# How groups differ cannot be seen in fewer: the frauds of a single one always differ from each other only.
GROUPS_MIN = 2
# Every set of entities costs a sort of the frauds: 31 sets of five.
ENTITIES_MAX = 5


@dataclass(frozen=True)
class DesignEffect:
    """How much less sure a figure is than one of as many single frauds.

    Attributes:
        variance: how many times its variance is as large, 1 or more.
        degrees: of freedom of Student's distribution, which stands for the normal one with few groups.
    """

    variance: float = 1.0
    degrees: float = math.inf

    @property
    def width(self) -> float:
        """How many times an interval is as wide."""
        return math.sqrt(self.variance) * self.doubt

    @property
    def doubt(self) -> float:
        """How many times as wide it is because few groups say little about their own variance."""
        return student(self.degrees) / student(math.inf)

    def widened(self, single: Estimate, least: float = -math.inf, most: float = math.inf) -> Estimate:
        """The estimate with an interval for grouped frauds, from one for single ones; none passes its limits."""
        value, width = single.value, self.width
        if width == 1:
            return single
        low, high = value - width * (value - single.low), value + width * (single.high - value)
        return Estimate(value, max(least, low), min(most, high))

    def p(self, widened: Estimate) -> float:
        """Two-sided p of the hypothesis that the truth is 0: below 0.05 where the interval does not hold it."""
        half = widened.value - widened.low if widened.value > 0 else widened.high - widened.value
        if not half > 0:
            return 0.0 if widened.value else 1.0
        return student_p(student(self.degrees) * widened.value / half, self.degrees)


SINGLE = DesignEffect()  # of frauds that share nothing


def fraud_groups(entity_keys: Int64, is_fraud: NDArray[np.int8]) -> Int64:
    """int64[frauds, entities]: for each fraud and entity a number that only frauds of the same one share.

    Args:
        entity_keys: int64[n, entities] of all transactions, `NO_KEY` where a transaction has none.
        is_fraud: int8[n], 0 or 1.
    """
    fraud = is_fraud == 1
    groups = np.empty((int(fraud.sum()), entity_keys.shape[1]), np.int64)
    for column, keys in enumerate(entity_keys.T):
        good, counts = np.unique(keys[~fraud], return_counts=True)
        too_large = good[counts > LARGEST_SHARE * max(1, counts.sum())]
        of_frauds = keys[fraud]
        alone = (of_frauds == NO_KEY) | np.isin(of_frauds, too_large)
        groups[:, column] = _numbered(of_frauds[:, None], alone)
    return groups


def design_effect(parts: Float64, groups: Int64, variance_besides: float = 0.0) -> DesignEffect:
    """The design effect of a mean over frauds.

    Args:
        parts: float64[frauds], what each adds to the mean.
        groups: int64[frauds, entities], see `fraud_groups`.
        variance_besides: of the sum of the parts, by other causes than these frauds.
    """
    centred = parts - parts.mean()
    single = float(centred @ centred) + variance_besides
    count = group_count(groups)
    if count == len(parts):
        return SINGLE
    if single == 0 or count < GROUPS_MIN:  # nothing says that frauds of a group are not alike
        return DesignEffect(len(parts) / count, max(1.0, count - 1))
    # A variance from few groups is itself estimated too low on average, the less by this.
    shared = _shared(centred, groups) * count / (count - 1) + variance_besides
    return DesignEffect(max(1.0, shared / single), max(1.0, count - 1))


def effects_by_metric(
    ranking: Ranking, thresholds: Mapping[str, float], groups: Int64 | None
) -> dict[str, DesignEffect]:
    """The design effects of metrics by name, those of `ranking_metrics` that are means or sums over frauds.

    Args:
        ranking, thresholds: as there.
        groups: see `fraud_groups`; None where it is not known which frauds belong together.
    """
    if groups is None:
        return {}
    found = {
        name: design_effect(by_cell[ranking.fraud_cell], groups)
        for name, by_cell in fraud_parts(ranking.counts).items()
    }
    cuts = dict(thresholds) | {
        f"fpr_{100 * rate:g}pct": threshold_at(ranking, rate) for rate in FALSE_POSITIVE_RATES
    }
    minor = ranking.fraud_minor
    for name, cut in cuts.items():
        stopped = (ranking.score[ranking.fraud_cell] >= cut).astype(np.float64)
        by_amount = float(stopped @ minor) / float(minor.sum()) if minor.any() else 0.0
        found |= {
            f"recall_at_{name}": design_effect(stopped, groups),
            f"recall_by_amount_at_{name}": design_effect(minor * (stopped - by_amount), groups),
            f"saved_minor_at_{name}": design_effect(minor * stopped, groups),
            f"lost_minor_at_{name}": design_effect(minor * (1 - stopped), groups),
        }
    return found


def group_count(groups: Int64) -> float:
    """How many groups of equal size carry as much information (Kish); 0 without frauds."""
    return len(groups) ** 2 / _shared(np.ones(len(groups)), groups) if len(groups) else 0.0


def _shared(values: Float64, groups: Int64) -> float:
    """Sum of the products of all pairs of frauds that share an entity, each pair once however many it shares."""
    groups = _most_shared(groups)
    entities = range(groups.shape[1])
    if not entities:
        return float(values @ values)
    found = 0.0
    for size in range(1, len(entities) + 1):
        for chosen in combinations(entities, size):
            sums = np.bincount(_numbered(groups[:, chosen]), values)
            found += (-1) ** (size + 1) * float(sums @ sums)
    return found


def _most_shared(groups: Int64) -> Int64:
    """The entities that frauds share at all, at most `ENTITIES_MAX`: those of which they share most."""
    alike = [float(np.sum(np.unique(column, return_counts=True)[1] ** 2)) for column in groups.T]
    order = sorted(range(len(alike)), key=lambda column: -alike[column])
    return groups[:, sorted(column for column in order[:ENTITIES_MAX] if alike[column] > len(groups))]


def _numbered(rows: Int64, alone: NDArray[np.bool_] | None = None) -> Int64:
    """int64[n]: equal rows have equal numbers from 0 on; those `alone` have one of their own."""
    number = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if alone is not None:
        number[alone] = len(rows) + np.flatnonzero(alone)
    return number
