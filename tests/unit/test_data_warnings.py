"""Data that would make figures doubtful are named before anybody believes the figures."""

from __future__ import annotations

import numpy as np
import pytest

from zaslon.domain.errors import TooManyRejectedError
from zaslon.monitoring.data_warnings import (
    DataWarning,
    check_rejected,
    rejection_warnings,
    sample_warnings,
)

ROWS = 2_000
NAMES = ("amount", "count", "hour")


def sample(seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "x": random.normal(size=(ROWS, 3)).astype(np.float32),
        "is_fraud": (random.random(ROWS) < 0.05).astype(np.int8),
        "event_time_seconds": np.arange(ROWS, dtype=np.int64),
        "entity_key": random.integers(0, 50, ROWS),
    }


def kinds(found: list[DataWarning]) -> list[str]:
    return [warning.kind for warning in found]


def test_ordinary_data_give_no_warning() -> None:
    assert sample_warnings(NAMES, **sample()) == []
    assert rejection_warnings(1_000, {"hour_24": 10, "duplicate": 10}) == []
    check_rejected(1_000, {"hour_24": 200}, 0.2)
    check_rejected(0, {}, 0.2)


def test_each_reason_that_takes_many_rows_is_named() -> None:
    found = rejection_warnings(1_000, {"hour_24": 11, "duplicate": 300, "empty": 1})
    assert kinds(found) == ["repeated_rows", "rejected_rows"]
    assert "30.0% of the rows were rejected for duplicate." in found[0].message
    assert "given twice" in found[0].hint


def test_too_many_rejected_rows_stop_the_run() -> None:
    with pytest.raises(
        TooManyRejectedError, match="21% of 1,000 rows were rejected, 205 of them for hour_24"
    ):
        check_rejected(1_000, {"hour_24": 205, "empty": 5}, 0.2)
    assert TooManyRejectedError.exit_code == 13


@pytest.mark.parametrize("null", [False, True])
def test_a_feature_that_never_changes_is_named(null: bool) -> None:
    given = sample()
    given["x"][:, 1] = np.nan if null else 7
    (warning,) = sample_warnings(NAMES, **given)
    assert (warning.kind, warning.message) == (
        "constant_feature", "Feature 'count' has the same value in every row.",
    )  # fmt: skip


@pytest.mark.parametrize("sign", [1, -1])
def test_the_answer_among_the_features_is_named(sign: int) -> None:
    given = sample()
    given["x"][:, 0] = sign * given["is_fraud"]
    assert kinds(sample_warnings(NAMES, **given)) == ["label_in_features"]


def test_a_feature_that_nearly_separates_is_named() -> None:
    given = sample()
    given["x"][:, 2] += 6 * given["is_fraud"]
    found = sample_warnings(NAMES, **given)
    assert kinds(found) == ["probable_leak"]
    assert "'hour'" in found[0].message


def test_an_honest_strong_feature_is_not_a_leak() -> None:
    given = sample()
    given["x"][:, 2] += 2 * given["is_fraud"]
    assert sample_warnings(NAMES, **given) == []


def test_a_time_that_tells_the_answer_is_named() -> None:
    given = sample()
    given["is_fraud"] = (np.arange(ROWS) >= ROWS - 100).astype(np.int8)
    assert kinds(sample_warnings(NAMES, **given)) == ["time_tells_label"]


def test_rows_of_one_customer_are_named() -> None:
    given = sample()
    given["entity_key"][:] = 5
    assert kinds(sample_warnings(NAMES, **given)) == ["one_customer"]


@pytest.mark.parametrize("frauds", [0, 5, ROWS])
def test_few_frauds_separate_nothing(frauds: int) -> None:
    given = sample()
    given["is_fraud"] = (np.arange(ROWS) < frauds).astype(np.int8)
    given["x"][:, 0] = given["is_fraud"]
    assert "label_in_features" not in kinds(sample_warnings(NAMES, **given))
