"""What comparisons of models find: equal models, better ones, and what a t-test over replicates would say.

    python benchmarks/model_comparison.py [--pairs 400] [--section level] [--section daily]

Scores are simulated, so the true ROC-AUCs are known. docs/certainty.md has the figures.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.models.comparison import ALPHA, Scored, compare_scores, t_test_by_replicates
from zaslon.models.delong import delong, placements, power
from zaslon.models.fraud_series import NO_SERIES, SERIES_SECONDS, fraud_series, series_means
from zaslon.models.sequential import confidence_sequence, loss_differences, stopped_differences
from zaslon.models.verdict import FRAUDS_MIN, Verdict, judge

AREA, BETTER_BY, SHARED = 0.85, 0.02, 0.7
GOOD_PER_FRAUD = 15  # hundreds of good transactions already make the frauds the smaller source of error
MISSION_REPLICATES = 10
DAYS_WATCHED = 365
LABEL_DELAY_DAYS, ATTACK_DAYS, ENTITIES = 7, 14, 2_000


@dataclass(frozen=True)
class Together:
    """So many frauds a group share an entity, and their scores correlate."""

    frauds: int = 1
    correlation: float = 0.0


def paired_scores(
    seed: int, area_a: float, area_b: float, *, frauds: int, good: int, shared: float, days: int = 30,
    together: Together = Together(),
) -> Scored:  # fmt: skip
    """Transactions as two models with these true areas would score them.

    Both scores are normal within a class, a common part with share `shared` of the variance and one of each
    model's own; frauds are moved up by sqrt(2) · Φ⁻¹(area), which gives the area (the binormal model). Every second
    group of frauds is of one customer at several terminals, the others of one terminal.
    """
    random = np.random.default_rng(seed)
    is_fraud = np.concatenate([np.ones(frauds, np.int8), np.zeros(good, np.int8)])
    group = np.arange(frauds) // together.frauds
    parts = random.normal(size=(3, frauds + good))
    of_group = random.normal(size=(3, frauds))[:, group]
    parts[:, :frauds] *= math.sqrt(1 - together.correlation)
    parts[:, :frauds] += math.sqrt(together.correlation) * of_group
    common, *own = parts
    entity_keys = np.arange(2 * (frauds + good)).reshape(2, -1).T.copy()
    for entity in (0, 1):
        entity_keys[:frauds, entity] = np.where(group % 2 == entity, -1 - group, entity_keys[:frauds, entity])
    amount_minor = random.integers(100, 100_000, frauds + good)
    a, b = (
        _probability(
            math.sqrt(shared) * common + math.sqrt(1 - shared) * part
            + is_fraud * math.sqrt(2) * NormalDist().inv_cdf(area)
        )
        for part, area in zip(own, (area_a, area_b), strict=True)
    )  # fmt: skip
    return Scored(a, b, is_fraud, amount_minor, np.ones(frauds + good), days, entity_keys)


def _probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    probability: NDArray[np.float64] = 1 / (1 + np.exp(3 - log_odds))
    return probability


def true_error(area_a: float, area_b: float, *, frauds: int, good: int, shared: float) -> float:
    """The standard error of the difference for so many transactions, by DeLong's formula on very many."""
    many = paired_scores(0, area_a, area_b, frauds=50_000, good=50_000, shared=shared)
    of_fraud, of_good = placements(np.stack([many.a, many.b]), many.is_fraud == 1)
    fraud_variance, good_variance = (float(np.var(part[1] - part[0])) for part in (of_fraud, of_good))
    return math.sqrt(fraud_variance / frauds + good_variance / good)


@dataclass(frozen=True)
class Found:
    """Shares of the simulated pairs: what the rule said, and which the t-test would have promoted.

    `promoted`: higher mean and p below 0.05, over as many replicates as the rule's bootstrap;
    `promoted_by_ten`: over the mission's ten. `ungrouped`: better or worse where it is not known which frauds belong
    together. `expected_power`: of the true difference, by theory, if frauds are single.
    """

    better: float
    worse: float
    promoted: float
    promoted_by_ten: float
    ungrouped: float
    expected_power: float


