"""How much is tried: `HYPOTHESIS_PROFILE=ci` for what must hold before a change lands."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from zaslon.testing import SmallWorld, make_small_world

# No deadline: the first example of a compiled function may have to compile it.
settings.register_profile(
    "default", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=1_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-seeds", type=int, default=20, help="how many seeded runs of `kill -9` the recovery test does"
    )


@pytest.fixture(scope="session")
def kill_seeds(request: pytest.FixtureRequest) -> int:
    seeds: int = request.config.getoption("--kill-seeds")
    return seeds


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """A small bank with a trained model; made once, never changed by a test."""
    return make_small_world(tmp_path_factory.mktemp("small-world"))
