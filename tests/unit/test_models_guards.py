"""Guards: each passes a sound challenger and refuses the one that it is made for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zaslon.models.calibration import Calibration
from zaslon.models.dataset import Sample
from zaslon.models.guards import (
    Guard,
    Stops,
    age_guard,
    business_guards,
    calibration_guard,
    drift_guard,
    integrity_guard,
    leak_guard,
    parity_guard,
    rollback_guard,
    segment_guards,
    size_guard,
    speed_guard,
)
from zaslon.models.metrics import Evaluation, evaluate
from zaslon.models.model import Model, ModelFacts
from zaslon.models.training import TrainSettings, train

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

N = 4_000
_RANDOM = np.random.default_rng(7)
IS_FRAUD = (_RANDOM.random(N) < 0.05).astype(np.int8)
AMOUNT = _RANDOM.integers(100, 100_000, N)
TIME = np.sort(_RANDOM.integers(0, 10 * 86_400, N))
WEIGHT = np.ones(N)


@pytest.fixture(scope="module")
def rows() -> Float32:
    """float32[1000, 3]."""
    return np.random.default_rng(3).normal(size=(1_000, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(rows: Float32) -> Model:
    """A small model of three features, the first of which tells something."""
    is_fraud = (rows[:, 0] + np.random.default_rng(4).normal(size=len(rows)) > 1).astype(np.int8)
    ints = np.arange(len(rows))
    sample = Sample(
        ("a", "b", "c"), rows, is_fraud, np.ones(len(rows), np.float32), ints * 60, ints, ints, ints[:, None],
        np.full(len(rows), -1, np.int8),
    )  # fmt: skip
    settings = TrainSettings(rounds=5, rounds_max=5, threads=1)
    return train(
        sample.take(slice(0, 500)), sample.take(slice(500, None)), settings, facts=ModelFacts()
    ).model


def evaluated(score: Float64, review: float) -> Evaluation:
    return evaluate(
        score, IS_FRAUD, AMOUNT, WEIGHT, TIME, review=review, block=1.0, seed=1, replicates=0
    )  # fmt: skip


def honest_scores() -> Float64:
    """Probabilities that mean what they say: a fraud is as likely as its score, on average."""
    random = np.random.default_rng(5)
    rank = np.where(IS_FRAUD == 1, random.beta(6, 2, N), random.beta(1, 30, N))
    scaled: Float64 = rank * IS_FRAUD.sum() / rank.sum()
    return scaled


def test_a_guard_passes_at_its_limit_and_not_above() -> None:
    assert Guard("a", 1.0, 1.0, "").passed
    assert not Guard("a", 1.0000001, 1.0, "").passed
    assert not Guard("a", math.nan, 1.0, "").passed
    assert Guard("a", None, 0.0, "").passed
    assert Guard("a", math.inf, 1.0, "").to_json_dict() == {
        "name": "a", "value": None, "limit": 1.0, "detail": "", "passed": False,
    }  # fmt: skip


def test_too_many_good_transactions_stopped_are_refused() -> None:
    score = honest_scores()
    cut = float(np.quantile(score[IS_FRAUD == 0], 0.9))
    rate, _ = business_guards(
        evaluated(score, cut), None, false_positive_rate_max=0.05, loss_minor_per_month_max=1e12
    )
    assert rate.value == pytest.approx(0.1, abs=0.01)
    assert not rate.passed
    rate, _ = business_guards(
        evaluated(score, cut), None, false_positive_rate_max=0.11, loss_minor_per_month_max=1e12
    )
    assert rate.passed


def test_more_false_stops_pass_only_under_the_champions() -> None:
    score = honest_scores()
    good = score[IS_FRAUD == 0]
    few, many = (evaluated(score, float(np.quantile(good, q))) for q in (0.92, 0.9))
    limits = {"false_positive_rate_max": 0.05, "loss_minor_per_month_max": 1e12}
    assert business_guards(few, many, **limits)[0].passed
    assert not business_guards(many, few, **limits)[0].passed


def test_a_loss_over_the_limit_passes_only_under_the_champions() -> None:
    score = honest_scores()
    strict, loose = (evaluated(score, float(np.quantile(score, q))) for q in (0.96, 0.999))
    limits = {"false_positive_rate_max": 1.0, "loss_minor_per_month_max": 1.0}
    _, alone = business_guards(strict, None, **limits)
    _, against_worse = business_guards(strict, loose, **limits)
    _, against_better = business_guards(loose, strict, **limits)
    assert (alone.passed, against_worse.passed, against_better.passed) == (False, True, False)
    assert against_better.limit == strict.money.lost.value


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_scores_that_promise_other_frauds_are_refused(factor: float) -> None:
    score = honest_scores() / 4
    off = calibration_guard(evaluated(np.clip(4 * score * factor, 0, 1), 0.5), 2.0)
    assert off.value == pytest.approx(3, rel=0.35)
    assert not off.passed
    assert calibration_guard(evaluated(4 * score, 0.5), 2.0).passed
    assert not calibration_guard(evaluated(np.zeros(N), 0.5), 2.0).passed


def test_a_segment_paid_for_by_the_others_is_refused() -> None:
    night = TIME % 86_400 < 6 * 3600
    champion = IS_FRAUD == 1
    challenger = champion & ~night
    segments = {"night": night, "day": ~night}
    recall, good = segment_guards(
        segments, IS_FRAUD, WEIGHT, Stops(challenger, champion), drop_max=0.05, rise_max=0.05
    )
    assert not recall.passed
    assert "'night'" in recall.detail
    assert recall.value == 1.0
    assert (good.value, good.passed) == (0.0, True)


def test_a_difference_that_luck_explains_is_kept() -> None:
    few = np.zeros(N, np.bool_)
    few[np.flatnonzero(IS_FRAUD)[:4]] = True
    champion = IS_FRAUD == 1
    recall, _ = segment_guards(
        {"few": few}, IS_FRAUD, WEIGHT, Stops(champion & ~few, champion), drop_max=0.05, rise_max=0.05
    )
    assert recall.passed, "four frauds are not evidence at 5 %"
    eight = np.zeros(N, np.bool_)
    eight[np.flatnonzero(IS_FRAUD)[:8]] = True
    recall, _ = segment_guards(
        {"eight": eight}, IS_FRAUD, WEIGHT, Stops(champion & ~eight, champion), drop_max=0.05, rise_max=0.05
    )
    assert not recall.passed


def test_a_segment_of_a_few_good_transactions_shows_nothing() -> None:
    few = np.zeros(N, np.bool_)
    few[np.flatnonzero(IS_FRAUD == 0)[:4]] = True
    champion = IS_FRAUD == 1
    _, good = segment_guards(
        {"few": few}, IS_FRAUD, WEIGHT, Stops(champion | few, champion), drop_max=0.05, rise_max=0.05
    )
    assert (good.value, good.passed) == (0.0, True)


def test_a_hundredth_of_the_good_transactions_is_a_segment() -> None:
    good_places, champion = np.flatnonzero(IS_FRAUD == 0), IS_FRAUD == 1
    for count, passes in ((len(good_places) // 100 - 1, True), (len(good_places) // 100 + 1, False)):
        some = np.zeros(N, np.bool_)
        some[good_places[:count]] = True
        _, good = segment_guards(
            {"some": some}, IS_FRAUD, WEIGHT, Stops(champion | some, champion), drop_max=0.05, rise_max=0.05
        )
        assert good.passed == passes


def test_good_customers_stopped_in_one_segment_are_refused() -> None:
    large = np.quantile(AMOUNT, 0.9) < AMOUNT
    champion = IS_FRAUD == 1
    challenger = champion | large
    _, good = segment_guards(
        {"large": large, "others": ~large}, IS_FRAUD, WEIGHT, Stops(challenger, champion),
        drop_max=0.05, rise_max=0.05,
    )  # fmt: skip
    assert (good.value, good.passed) == (1.0, False)
    assert "'large'" in good.detail


def test_without_a_champion_no_segment_is_compared() -> None:
    found = segment_guards({}, IS_FRAUD, WEIGHT, None, drop_max=0.05, rise_max=0.05)
    assert [(guard.value, guard.passed) for guard in found] == [(None, True), (None, True)]


def test_scores_that_have_moved_are_refused() -> None:
    random = np.random.default_rng(6)
    before, later = random.beta(1, 30, 20_000), random.beta(1, 30, 20_000)
    moved = random.beta(2, 15, 20_000)
    ones = np.ones(20_000)
    assert drift_guard(before, ones, later, ones, 0.25).value == pytest.approx(0, abs=0.01)
    assert not drift_guard(before, ones, moved, ones, 0.25).passed


@given(st.integers(1, 5), st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_the_stability_index_of_equal_samples_is_zero(times: int, scores: list[float]) -> None:
    values = np.array(scores)
    many = np.tile(values, times)
    guard = drift_guard(values, np.full(len(values), float(times)), many, np.ones(len(many)), 0.25)
    assert guard.value == pytest.approx(0, abs=1e-9)


def test_a_slow_or_large_model_is_refused(model: Model, rows: Float32) -> None:
    assert speed_guard(model, rows, 1e9).passed
    slow = speed_guard(model, rows, 0.001)
    assert not slow.passed
    size = size_guard(model, 1 << 30).value
    assert size_guard(model, int(size or 0)).passed
    assert not size_guard(model, int(size or 0) - 1).passed


def test_an_artefact_that_scores_otherwise_is_refused(model: Model, rows: Float32) -> None:
    assert integrity_guard(model, model, rows).passed
    raised = Calibration("platt", np.array([-1.0, 1.0]), np.array([0.0, 2.0]))
    other = Model(model.names, model.trees, raised, model.facts)
    assert not integrity_guard(other, model, rows).passed
    gone = integrity_guard(None, model, rows, "model.txt is missing.")
    assert (gone.passed, gone.detail) == (False, "model.txt is missing.")


def test_leaks_age_and_rollbacks_are_counted() -> None:
    assert leak_guard([]).passed
    assert not leak_guard(["Feature 'answer' is the answer."]).passed
    assert age_guard(10, None).value is None
    assert age_guard(10, 10).passed
    assert age_guard(11, 10).passed
    stale = age_guard(7, 10)
    assert (stale.value, stale.passed) == (3.0, False)
    assert rollback_guard(0).passed
    assert not rollback_guard(1).passed


def test_served_scores_that_the_data_do_not_confirm_are_refused() -> None:
    served = np.array([0.1, 0.2, 0.3, 0.9])
    assert parity_guard(served, served * 1.01, 0.0).passed
    assert not parity_guard(served, served - np.array([0, 0, 0, 0.5]), 0.2).passed
    assert parity_guard(np.empty(0), np.empty(0), 0.0).value is None
