"""Data that would make figures doubtful are named before anybody believes the figures."""

from __future__ import annotations

import numpy as np
import pytest

from zaslon.domain.errors import TooManyRejectedError
from zaslon.domain.rejections import Reason, read_reason
from zaslon.monitoring.data_warnings import (
    DataWarning,
    RejectedRows,
    check_rejected,
    constant_column_warnings,
    rejection_warnings,
    same_files_warnings,
)
from zaslon.monitoring.sample_warnings import sample_warnings

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


def rejected(**rows: int) -> list[RejectedRows]:
    return [
        RejectedRows(*read_reason(code), count) for code, count in sorted(rows.items(), key=lambda r: -r[1])
    ]


def test_ordinary_data_give_no_warning() -> None:
    assert sample_warnings(NAMES, **sample()) == []
    assert rejection_warnings(1_000, rejected(hour_24=10, duplicate=10)) == []
    assert same_files_warnings([]) == constant_column_warnings([], []) == []
    check_rejected(1_000, rejected(hour_24=200), 0.2)
    check_rejected(0, [], 0.2)


def test_each_reason_that_takes_many_rows_is_named() -> None:
    found = rejection_warnings(1_000, rejected(hour_24=11, duplicate=300, empty=1))
    assert kinds(found) == ["repeated_rows", "rejected_rows"]
    assert "30.0% of the rows were rejected for duplicate." in found[0].message
    assert "given twice" in found[0].hint


def test_too_many_rejected_rows_stop_the_run() -> None:
    with pytest.raises(
        TooManyRejectedError, match="21% of 1,000 rows were rejected, 205 of them for hour_24"
    ):
        check_rejected(1_000, rejected(hour_24=205, empty=5), 0.2)
    assert TooManyRejectedError.exit_code == 13


def test_a_run_that_stops_says_what_to_change() -> None:
    most = RejectedRows(
        Reason.NOT_A_NUMBER, "sum", 300, (("Field 'sum' is '1,5'.", 200),), "Line 7 of catalogue 'a.toml'"
    )
    with pytest.raises(TooManyRejectedError) as stopped:
        check_rejected(1_000, [most], 0.2)
    assert stopped.value.hint is not None
    assert stopped.value.hint.startswith(
        "Most often 200 times: Field 'sum' is '1,5'. Line 7 of catalogue 'a.toml' describes the field;"
    )
    with pytest.raises(TooManyRejectedError) as stopped:
        check_rejected(1_000, rejected(duplicate=500), 0.2, [("a.csv", "b.csv")])
    assert stopped.value.hint == "'b.csv' has the same content as 'a.csv'. Leave one of them out."


def test_columns_that_never_change_are_named_apart_from_empty_ones() -> None:
    found = constant_column_warnings(["code", "mcc"], ["note"])
    assert [(w.kind, w.message) for w in found] == [
        ("constant_column", "Columns 'code', 'mcc' have the same value in every row."),
        ("empty_column", "Column 'note' has no value in every row."),
    ]


def test_a_file_given_twice_is_named_once() -> None:
    found = same_files_warnings([("a.csv", "a.csv"), ("a.csv", "b.csv.gz")])
    assert [w.message for w in found] == [
        "'a.csv' was given twice.", "'b.csv.gz' has the same content as 'a.csv'."
    ]  # fmt: skip


@pytest.mark.parametrize("null", [False, True])
def test_a_feature_that_never_changes_is_named(null: bool) -> None:
    given = sample()
    given["x"][:, 1] = np.nan if null else 7
    (warning,) = sample_warnings(NAMES, **given)
    assert (warning.kind, warning.message) == (
        "constant_feature", "Feature 'count' has the same value in every row of the training period.",
    )  # fmt: skip


def test_a_flag_that_no_row_has_is_no_oddity() -> None:
    given = sample()
    given["x"][:, 1] = 0
    assert sample_warnings(("amount", "flag_hour_odd", "hour"), **given) == []


@pytest.mark.parametrize("frauds", [2, 100])
@pytest.mark.parametrize("form", ["label", "negation", "null"])
def test_the_answer_among_the_features_is_named(form: str, frauds: int) -> None:
    given = sample()
    given["is_fraud"] = (np.arange(ROWS) % (ROWS // frauds) == 0).astype(np.int8)
    answer = given["is_fraud"].astype(np.float32)
    given["x"][:, 0] = {"label": answer, "negation": 1 - answer, "null": np.where(answer, 7, np.nan)}[form]
    found = [w for w in sample_warnings(NAMES, **given) if w.kind != "leaks_not_checked"]
    assert kinds(found) == ["label_in_features"]
    assert "'amount'" in found[0].message


def test_a_feature_that_nearly_separates_is_named() -> None:
    given = sample()
    given["x"][:, 2] += 6 * given["is_fraud"]
    found = sample_warnings(NAMES, **given)
    assert kinds(found) == ["probable_leak"]
    assert "'hour'" in found[0].message


def test_a_code_that_only_frauds_have_is_named() -> None:
    given = sample()
    random = np.random.default_rng(2)
    given["x"][:, 0] = np.where(given["is_fraud"] == 1, 17, random.integers(0, 30, ROWS))
    given["x"][(given["is_fraud"] == 0) & (given["x"][:, 0] == 17), 0] = 3
    found = sample_warnings(NAMES, **given)
    assert kinds(found) == ["probable_leak"]
    assert "'amount'" in found[0].message


def test_an_honest_strong_feature_is_not_a_leak() -> None:
    given = sample()
    given["x"][:, 2] += 2 * given["is_fraud"]
    assert sample_warnings(NAMES, **given) == []


def test_a_time_that_tells_the_answer_is_named() -> None:
    given = sample()
    given["is_fraud"] = (np.arange(ROWS) >= ROWS - 100).astype(np.int8)
    assert kinds(sample_warnings(NAMES, **given)) == ["time_tells_label"]


def test_frauds_of_one_week_in_the_middle_are_named() -> None:
    given = sample()
    middle = abs(np.arange(ROWS) - ROWS // 2) < 60
    given["is_fraud"] = (middle & (np.arange(ROWS) % 2 == 0)).astype(np.int8)
    assert kinds(sample_warnings(NAMES, **given)) == ["time_tells_label"]


def test_rows_of_one_customer_are_named() -> None:
    given = sample()
    given["entity_key"][:] = 5
    assert kinds(sample_warnings(NAMES, **given)) == ["one_customer"]


@pytest.mark.parametrize(
    ("frauds", "said"), [(0, "no frauds"), (1, "only 1 fraud:"), (5, "only 5 frauds"), (ROWS, "no good")]
)
def test_what_few_frauds_cannot_show_is_said(frauds: int, said: str) -> None:
    given = sample()
    given["is_fraud"] = (np.arange(ROWS) < frauds).astype(np.int8)
    given["x"][:, 0] = given["is_fraud"] + np.arange(ROWS) / 1e6  # separates, and is no label
    given["x"][:, 1] = 3
    found = sample_warnings(NAMES, **given)
    assert kinds(found) == ["constant_feature", "leaks_not_checked"], "what can be checked still is"
    assert said in found[1].message
