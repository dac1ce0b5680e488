"""Intervals hold the truth about as often as they promise, however few frauds there are."""

from __future__ import annotations

import pytest
from benchmarks.interval_coverage import (
    World,
    coverage,
    of_one_model,
    of_two_models,
    truth_of_one,
    truth_of_two,
)

pytestmark = pytest.mark.slow

SAMPLES = 150
# 95 % is promised. Three standard errors of 150 samples are 5 points; the rest is what single amounts cannot tell
# of money, and what choosing a threshold on the same frauds adds to the recall at it.
HELD_MIN = 0.88


@pytest.mark.parametrize("unseeable", [0.02, 0.2])
@pytest.mark.parametrize("frauds", [1, 3, 10, 50, 400])
def test_every_figure_of_an_evaluation_holds_the_truth(frauds: int, unseeable: float) -> None:
    found = coverage(World(frauds, unseeable), SAMPLES)
    print(found)
    assert {name: share for name, share in found.held.items() if share < HELD_MIN} == {}
    assert found.without_width == 0


def test_frauds_of_one_customer_are_not_taken_for_news() -> None:
    world = World(400, 0.2, of_customer=8)
    for measured, truth in ((of_one_model, truth_of_one), (of_two_models, truth_of_two)):
        found = coverage(world, SAMPLES // 2, measured, truth)
        print(found)
        assert {name: share for name, share in found.held.items() if share < HELD_MIN} == {}


@pytest.mark.parametrize("frauds", [1, 3, 10, 50])
def test_every_difference_of_two_models_holds_the_truth(frauds: int) -> None:
    found = coverage(World(frauds, 0.2), SAMPLES, of_two_models, truth_of_two)
    print(found)
    assert {name: share for name, share in found.held.items() if share < 0.85} == {}
    assert found.without_width == 0