def study(
    better_by: float,
    *,
    frauds: int,
    pairs: int,
    replicates: int,
    seed: int = 1,
    together: Together = Together(),
) -> Found:
    """Compare so many independent pairs, the second model of each better by a known difference."""
    sizes = {"frauds": frauds, "good": GOOD_PER_FRAUD * frauds}
    verdicts, promoted, by_ten, ungrouped = [], 0, 0, 0
    for number in range(pairs):
        scored = paired_scores(
            seed * 1_000_000 + number, AREA, AREA + better_by, shared=SHARED, together=together, **sizes
        )
        found, ten = (
            compare_scores(scored, false_positive_rate_max=0.05, seed=number, replicates=count)
            for count in (replicates, MISSION_REPLICATES)
        )
        verdicts.append(judge(found).verdict)
        if together.frauds > 1:
            single = replace(scored, entity_keys=None)
            found_single = compare_scores(
                single, false_positive_rate_max=0.05, seed=number, replicates=replicates
            )
            ungrouped += judge(found_single).verdict in (Verdict.BETTER, Verdict.WORSE)
        promoted += found.mean_b > found.mean_a and found.t_test_p < ALPHA
        by_ten += ten.mean_b > ten.mean_a and ten.t_test_p < ALPHA
    error = true_error(AREA, AREA + better_by, shared=SHARED, **sizes)
    return Found(
        verdicts.count(Verdict.BETTER) / pairs, verdicts.count(Verdict.WORSE) / pairs,
        promoted / pairs, by_ten / pairs, ungrouped / pairs,
        power(better_by, error, ALPHA) if better_by else ALPHA / 2,
    )  # fmt: skip


def level(pairs: int, replicates: int) -> None:
    """Equal models: how often one of them is promoted."""
    print("| frauds | rule: better | rule: worse | t-test, ten replicates | t-test, all replicates |")
    print("|---|---|---|---|---|")
    for frauds in (50, 100, 200):
        f = study(0.0, frauds=frauds, pairs=pairs, replicates=replicates)
        print(f"| {frauds} | {f.better:.1%} | {f.worse:.1%} | {f.promoted_by_ten:.0%} | {f.promoted:.0%} |")


def grouped(pairs: int, replicates: int) -> None:
    """Equal models and frauds that belong together: how often one is found better, with and without their entities."""
    print("| frauds | of a group | rule: better | rule: worse | entities not known: better or worse |")
    print("|---|---|---|---|---|")
    for frauds, of_group in ((240, 1), (240, 8), (240, 24), (960, 24)):
        together = Together(of_group, 0.5)
        f = study(0.0, frauds=frauds, pairs=pairs, replicates=replicates, together=together)
        print(f"| {frauds} | {of_group} | {f.better:.1%} | {f.worse:.1%} | {f.ungrouped:.0%} |")


def find(pairs: int, replicates: int) -> None:
    """A true improvement: how often it is found, and how often theory says."""
    print(f"| frauds | rule: better | theory, for an improvement of {BETTER_BY:g} |")
    print("|---|---|---|")
    for frauds in (100, 200, 400):
        f = study(BETTER_BY, frauds=frauds, pairs=pairs, replicates=replicates)
        print(f"| {frauds} | {f.better:.0%} | {f.expected_power:.0%} |")


def demonstrate(_pairs: int, _replicates: int) -> None:
    """The same two equal models: p of the t-test by how many replicates are drawn."""
    scored = paired_scores(2, AREA, AREA, frauds=200, good=3_000, shared=SHARED)
    print("| replicates | p of the t-test |")
    print("|---|---|")
    for count, p in t_test_by_replicates(scored, (10, 100, 1_000, 10_000)).items():
        print(f"| {count:,} | {p:.2g} |")


@dataclass(frozen=True)
class Watched:
    """Shares of the simulated years in which some look showed a difference.

    `recall`, `loss`: by the confidence sequence; `fixed`: by an interval for one look, from the 50th fraud on.
    `frauds`: until recall was shown to be better, the median of the years in which it was.
    """

    recall: float
    loss: float
    fixed: float
    frauds: float


