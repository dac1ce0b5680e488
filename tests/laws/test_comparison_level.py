"""The comparison of models keeps its level, and finds what theory says it can find."""

from __future__ import annotations

import pytest
from benchmarks.comparison import BETTER_BY, study

pytestmark = pytest.mark.slow

PAIRS = 300


def test_equal_models_are_rarely_called_different() -> None:
    found = study(0.0, frauds=60, pairs=PAIRS, replicates=200)
    print(f"rule: {found.better:.1%} better, {found.worse:.1%} worse; t-test: {found.promoted:.1%} promoted")
    assert found.better <= 0.05
    assert found.worse <= 0.05
    assert found.better + found.worse <= 0.08, "two-sided at 5 %, and luck"
    assert found.promoted >= 0.35, "the t-test over 200 replicates promotes nearly every second one"


def test_an_improvement_is_found_as_often_as_theory_predicts() -> None:
    found = study(BETTER_BY, frauds=200, pairs=PAIRS // 2, replicates=200)
    print(f"found in {found.better:.1%} of pairs, theory: {found.expected_power:.1%}")
    assert 0.4 < found.expected_power < 0.95
    assert found.better == pytest.approx(found.expected_power, abs=0.1)
    assert found.worse == 0
