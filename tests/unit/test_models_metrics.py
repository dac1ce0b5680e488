"""Metrics against definitions written out the slow way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from zaslon.domain.errors import DataError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.models.card_precision import card_precision_by_day
from zaslon.models.metrics import calibration_bins, evaluate
from zaslon.models.ranking import FALSE_POSITIVE_RATES, rank, ranking_metrics

THRESHOLDS = {"review": 0.4, "block": 0.8}

transactions = st.lists(
    st.tuples(
        st.integers(0, 10),  # score in tenths: many ties, some at the thresholds
        st.integers(0, 1),
        st.integers(0, 500),
        st.sampled_from([1.0, 2.5, 10.0]),
    ),
    min_size=2,
    max_size=60,
)


def columns(rows: list[tuple[int, int, int, float]]) -> tuple[Any, Any, Any, Any]:
    rows = [*rows, (3, 1, 7, 1.0), (3, 0, 7, 1.0)]  # both classes, always
    score, fraud, amount, weight = zip(*rows, strict=True)
    return np.array(score) / 10, np.array(fraud, np.int8), np.array(amount), np.array(weight)


def naive_recall_at_rate(score: Any, fraud: Any, worth: Any, weight: Any, rate: float) -> float:
    best, good = 0.0, weight[fraud == 0].sum()
    for cut in sorted(set(score)):
        stopped = score >= cut
        if weight[stopped & (fraud == 0)].sum() <= rate * good * (1 + 1e-12):
            best = max(best, worth[stopped & (fraud == 1)].sum())
    total = worth[fraud == 1].sum()
    return best / total if total else math.nan


@given(transactions)
def test_ranking_metrics_equal_their_definitions(
    rows: list[tuple[int, int, int, float]],
) -> None:
    score, fraud, amount, weight = columns(rows)
    ranking = rank(score, fraud, amount, weight, list(THRESHOLDS.values()))
    found = ranking_metrics(ranking.counts, ranking.score, THRESHOLDS)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(fraud, score, sample_weight=weight))
    assert found["pr_auc"] == pytest.approx(average_precision_score(fraud, score, sample_weight=weight))
    for rate in FALSE_POSITIVE_RATES:
        name = f"fpr_{100 * rate:g}pct"
        by_count = naive_recall_at_rate(score, fraud, weight, weight, rate)
        by_amount = naive_recall_at_rate(score, fraud, weight * amount, weight, rate)
        assert found[f"recall_at_{name}"] == pytest.approx(by_count)
        assert found[f"recall_by_amount_at_{name}"] == pytest.approx(by_amount, nan_ok=True)
    for name, threshold in THRESHOLDS.items():
        stopped = score >= threshold
        caught = weight[stopped & (fraud == 1)].sum()
        wrongly = weight[stopped & (fraud == 0)].sum()
        assert found[f"recall_at_{name}"] == pytest.approx(caught / weight[fraud == 1].sum())
        assert found[f"false_positive_rate_at_{name}"] == pytest.approx(wrongly / weight[fraud == 0].sum())
        precision = caught / (caught + wrongly) if caught + wrongly else math.nan
        assert found[f"precision_at_{name}"] == pytest.approx(precision, nan_ok=True)


def naive_card_precision(score: Any, fraud: Any, time: Any, customer: Any, top: int) -> list[float]:
    found: set[int] = set()
    result = []
    for day in sorted(set(time // SECONDS_PER_DAY)):
        highest: dict[int, float] = {}
        compromised: set[int] = set()
        for s, f, t, c in zip(score, fraud, time, customer, strict=True):
            if t // SECONDS_PER_DAY == day and c not in found:
                highest[c] = max(highest.get(c, -1), s)
                if f:
                    compromised.add(c)
        called = sorted(highest, key=lambda c: (-highest[c], c))[:top]
        hits = [c for c in called if c in compromised]
        found.update(hits)
        result.append(len(hits) / top)
    return result


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_card_precision_equals_the_slow_way(seed: int, top: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 80))
    score = random.integers(0, 6, n) / 5
    fraud = (random.random(n) < 0.3).astype(np.int8)
    time = random.integers(0, 4 * SECONDS_PER_DAY, n)
    customer = random.integers(-5, 10, n)
    found = card_precision_by_day(score, fraud, time, customer, top)
    assert found.tolist() == naive_card_precision(score, fraud, time, customer, top)


def drawn(rows: int = 4000, seed: int = 1) -> dict[str, Any]:
    """Scores that are exactly the probabilities of fraud."""
    random = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-random.normal(-3, 2, rows)))
    fraud = (random.random(rows) < score).astype(np.int8)
    return {
        "score": score,
        "is_fraud": fraud,
        "amount_minor": random.integers(1, 10_000, rows),
        "weight": np.ones(rows),
        "event_time_seconds": np.sort(random.integers(0, 10 * SECONDS_PER_DAY, rows)),
        "entity_keys": random.integers(0, 300, (rows, 1)),
        "scenario": np.where(fraud == 1, random.integers(1, 4, rows), 0).astype(np.int8),
    }


def test_money_is_scaled_to_thirty_days() -> None:
    data = drawn()
    money = evaluate(**data, review=0.3, replicates=10).money
    fraud, stopped = data["is_fraud"] == 1, data["score"] >= 0.3
    amount = data["amount_minor"]
    assert money.lost.value == pytest.approx(3 * amount[fraud & ~stopped].sum())
    assert money.saved.value == pytest.approx(3 * amount[fraud & stopped].sum())
    assert money.good_stopped == pytest.approx(3 * amount[~fraud & stopped].sum())
    assert money.fraud == pytest.approx(money.lost.value + money.saved.value)


def test_a_day_without_a_transaction_is_a_day_of_the_month_too() -> None:
    data = drawn()
    day = data["event_time_seconds"] // 86_400
    without_a_day = {name: column[(day != day.min() + 3)] for name, column in data.items()}
    whole, fewer = (evaluate(**d, review=0.3, replicates=10) for d in (data, without_a_day))
    assert fewer.days == whole.days == 10
    fraud, stopped = without_a_day["is_fraud"] == 1, without_a_day["score"] >= 0.3
    assert fewer.money.lost.value == pytest.approx(3 * without_a_day["amount_minor"][fraud & ~stopped].sum())


def test_money_has_the_interval_of_its_shares_of_all_frauds_money() -> None:
    whole = evaluate(**drawn(), review=0.3)
    for estimate in (whole.money.lost, whole.money.saved):
        assert estimate.low < estimate.value < estimate.high
    tenfold: dict[str, Any] = {name: np.repeat(values, 10, axis=0) for name, values in drawn().items()}
    of_others = tenfold | {"entity_keys": np.arange(len(tenfold["score"]))[:, None]}
    sure = evaluate(**of_others, review=0.3).money
    widths = [(m.high - m.low) / m.value for m in (sure.lost, whole.money.lost)]
    assert widths[0] * 2 < widths[1], "ten times the data: about a third of the uncertainty"


def test_the_same_frauds_ten_times_are_no_news() -> None:
    data = drawn() | {"entity_keys": np.arange(len(drawn()["score"]))[:, None]}
    tenfold: dict[str, Any] = {name: np.repeat(values, 10, axis=0) for name, values in data.items()}
    once, repeated = evaluate(**data, review=0.3), evaluate(**tenfold, review=0.3)
    assert (once.frauds_effective, repeated.frauds) == (once.frauds, 10 * once.frauds)
    assert repeated.frauds_effective == pytest.approx(once.frauds, rel=0.05)
    for name in ("recall_at_review", "roc_auc", "pr_auc", "recall_by_amount_at_review"):
        widths = [found.headline[name].high - found.headline[name].low for found in (once, repeated)]
        assert widths[1] == pytest.approx(widths[0], rel=0.35)


def test_scenarios_add_up_to_all_frauds() -> None:
    data = drawn()
    result = evaluate(**data, review=0.3, replicates=10)
    assert [s.scenario for s in result.by_scenario] == [1, 2, 3]
    assert sum(s.frauds for s in result.by_scenario) == result.frauds
    assert sum(s.frauds * s.recall for s in result.by_scenario) == pytest.approx(
        result["recall_at_review"] * result.frauds
    )
    assert sum(s.frauds * s.recall_at_fpr_5pct for s in result.by_scenario) == pytest.approx(
        result["recall_at_fpr_5pct"] * result.frauds
    )
    assert sum(s.lost_minor_per_month for s in result.by_scenario) == pytest.approx(result.money.lost.value)


def test_unknown_scenarios_are_left_out() -> None:
    data = drawn() | {"scenario": np.full(4000, -1, np.int8)}
    assert evaluate(**data, replicates=10).by_scenario == ()
    assert evaluate(**(data | {"scenario": None}), replicates=10).by_scenario == ()


def test_calibration_error_separates_right_from_wrong() -> None:
    data = drawn(20_000)
    right = evaluate(**data, replicates=10)
    wrong = evaluate(**(data | {"score": data["score"] ** 3}), replicates=10)
    assert right.calibration_error < 0.01
    assert wrong.calibration_error > 0.05
    assert right.expected_to_actual_frauds == pytest.approx(1, abs=0.05)
    assert wrong.expected_to_actual_frauds < 0.8
    assert right.brier < wrong.brier


def test_calibration_bins_hold_equal_expected_frauds() -> None:
    data = drawn(20_000)
    bins = calibration_bins(data["score"], data["is_fraud"], data["weight"], 10)
    assert len(bins) == 10
    assert sum(b.transactions for b in bins) == 20_000
    expected = [b.transactions * b.mean_score for b in bins]
    assert max(expected) == pytest.approx(min(expected), rel=0.02)


def test_intervals_equal_those_of_a_plain_bootstrap() -> None:
    data = drawn()
    result = evaluate(**data, review=0.3, replicates=400)
    random = np.random.default_rng(5)
    plain: dict[str, list[float]] = {"roc_auc": [], "pr_auc": []}
    for _ in range(200):
        chosen = random.integers(0, 4000, 4000)
        y, s = data["is_fraud"][chosen], data["score"][chosen]
        plain["roc_auc"].append(roc_auc_score(y, s))
        plain["pr_auc"].append(average_precision_score(y, s))
    for name, values in plain.items():
        estimate = result.headline[name]
        assert estimate.low < estimate.value < estimate.high
        low, high = np.quantile(values, (0.025, 0.975))
        assert estimate.high - estimate.low == pytest.approx(high - low, rel=0.25)


def test_evaluation_does_not_depend_on_row_order() -> None:
    data = drawn()
    order = np.random.default_rng(0).permutation(4000)
    shuffled = {name: values[order] for name, values in data.items()}
    first, again = evaluate(**data, seed=7, replicates=50), evaluate(**data, seed=7, replicates=50)
    assert first.report() == again.report()
    other = evaluate(**shuffled, seed=7, replicates=50)
    assert other["pr_auc"] == pytest.approx(first["pr_auc"])
    assert other["card_precision_100"] == first["card_precision_100"]


def test_weighted_samples_give_nearly_the_full_metrics() -> None:
    data = drawn(40_000)
    kept = (data["is_fraud"] == 1) | (np.arange(40_000) % 4 == 0)
    sampled = {name: values[kept] for name, values in data.items()}
    sampled["weight"] = np.where(sampled["is_fraud"] == 1, 1.0, 4.0)
    whole, part = evaluate(**data, review=0.3, replicates=10), evaluate(**sampled, review=0.3, replicates=10)
    for name in ("roc_auc", "pr_auc", "precision_at_review", "recall_at_fpr_1pct"):
        assert part[name] == pytest.approx(whole[name], abs=0.02)
    assert part.transactions == pytest.approx(whole.transactions, rel=0.02)
    assert math.isnan(part["card_precision_100"])  # needs every transaction
    assert whole["card_precision_100"] > 0


def test_a_threshold_of_never_stops_nothing() -> None:
    result = evaluate(**drawn(), review=math.inf, replicates=10)
    assert result["recall_at_review"] == 0
    assert result["false_positive_rate_at_review"] == 0
    assert math.isnan(result["precision_at_review"])
    assert result.money.saved.value == 0


def test_the_report_is_plain_json() -> None:
    result = evaluate(**drawn(), review=math.inf, replicates=10)
    plain = orjson.loads(orjson.dumps(result.report()))
    assert plain["review"] is None
    assert plain["headline"]["precision_at_review"]["value"] is None
    assert all(math.isfinite(value) for value in result.flat().values())


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"is_fraud": np.zeros(4000, np.int8)}, "no frauds among the 4000 transactions to evaluate"),
        ({"is_fraud": np.ones(4000, np.int8)}, "no good transactions among"),
        ({"is_fraud": np.full(4000, np.nan)}, "neither fraud"),
        ({"score": np.full(4000, np.nan)}, "not between 0 and 1"),
        ({"score": np.linspace(-3, 3, 4000)}, "not between 0 and 1"),
        ({"weight": np.zeros(4000)}, "weights are not positive"),
        ({"amount_minor": np.zeros(3)}, "differ in length: 4000, 4000, 3, 4000"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        evaluate(**(drawn() | changed))


def test_nothing_to_evaluate_is_an_error() -> None:
    empty = {name: values[:0] for name, values in drawn().items()}
    with pytest.raises(DataError, match="no transactions to evaluate"):
        evaluate(**empty)