def watch(only_a: float, only_b: float, *, frauds_a_day: int, years: int, seed: int = 1) -> Watched:
    """Look at two models every day of so many years.

    Args:
        only_a, only_b: shares of the frauds that exactly this model stops.
        frauds_a_day: on average; their amounts are lognormal, and count up to the hundredth highest.
    """
    recall, loss, fixed, frauds = 0, 0, 0, []
    for number in range(years):
        random = np.random.default_rng(seed * 1_000_000 + number)
        by_day = random.poisson(frauds_a_day, DAYS_WATCHED)
        looks = [int(count) for count in np.cumsum(by_day) if count]
        luck = random.random(by_day.sum())
        stopped_a, stopped_b = luck < only_a, (luck >= only_a) & (luck < only_a + only_b)
        amount_minor = np.exp(random.normal(8, 1, len(luck))).astype(np.int64)
        most_minor = int(np.exp(8 + 2.33))
        values = stopped_differences(stopped_a, stopped_b)
        lower, upper = confidence_sequence(values, looks, low=-1, high=1)
        recall += bool(((lower > 0) | (upper < 0)).any())
        fixed += _shown_by_one_look(values, looks)
        if (lower > 0).any():
            frauds.append(looks[int(np.argmax(lower > 0))])
        lost = loss_differences(stopped_a, stopped_b, amount_minor, most_minor)
        lower, upper = confidence_sequence(lost, looks, low=-most_minor, high=most_minor)
        loss += bool(((lower > 0) | (upper < 0)).any())
    median = float(np.median(frauds)) if frauds else math.nan
    return Watched(recall / years, loss / years, fixed / years, median)


def _shown_by_one_look(values: NDArray[np.float64], looks: list[int]) -> bool:
    """Whether an ordinary 95 % interval excludes 0 at any of the looks."""
    count = np.array([look for look in looks if look >= FRAUDS_MIN])
    mean = np.cumsum(values)[count - 1] / count
    spread = np.sqrt(np.cumsum(values**2)[count - 1] / count - mean**2)
    return bool((np.abs(mean) > NormalDist().inv_cdf(1 - ALPHA / 2) * spread / np.sqrt(count)).any())


def daily(pairs: int, _replicates: int) -> None:
    """A year of daily looks: how often equal models become different, and how soon a better one is found."""
    print(
        "| only A stops | only B stops | frauds a day | recall | loss | fixed interval | frauds until better |"
    )
    print("|---|---|---|---|---|---|---|")
    for only_a, only_b, frauds in ((0.03, 0.03, 10), (0.2, 0.2, 10), (0.02, 0.04, 10), (0.02, 0.04, 50)):
        w = watch(only_a, only_b, frauds_a_day=frauds, years=pairs)
        until = f"{w.frauds:,.0f}" if only_b > only_a else ""
        print(f"| {only_a} | {only_b} | {frauds} | {w.recall:.1%} | {w.loss:.1%} | {w.fixed:.0%} | {until} |")


@dataclass(frozen=True)
class SeriesWatched:
    """Shares of the simulated years in which some look showed a difference in recall.

    `series`: by the test that counts frauds by series; `single`: by one that takes each fraud for itself.
    `days`: until a better model was shown by series, the median of the years in which it was.
    """

    series: float
    single: float
    days: float


@dataclass(frozen=True)
class _Frauds:
    """A year of frauds in the order of their times, in days. `difference`: see `stopped_differences`."""

    time_days: NDArray[np.float64]
    known_days: NDArray[np.float64]
    groups: NDArray[np.int64]
    difference: NDArray[np.float64]


def _year_of_frauds(
    random: np.random.Generator, only_a: float, only_b: float, frauds_a_day: int, together: Together,
    late: float,
) -> _Frauds:  # fmt: skip
    """Attacks of so many frauds over some days; every second one on one customer at any terminals, others the reverse."""
    attacks = random.poisson(frauds_a_day * DAYS_WATCHED / together.frauds)
    group = np.repeat(np.arange(attacks), together.frauds)
    time_days = np.repeat(random.uniform(0, DAYS_WATCHED, attacks), together.frauds)
    time_days += random.uniform(0, ATTACK_DAYS, len(group))
    luck = math.sqrt(together.correlation) * random.normal(size=attacks)[group]
    luck += math.sqrt(1 - together.correlation) * random.normal(size=len(group))
    low, high = (NormalDist().inv_cdf(share) for share in (only_a, 1 - only_b))
    delay = random.uniform(0, LABEL_DELAY_DAYS, len(group))
    delay += (random.random(len(group)) < late) * random.exponential(2 * LABEL_DELAY_DAYS, len(group))
    other = -1 - random.integers(0, ENTITIES, len(group))
    is_customer = group % 2 == 0
    groups = np.stack([np.where(is_customer, group, other), np.where(is_customer, other, group)], axis=1)
    order = np.argsort(time_days)
    difference = stopped_differences(luck < low, luck > high)
    return _Frauds(time_days[order], (time_days + delay)[order], groups[order], difference[order])


