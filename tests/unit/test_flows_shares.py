"""Samples of long periods: how many frauds and good transactions are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.services.samples import Shares


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
def test_frauds_fill_at_most_half_of_a_sample(
    frauds: int, good: int, rows_max: int, kept: tuple[int, int]
) -> None:
    shares = Shares.of(frauds, good, rows_max)
    assert (round(shares.fraud * frauds), round(shares.good * good)) == kept


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(1_000, 10**7))
def test_a_sample_is_as_large_as_its_maximum_allows(frauds: int, good: int, rows_max: int) -> None:
    shares = Shares.of(frauds, good, rows_max)
    assert 0 < shares.fraud <= 1 and 0 < shares.good <= 1
    kept = shares.fraud * frauds + shares.good * good
    assert kept == pytest.approx(min(frauds + good, rows_max), rel=1e-9)


def answers(rows: int) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """A tenth of them frauds."""
    return (np.random.default_rng(0).random(rows) < 0.1).astype(np.int8)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_weights_undo_the_sampling_of_either_answer(sign: int) -> None:
    is_fraud, ids = answers(50_000), sign * np.arange(50_000)
    for shares in (Shares(1.0, 0.1), Shares(0.5, 0.2)):
        kept = is_fraud[shares.keep(ids, is_fraud, seed=3)]
        weight = shares.weight(kept)
        assert weight.dtype == np.float32
        for answer, share in ((1, shares.fraud), (0, shares.good)):
            assert np.allclose(weight[kept == answer], 1 / share)
            assert weight[kept == answer].sum() == pytest.approx((is_fraud == answer).sum(), rel=0.05)
    assert Shares(1.0, 0.1).keep(ids, is_fraud, seed=3)[is_fraud == 1].all()


@given(st.integers(0, 2**31), st.integers(1, 200), st.floats(0.01, 1), st.floats(0.01, 1))
def test_sampling_depends_on_the_id_alone(seed: int, cut: int, fraud: float, good: float) -> None:
    shares, ids, is_fraud = Shares(fraud, good), np.arange(200), answers(200)
    whole = set(ids[shares.keep(ids, is_fraud, seed)].tolist())
    shuffled = np.random.default_rng(seed).permutation(200)
    parts = (shuffled[:cut], shuffled[cut:])
    assert {int(i) for part in parts for i in part[shares.keep(part, is_fraud[part], seed)]} == whole


def test_another_seed_keeps_others() -> None:
    ids, is_fraud = np.arange(1_000), answers(1_000)
    first, second = (set(ids[Shares(0.5, 0.5).keep(ids, is_fraud, seed)].tolist()) for seed in (1, 2))
    assert 0.2 < len(first ^ second) / 1_000 < 0.7


def test_rows_without_a_known_answer_are_not_sampled() -> None:
    assert Shares(1.0, 1.0).keep(np.arange(3), np.array([-1, 0, 1], np.int8), 0).tolist() == [
        False,
        True,
        True,
    ]
