"""Frauds that belong together count for fewer."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.model_comparison import Together, paired_scores
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zaslon.domain.estimates import Estimate
from zaslon.domain.events import NO_KEY
from zaslon.models.comparison import Scored, compare_scores
from zaslon.models.fraud_groups import (
    GROUPS_MIN,
    SINGLE,
    DesignEffect,
    design_effect,
    fraud_groups,
    group_count,
)
from zaslon.models.verdict import Verdict, judge

Int64 = NDArray[np.int64]


def groups_of(rows: list[tuple[int, ...]]) -> Int64:
    return np.array(rows, np.int64)


def pairs_that_share(groups: Int64) -> list[tuple[int, int]]:
    """Every ordered pair of frauds, each with itself too, that share an entity: tried one by one."""
    numbers = range(len(groups))
    return [
        (i, j) for i, j in itertools.product(numbers, numbers) if i == j or (groups[i] == groups[j]).any()
    ]


@pytest.mark.law
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12),
    st.integers(0, 1_000),
)
def test_each_pair_that_shares_an_entity_counts_once(rows: list[tuple[int, ...]], seed: int) -> None:
    groups = groups_of(rows)
    parts = np.random.default_rng(seed).normal(size=len(rows))
    pairs = pairs_that_share(groups)
    assert group_count(groups) == pytest.approx(len(rows) ** 2 / len(pairs))
    if (count := group_count(groups)) == len(rows):
        assert design_effect(parts, groups) == SINGLE
        return
    found = design_effect(parts, groups)
    assert found.degrees == pytest.approx(max(1, count - 1))
    if count < GROUPS_MIN:
        assert found.variance == pytest.approx(len(rows) / count)
        return
    centred = parts - parts.mean()
    shared = sum(centred[i] * centred[j] for i, j in pairs) / float(centred @ centred)
    assert found.variance == pytest.approx(max(1, shared * count / (count - 1)))


def test_single_frauds_are_compared_as_before() -> None:
    scored = paired_scores(1, 0.8, 0.85, frauds=100, good=500, shared=0.7)
    assert scored.entity_keys is not None
    unknown = Scored(scored.a, scored.b, scored.is_fraud, scored.amount_minor, scored.weight, scored.days)
    one, other = (
        compare_scores(each, false_positive_rate_max=0.05, seed=1, replicates=50)
        for each in (scored, unknown)
    )
    assert one == other
    assert one.frauds_effective == one.frauds == 100


def test_frauds_of_one_customer_are_one_group() -> None:
    keys = np.array([[1, 10], [1, 11], [2, 11], [NO_KEY, 12], [NO_KEY, 13], [5, 14], [6, 15]])
    groups = fraud_groups(keys, np.array([1, 1, 1, 1, 1, 0, 0], np.int8))
    assert groups[0, 0] == groups[1, 0] != groups[2, 0]
    assert groups[1, 1] == groups[2, 1]
    assert groups[3, 0] != groups[4, 0], "two that have none have nothing in common"


def test_twenty_entities_cost_no_more_than_the_most_shared_ones() -> None:
    random = np.random.default_rng(1)
    groups = np.stack([random.permutation(400) // (2 if column < 15 else 8) for column in range(20)], axis=1)
    parts = random.normal(size=400)
    assert group_count(groups) == group_count(groups[:, 15:])
    assert design_effect(parts, groups) == design_effect(parts, groups[:, 15:])


def test_an_entity_of_many_good_transactions_is_no_group() -> None:
    fraud = np.repeat([1, 0], [10, 100]).astype(np.int8)
    for good_of_it, is_group in ((5, True), (6, False)):
        keys = np.arange(110)
        keys[:10] = 7_000
        keys[10 : 10 + good_of_it] = 7_000
        distinct = len(np.unique(fraud_groups(keys[:, None], fraud)))
        assert (distinct == 1) is is_group


def test_an_interval_of_groups_is_wider_and_agrees_with_p() -> None:
    single = Estimate(0.02, 0.005, 0.04)
    effect = DesignEffect(4.0, 20.0)
    found = effect.widened(single)
    assert found.low < -0.01
    assert found.high > 0.06
    assert effect.p(found) > 0.05
    assert DesignEffect(1.1, 60.0).p(DesignEffect(1.1, 60.0).widened(single)) < 0.05
    assert SINGLE.width == 1
    assert effect.p(Estimate(0.0, 0.0, 0.0)) == 1
    assert math.isclose(effect.p(Estimate(0.02, 0.0, 0.04)), 0.05)


@pytest.mark.parametrize("alone", [0, 1])
def test_frauds_of_one_terminal_are_one_fraud(alone: int) -> None:
    scored = paired_scores(3, 0.75, 0.9, frauds=500, good=3_000, shared=0.7)
    assert scored.entity_keys is not None
    keys = scored.entity_keys.copy()
    keys[np.flatnonzero(scored.is_fraud)[alone:], 0] = 9_999_999
    found = compare_scores(
        replace(scored, entity_keys=keys), false_positive_rate_max=0.05, seed=1, replicates=50
    )
    assert found.frauds_effective == pytest.approx(1, abs=0.01)
    assert judge(found).verdict is Verdict.NOT_ENOUGH_EVIDENCE
    caught = (np.arange(500) % 2).astype(np.float64)
    assert design_effect(caught, fraud_groups(keys, scored.is_fraud)).variance == pytest.approx(500, rel=0.01)


def test_few_groups_are_not_enough_however_many_frauds() -> None:
    scored = paired_scores(
        3, 0.75, 0.9, frauds=480, good=3_000, shared=0.7, together=Together(frauds=80, correlation=0.8)
    )
    found = compare_scores(scored, false_positive_rate_max=0.05, seed=1, replicates=100)
    judged = judge(found)
    assert judged.verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert "480 say as much as" in " ".join(judged.reasons)
    assert judged.days_needed is not None
    assert judged.days_needed > scored.days


def test_two_groups_do_not_show_that_nothing_was_missed() -> None:
    """Their own variance is hardly known, however alike the two are."""
    random = np.random.default_rng(4)
    fraud = np.repeat([1, 0], [100, 300]).astype(np.int8)
    score = random.random(400)
    keys = np.arange(400)
    keys[:100] = np.arange(100) // 50
    other = (score + 0.06 * random.random(400)) / 1.06
    scored = Scored(score, other, fraud, np.full(400, 100), np.ones(400), 7, keys[:, None])
    found = compare_scores(scored, false_positive_rate_max=0.05, seed=1, replicates=50)
    assert found.delong.effect.degrees == 1
    assert judge(found).verdict is Verdict.NOT_ENOUGH_EVIDENCE
