"""Samples, sampling of good transactions and the split in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zaslon.domain.errors import DataError, ZaslonError
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.models.dataset import Days, Sample, SampleFiles, check_names


def make_sample(rows: int = 1000, seed: int = 0) -> Sample:
    random = np.random.default_rng(seed)
    return Sample(
        names=("amount", "count"),
        x=random.normal(size=(rows, 2)).astype(np.float32),
        is_fraud=(random.random(rows) < 0.1).astype(np.int8),
        weight=np.ones(rows, np.float32),
        event_time_seconds=np.sort(random.integers(0, 30 * SECONDS_PER_DAY, rows)),
        amount_minor=random.integers(1, 10_000, rows),
        transaction_id=np.arange(rows),
        entity_keys=random.integers(0, 50, (rows, 2)),
        scenario=np.full(rows, -1, np.int8),
    )


def test_samples_are_taken_and_put_together_again() -> None:
    sample = make_sample(100)
    again = Sample.concatenate([sample.take(slice(40)), sample.take(slice(40, None))])
    assert np.array_equal(again.x, sample.x)
    assert np.array_equal(again.entity_keys, sample.entity_keys)


def test_parts_with_other_features_are_not_put_together() -> None:
    sample = make_sample(10)
    other = replace(sample, names=("count", "amount"))
    with pytest.raises(DataError, match="Feature 0 is 'count', expected is 'amount'"):
        Sample.concatenate([sample, other])
    with pytest.raises(DataError, match="nothing to put together"):
        Sample.concatenate([])


def test_features_of_another_number_are_named() -> None:
    with pytest.raises(DataError, match="2 features were given, 3 are expected; 'c' is on one side only"):
        check_names(["a", "b"], ["a", "b", "c"])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"is_fraud": np.full(10, -1, np.int8)}, "neither fraud"),
        ({"is_fraud": np.full(10, np.nan)}, "neither fraud"),
        ({"weight": np.zeros(10, np.float32)}, "weights in the sample are not positive"),
        ({"weight": np.full(10, np.nan, np.float32)}, "weights in the sample are not positive"),
        ({"amount_minor": np.zeros(9, np.int64)}, "10 rows of features, but 9 values of amount_minor"),
        ({"names": ("amount",)}, r"shape \(10, 2\), but there are 1 feature names"),
    ],
)
def test_a_sample_whose_parts_do_not_belong_together_is_refused(
    changed: dict[str, object], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        replace(make_sample(10), **changed)  # type: ignore[arg-type]


def test_days_are_read_as_they_are_written_and_know_what_they_share() -> None:
    days = Days(17_737, 17_743)
    assert str(days) == "2018-07-25 … 2018-07-31"
    assert Days.parse(str(days)) == days
    assert len(days) == 7
    others = (Days(17_730, 17_736), Days(17_730, 17_737), Days(17_739, 17_740), Days(17_743, 17_750))
    assert [days.shared_with(other) for other in others] == [0, 1, 2, 1]
    with pytest.raises(ZaslonError, match="'July' is not a date"):
        Days.parse("July")


def test_parts_on_disk_come_back_as_one_sample_in_order(tmp_path: Path) -> None:
    whole = make_sample(50)
    files = SampleFiles(tmp_path / "parts")
    assert files.joined() is None
    for part in (whole.take(slice(0, 20)), whole.take(slice(20, 20)), whole.take(slice(20, 50))):
        files.add(part)
    joined = files.joined()
    assert joined is not None
    assert joined.names == whole.names
    assert joined.x.tobytes() == whole.x.tobytes() and joined.x.dtype == whole.x.dtype
    assert np.array_equal(joined.transaction_id, whole.transaction_id)
    assert joined.weight.dtype == np.float32