def _by_series(frauds: _Frauds, day: int) -> NDArray[np.float64]:
    """What the test counts on a day: means of series of the frauds that are known by then."""
    known = frauds.known_days <= day
    seconds = (frauds.time_days[known] * SECONDS_PER_DAY).astype(np.int64)
    before = (day - LABEL_DELAY_DAYS) * SECONDS_PER_DAY
    return series_means(frauds.difference[known], fraud_series(frauds.groups[known], seconds, before))


def watch_series(
    only_a: float, only_b: float, *, frauds_a_day: int, together: Together, years: int, late: float = 0.0,
    seed: int = 1,
) -> SeriesWatched:  # fmt: skip
    """Look every day of so many years at two models that decide frauds which come together.

    Args:
        only_a, only_b: shares of the frauds that exactly this model stops.
        frauds_a_day: on average.
        late: share of labels that come after the label delay, and change what earlier looks have seen.
    """
    by_series, single, days = 0, 0, []
    for number in range(years):
        random = np.random.default_rng(seed * 1_000_000 + number)
        frauds = _year_of_frauds(random, only_a, only_b, frauds_a_day, together, late)
        order = np.argsort(frauds.known_days, kind="stable")
        counts = np.searchsorted(frauds.known_days[order], range(1, DAYS_WATCHED + 1))
        single += bool(_shown(frauds.difference[order], counts.tolist()).any())
        shown = _shown_late(frauds) if late else _shown_in_time(frauds)
        by_series += bool(shown.any())
        if shown.any():
            days.append(int(np.argmax(shown)) + 1)
    return SeriesWatched(by_series / years, single / years, float(np.median(days)) if days else math.nan)


def _shown(values: NDArray[np.float64], looks: list[int]) -> NDArray[np.bool_]:
    lower, upper = confidence_sequence(values, looks, low=-1, high=1)
    return (lower > 0) | (upper < 0)


def _shown_in_time(frauds: _Frauds) -> NDArray[np.bool_]:
    """bool[days]: no label is late, so what is seen on a day is the beginning of what is seen at the end."""
    seconds = (frauds.time_days * SECONDS_PER_DAY).astype(np.int64)
    series = fraud_series(frauds.groups, seconds, (DAYS_WATCHED - LABEL_DELAY_DAYS) * SECONDS_PER_DAY)
    counted = series != NO_SERIES
    began = seconds[counted][np.unique(series[counted], return_index=True)[1]]
    days = np.arange(1 - LABEL_DELAY_DAYS, DAYS_WATCHED + 1 - LABEL_DELAY_DAYS)
    looks = np.searchsorted(began, days * SECONDS_PER_DAY - SERIES_SECONDS, "right")
    return _shown(series_means(frauds.difference, series), looks.tolist())


def _shown_late(frauds: _Frauds) -> NDArray[np.bool_]:
    """bool[days]: everything that is seen on a day, also what was changed since the day before."""
    by_day = [_by_series(frauds, day) for day in range(1, DAYS_WATCHED + 1)]
    return np.array([bool(_shown(values, [len(values)])[0]) for values in by_day])


@dataclass(frozen=True)
class Retraining:
    """A year in which a challenger is compared every so many days, and promoted where DeLong's test says better.

    `worse_by`: true ROC-AUC of every challenger below the champion's. `kept`: correlation of the part of a
    challenger's score that is its own with that of the day before: models of nearly the same days are alike.
    """

    every_days: int
    worse_by: float = 0.0
    kept: float = 0.0


