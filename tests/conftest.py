"""How much is tried: `HYPOTHESIS_PROFILE=ci` for what must hold before a change lands."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from tests.effort import IS_THOROUGH, PROFILE
from tests.made_once import made_once

from zaslon.testing import SmallWorld, make_small_world, open_small_world

# No deadline: the first example of a compiled function may have to compile it.
settings.register_profile(
    "dev", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=1_000, print_blob=True)
settings.load_profile(PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-seeds", type=int, default=50 if IS_THOROUGH else 5,
        help="how many seeded runs of `kill -9` the recovery test does",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What Hypothesis tries is a law: `make laws` tries it with many more examples."""
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("law")


@pytest.fixture(scope="session")
def kill_seeds(request: pytest.FixtureRequest) -> int:
    seeds: int = request.config.getoption("--kill-seeds")
    return seeds


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """A small bank with a trained model; made once, never changed by a test."""
    return open_small_world(made_once(tmp_path_factory, "small-world", make_small_world))
