"""Scores of two models whose true ROC-AUCs are known, for tests and benchmarks of comparisons."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zaslon.models.comparison import Scored


def paired_scores(
    seed: int, area_a: float, area_b: float, *, frauds: int, good: int, shared: float, days: int = 30
) -> Scored:
    """Transactions as two models with these true areas would score them.

    Both scores are normal within a class, a common part with share `shared` of the variance and one of each
    model's own; frauds are moved up by sqrt(2) · Φ⁻¹(area), which gives the area (the binormal model).
    """
    random = np.random.default_rng(seed)
    is_fraud = np.concatenate([np.ones(frauds, np.int8), np.zeros(good, np.int8)])
    common, *own = random.normal(size=(3, frauds + good))
    amount_minor = random.integers(100, 100_000, frauds + good)
    a, b = (
        _probability(
            math.sqrt(shared) * common + math.sqrt(1 - shared) * part
            + is_fraud * math.sqrt(2) * NormalDist().inv_cdf(area)
        )
        for part, area in zip(own, (area_a, area_b), strict=True)
    )  # fmt: skip
    return Scored(a, b, is_fraud, amount_minor, np.ones(frauds + good), days)


def _probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    probability: NDArray[np.float64] = 1 / (1 + np.exp(3 - log_odds))
    return probability