def promotions(year: Retraining, seed: int, *, frauds_a_day: int = 14, window_days: int = 28) -> int:
    """How many challengers of a year are promoted; no further one after one that is worse."""
    random = np.random.default_rng(seed)
    days = DAYS_WATCHED + window_days
    a_day = frauds_a_day * (1 + GOOD_PER_FRAUD)
    day = np.repeat(np.arange(days), a_day)
    fraud = np.arange(days * a_day) % a_day < frauds_a_day
    common, own, of_champion = random.normal(size=(3, days * a_day))

    def scores(part: NDArray[np.float64], area: float) -> NDArray[np.float64]:
        moved = fraud * math.sqrt(2) * NormalDist().inv_cdf(area)
        return np.asarray(math.sqrt(SHARED) * common + math.sqrt(1 - SHARED) * part + moved)

    champion, found = scores(of_champion, AREA), 0
    for today in range(window_days, days, year.every_days):
        own = year.kept * own + math.sqrt(1 - year.kept**2) * random.normal(size=len(own))
        challenger = scores(own, AREA - year.worse_by)
        seen = (day >= today - window_days) & (day < today)
        test = delong(champion[seen], challenger[seen], fraud[seen].astype(np.int8))
        if test.p < ALPHA and test.difference > 0:
            champion, found = challenger, found + 1
            if year.worse_by:
                break
    return found


def retraining(pairs: int, _replicates: int) -> None:
    """Promotions a year of challengers that are no better, by how often one is compared."""
    print(
        "| compared every | alike | promotions of equal ones a year | years that promote one worse by 0.01 |"
    )
    print("|---|---|---|---|")
    for kept in (0.0, 0.95):
        for every_days in (1, 7, 28):
            equal, worse = (
                np.mean([promotions(Retraining(every_days, by, kept), seed) for seed in range(pairs)])
                for by in (0.0, 0.01)
            )
            print(f"| {every_days} days | {kept} | {equal:.1f} | {worse:.0%} |")


def speed(_pairs: int, replicates: int) -> None:
    """Processor time of one comparison of 200,000 transactions."""
    scored = paired_scores(1, AREA, AREA, frauds=1_500, good=198_500, shared=SHARED)
    begin = time.process_time()
    compare_scores(scored, false_positive_rate_max=0.05, seed=1, replicates=replicates)
    spent = time.process_time() - begin
    print(f"{replicates:,} replicates of 200,000 transactions with 1,500 frauds: {spent:.2f} s of CPU")


def series(pairs: int, _replicates: int) -> None:
    """A year of daily looks at frauds that come together: how often equal models become different, and better ones better."""
    print(
        "| only A stops | only B stops | of a group | late labels | by series | each for itself | days until better |"
    )
    print("|---|---|---|---|---|---|---|")
    equal = [(0.1, 0.1, of_group, late) for of_group in (1, 8, 24) for late in (0.0, 0.2)]
    for only_a, only_b, of_group, late in [*equal, *((0.05, 0.15, of_group, 0.0) for of_group in (1, 8, 24))]:
        together = Together(of_group, 0.5 if of_group > 1 else 0.0)
        years = max(1, pairs // 4) if late else pairs  # these take a hundred times as long
        w = watch_series(only_a, only_b, frauds_a_day=10, together=together, years=years, late=late)
        until = f"{w.days:,.0f}" if only_b > only_a else ""
        print(
            f"| {only_a} | {only_b} | {of_group} | {late:.0%} | {w.series:.1%} | {w.single:.0%} | {until} |"
        )


SECTIONS: dict[str, Callable[[int, int], None]] = {
    "demonstration": demonstrate, "level": level, "groups": grouped, "power": find, "daily": daily, "series": series, "retraining": retraining, "speed": speed,
}  # fmt: skip


def main() -> None:
    """Print the sections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=400, help="simulated pairs of models")
    parser.add_argument("--replicates", type=int, default=500, help="of the bootstrap")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="all if not given")
    chosen = parser.parse_args()
    for name in chosen.section or SECTIONS:
        print(f"\n{name}")
        SECTIONS[name](chosen.pairs, chosen.replicates)


if __name__ == "__main__":
    main()
