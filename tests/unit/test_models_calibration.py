"""Calibration: probabilities that mean what they say, in the order of the trees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError, DataError
from zaslon.models.calibration import Calibration, calibrate, no_calibration

Float64 = NDArray[np.float64]


def sigmoid(z: Float64) -> Float64:
    return 1 / (1 + np.exp(-z))


def answers(log_odds: Float64, seed: int = 0) -> NDArray[np.int8]:
    random = np.random.default_rng(seed)
    return (random.random(len(log_odds)) < sigmoid(log_odds)).astype(np.int8)


def ones(rows: int) -> NDArray[np.float32]:
    return np.ones(rows, np.float32)


RAW = np.random.default_rng(1).normal(-3, 2, 40_000)


def test_right_log_odds_are_left_alone() -> None:
    assert calibrate(RAW, answers(RAW), ones(40_000), 0).kind == "none"


def test_overconfident_log_odds_get_a_platt_line() -> None:
    found = calibrate(2 * RAW + 1, answers(RAW), ones(40_000), 0)
    assert found.kind == "platt"
    assert np.allclose(found.probability(2 * RAW + 1), sigmoid(RAW), atol=0.03)


def test_a_bent_relation_gets_an_isotonic_fit() -> None:
    bent = np.where(RAW < -2, 0.2 * (RAW + 2), 3 * (RAW + 2))
    found = calibrate(bent, answers(RAW), ones(40_000), 0)
    assert found.kind == "isotonic"
    error = np.abs(found.probability(bent) - sigmoid(RAW))
    assert error.mean() < 0.01


def test_weights_count_like_repeated_rows() -> None:
    y = answers(RAW)
    kept = (y == 1) | (np.arange(40_000) % 4 == 0)
    weight = np.where(y[kept] == 1, 1, 4).astype(np.float32)
    found = calibrate(RAW[kept] - 2, y[kept], weight, 0)
    assert np.allclose(found.probability(RAW - 2), sigmoid(RAW), atol=0.03)


@given(st.integers(0, 2**32 - 1), st.integers(2, 3000), st.floats(0.1, 5), st.floats(-4, 4))
def test_every_calibration_rises_strictly(seed: int, rows: int, slope: float, shift: float) -> None:
    random = np.random.default_rng(seed)
    log_odds = random.normal(-1, 2, rows)
    y = answers(log_odds, seed)
    y[0], y[1] = 0, 1
    found = calibrate(slope * log_odds + shift, y, ones(rows), 0)
    spread = np.linspace(-25, 25, 500)
    probability = found.probability(spread)
    middle = (probability > 1e-12) & (probability < 1 - 1e-12)
    assert (np.diff(probability[middle]) > 0).all()
    assert ((probability >= 0) & (probability <= 1)).all()


def test_equal_scores_only_are_left_alone() -> None:
    y = answers(RAW)
    found = calibrate(np.full(40_000, -3.0), y, ones(40_000), 0)
    assert found.probability(np.array([-3.0]))[0] == pytest.approx(y.mean(), rel=0.02)


@pytest.mark.parametrize("fraud", [0, 1])
def test_nineteen_of_the_rarer_class_fit_no_line(fraud: int) -> None:
    y = np.full(1_000, 1 - fraud, np.int8)
    for rare, kind in ((19, "none"), (20, "platt")):
        y[:rare] = fraud
        assert calibrate(np.zeros(1_000), y, ones(1_000), 0).kind == kind


def test_extreme_log_odds_stay_probabilities() -> None:
    assert no_calibration().probability(np.array([-800.0, 0.0, 800.0])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("fraud", [0, 1])
def test_one_class_cannot_be_calibrated_on(fraud: int) -> None:
    with pytest.raises(DataError, match="cannot be calibrated on 10 transactions"):
        calibrate(np.zeros(10), np.full(10, fraud, np.int8), ones(10), 0)


@pytest.mark.parametrize(
    ("raw", "calibrated"),
    [([0.0], [0.0]), ([0.0, 1.0], [1.0, 1.0]), ([0.0, 1.0], [0.0]), ([0.0, np.inf], [0.0, 1.0])],
)
def test_points_that_do_not_rise_are_damage(raw: list[float], calibrated: list[float]) -> None:
    with pytest.raises(ArtefactError, match="calibration's points"):
        Calibration("platt", np.array(raw), np.array(calibrated))
