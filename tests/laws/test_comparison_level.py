"""The comparison of models keeps its level, and finds what theory says it can find."""

from __future__ import annotations

import pytest
from benchmarks.model_comparison import BETTER_BY, Together, study, watch, watch_series

pytestmark = pytest.mark.slow

PAIRS = 300


def test_equal_models_are_rarely_called_different() -> None:
    found = study(0.0, frauds=60, pairs=PAIRS, replicates=200)
    print(f"rule: {found.better:.1%} better, {found.worse:.1%} worse; t-test: {found.promoted:.1%} promoted")
    assert found.better <= 0.05
    assert found.worse <= 0.05
    assert found.better + found.worse <= 0.08, "two-sided at 5 %, and luck"
    assert found.promoted >= 0.35, "the t-test over 200 replicates promotes nearly every second one"


def test_frauds_that_come_together_keep_the_level() -> None:
    found = study(
        0.0, frauds=240, pairs=PAIRS // 3, replicates=200, together=Together(frauds=8, correlation=0.5)
    )
    print(f"{found.better:.1%} better, {found.worse:.1%} worse; taken as single {found.ungrouped:.1%}")
    assert found.better + found.worse <= 0.08, "two-sided at 5 %, and luck"
    assert found.ungrouped >= 0.15, "where nobody knows that they belong together"


def test_an_improvement_is_found_as_often_as_theory_predicts() -> None:
    found = study(BETTER_BY, frauds=200, pairs=PAIRS // 2, replicates=200)
    print(f"found in {found.better:.1%} of pairs, theory: {found.expected_power:.1%}")
    assert 0.4 < found.expected_power < 0.95
    assert found.better == pytest.approx(found.expected_power, abs=0.1)
    assert found.worse == 0


def test_a_year_of_daily_looks_keeps_the_level() -> None:
    found = watch(0.04, 0.04, frauds_a_day=10, years=PAIRS)
    print(f"recall {found.recall:.1%}, loss {found.loss:.1%}, fixed interval {found.fixed:.1%}")
    assert found.recall <= 0.05
    assert found.loss <= 0.05
    assert found.fixed >= 0.3, "an interval for one look is wrong on some day of nearly every second year"


def test_daily_looks_find_a_better_model_within_the_year() -> None:
    found = watch(0.02, 0.05, frauds_a_day=10, years=50)
    print(f"recall {found.recall:.1%} after {found.frauds:.0f} frauds, loss {found.loss:.1%}")
    assert found.recall >= 0.9
    assert found.frauds < 1_500


@pytest.mark.parametrize(("of_group", "within_days"), [(8, 120), (24, 300)])
def test_a_year_of_looks_at_grouped_frauds_keeps_the_level(of_group: int, within_days: int) -> None:
    together = Together(of_group, correlation=0.5)
    equal = watch_series(0.1, 0.1, frauds_a_day=10, together=together, years=PAIRS // 3)
    better = watch_series(0.05, 0.15, frauds_a_day=10, together=together, years=PAIRS // 10)
    print(f"{equal.series:.1%}, each for itself {equal.single:.1%}; better after {better.days:.0f} days")
    assert equal.series <= 0.05
    assert equal.single >= 0.25, "where each fraud of a customer or terminal counts for itself"
    assert better.days <= within_days
