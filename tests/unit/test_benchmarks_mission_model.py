"""The mission's model is measured as ours is, on the same rows, and its comparison is as described."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from benchmarks import mission_model
from benchmarks.mission_model import ScoredRows, beside, different, fifth, in_order, measures_of, replicates
from benchmarks.mission_pipeline import NONE, TEST, TRAIN, Roles, clean, fit_and_score
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from zaslon.bootstrap import build_context
from zaslon.models.comparison import Scored, measure_scores
from zaslon.models.dataset import Sample
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation

DAY = 86_400
ROWS, FRAUDS = 4_000, 200


def scored_rows(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], Sample]:
    random = np.random.default_rng(seed)
    is_fraud = np.zeros(ROWS, np.int8)
    is_fraud[:FRAUDS] = 1
    a, b = (1 / (1 + np.exp(2 - random.normal(size=ROWS) - by * is_fraud)) for by in (0.3, 2.0))
    sample = Sample(
        (), np.empty((ROWS, 0), np.float32), is_fraud, np.ones(ROWS, np.float32),
        np.sort(random.integers(0, 10 * DAY, ROWS)), random.integers(100, 9_000, ROWS),
        np.arange(ROWS), random.integers(0, 50, (ROWS, 2)), np.full(ROWS, -1, np.int8),
    )  # fmt: skip
    return a, b, sample


def test_the_measures_are_those_of_our_comparison() -> None:
    mission, ours, sample = scored_rows(1)
    weighted = replace(sample, weight=np.full(ROWS, 5, np.float32))
    found = beside(mission, ours, weighted, seed=1)
    scored = Scored(
        mission, ours, weighted.is_fraud, weighted.amount_minor, weighted.weight, 10, weighted.entity_keys
    )
    expected = measure_scores(scored, false_positive_rate_max=0.05)
    for model, values in zip(("mission", "ours"), expected, strict=True):
        for name, value in values.items():
            assert found[name][model][0] == pytest.approx(value, rel=1e-9), (model, name)
    for figures in found.values():
        by = figures["ours"][0] - figures["mission"][0]
        assert figures["difference"][0] == pytest.approx(by, rel=1e-9)


def test_areas_recall_and_loss_are_those_of_their_definitions() -> None:
    _, score, sample = scored_rows(2)
    found = measures_of(score, sample, seed=1)
    fraud = sample.is_fraud == 1
    cut = np.sort(score[~fraud])[-int(0.05 * (ROWS - FRAUDS)) - 1]
    stopped = fraud & (score > cut)
    assert found["roc_auc"].value == pytest.approx(roc_auc_score(sample.is_fraud, score))
    assert found["pr_auc"].value == pytest.approx(average_precision_score(sample.is_fraud, score))
    assert found["recall"].value == pytest.approx(stopped.sum() / FRAUDS)
    lost = sample.amount_minor[fraud & ~stopped].sum() * 30 / 10
    assert found["loss_minor_per_month"].value == pytest.approx(lost)
    assert all(e.low < e.value < e.high for e in found.values())


def test_a_fifth_of_each_class_is_drawn() -> None:
    is_fraud = np.repeat(np.array([1, 0], np.int8), (50, 1_000))
    chosen = fifth(is_fraud, 1)
    assert (chosen[:50].sum(), chosen[50:].sum()) == (10, 200)
    assert not np.array_equal(chosen, fifth(is_fraud, 2))


def test_one_seed_draws_ten_times_the_same_rows() -> None:
    score, _, sample = scored_rows(3)
    assert np.ptp(replicates(score, sample.is_fraud, [0] * 10)) == 0
    assert np.ptp(replicates(score, sample.is_fraud, range(10))) > 0


def test_the_missions_comparison_calls_any_two_models_different() -> None:
    models = [ScoredRows(scored_rows(seed)[0], scored_rows(seed)[2].is_fraud) for seed in range(4)]
    assert different(models, lambda _: [0] * 10) == 6
    assert different([models[0]] * 2, lambda _: [0] * 10) == 0


def test_a_row_without_a_score_fails_the_benchmark() -> None:
    score = pl.DataFrame({"transaction_id": [3, 1], "score": [0.3, 0.1]})
    assert in_order(score, np.array([1, 3])).tolist() == [0.1, 0.3]
    with pytest.raises(SystemExit, match="1 test rows have no score"):
        in_order(score, np.array([1, 2]))


def test_the_split_by_time_keeps_the_delay_from_the_missions_model(tmp_path: Path) -> None:
    _, _, sample = scored_rows(4)
    context = build_context(load_settings(home=tmp_path))
    spread = replace(sample, event_time_seconds=np.linspace(0, 90 * DAY - 1, ROWS).astype(np.int64))
    mixed = replace(spread, is_fraud=np.random.default_rng(1).permutation(spread.is_fraud))
    split, periods = mission_model.split_by_time(mixed, context)
    day = mixed.event_time_seconds // DAY
    assert day[split.learned].max() == split.last_learned_day == periods.validation.last
    assert day[split.test].min() - split.last_learned_day == 8
    assert not (split.learned & split.test).any()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pyspark") is None, reason="the extra `bench` is not installed")
def test_the_pipeline_repairs_learns_and_scores_as_described(tmp_path: Path) -> None:
    raw = tmp_path / "raw.txt"
    write_simulation(simulation_profile("mission", customers=100), 30, 1, raw)
    with raw.open("a") as file:
        file.write("900000001,2019-08-25 10:00:00,-999999,None,12.30,270000,3,0,0\n" * 2)
        file.write("900000002,2019-08-25 24:00:00,5,7,12.30,270000,3,0,0\n")
    rows = clean(raw, tmp_path / "clean")
    kept = pl.read_parquet(tmp_path / "clean" / "*.parquet")
    assert rows == len(kept) == kept["transaction_id"].n_unique()
    (repaired,) = kept.filter(pl.col("transaction_id") == 900_000_001).iter_rows(named=True)
    assert (repaired["customer"], repaired["terminal"]) == (999_999, 0)
    assert not (kept["transaction_id"] == 900_000_002).any()
    ids = kept["transaction_id"].to_numpy()
    role = np.where(ids % 5 == 0, TEST, np.where(ids % 5 == 1, NONE, TRAIN)).astype(np.int8)
    (tmp_path / "model").mkdir()
    found = fit_and_score(tmp_path / "clean", Roles(ids, role, 0), 1, tmp_path / "model")
    assert set(found.score["transaction_id"]) == set(ids[role == TEST])
    assert found.score["score"].is_between(0, 1).all()
    assert found.train_frauds == int(kept["is_fraud"].to_numpy()[role == TRAIN].sum())
    assert abs(found.train_rows - 2 * found.train_frauds) < 6 * np.sqrt(found.train_frauds)
    answers = dict(zip(ids.tolist(), kept["is_fraud"].to_list(), strict=True))
    is_fraud = [answers[i] for i in found.score["transaction_id"].to_list()]
    assert found.roc_auc == pytest.approx(roc_auc_score(is_fraud, found.score["score"]), abs=1e-9)
