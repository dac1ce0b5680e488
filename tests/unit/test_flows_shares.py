"""Samples of long periods: how many frauds and good transactions are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.flows.train import Shares


@pytest.mark.parametrize(
    ("frauds", "good", "rows_max", "kept"),
    [
        (10, 900, 1_000, (10, 900)),
        (10, 9_000, 1_000, (10, 990)),
        (4_000, 40_000, 1_000, (500, 500)),
        (4_000, 200, 1_000, (800, 200)),
        (0, 5_000, 1_000, (0, 1_000)),
    ],
)
def test_all_frauds_are_kept_unless_they_are_more_than_half_of_the_sample(
    frauds: int, good: int, rows_max: int, kept: tuple[int, int]
) -> None:
    shares = Shares.of(frauds, good, rows_max)
    assert (round(shares.fraud * frauds), round(shares.good * good)) == kept


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(1_000, 10**7))
def test_a_sample_is_never_larger_than_its_maximum_nor_smaller_than_it_could_be(
    frauds: int, good: int, rows_max: int
) -> None:
    shares = Shares.of(frauds, good, rows_max)
    assert 0 < shares.fraud <= 1 and 0 < shares.good <= 1
    kept = shares.fraud * frauds + shares.good * good
    assert kept == pytest.approx(min(frauds + good, rows_max), rel=1e-9)
