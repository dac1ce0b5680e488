"""How much is tried: `HYPOTHESIS_PROFILE=ci` for what must hold before a change lands."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from tests.effort import IS_THOROUGH, PROFILE
from tests.made_once import made_once
from tests.postgres_server import LocalPostgres, running

from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.intake import clean_days
from zaslon.models.model import Model
from zaslon.models.training import TrainSettings
from zaslon.services.model_training import train_and_evaluate
from zaslon.services.samples import collect_samples
from zaslon.testing import SmallWorld, make_small_world, open_small_world

# No deadline: the first example of a compiled function may have to compile it.
settings.register_profile(
    "dev", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=1_000, print_blob=True)
settings.load_profile(PROFILE)

# Only the tests of the registry write into one: MLflow takes seconds to import.
os.environ.setdefault("ZASLON_REGISTRY", "none")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=50 if IS_THOROUGH else 5,
        help="how often the recovery test kills the embedded engine",
    )  # fmt: skip
    parser.addoption(
        "--service-kills",
        type=int,
        default=10,
        help="how often the recovery test kills the service under load",
    )
    parser.addoption("--kill-seed", type=int, default=0, help="of the random moments of both")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that kill are cut into parts, so that one that hangs differs from many that take long."""
    for argument, option, size in (("kills", "--kills", 50), ("service_kills", "--service-kills", 10)):
        if argument in metafunc.fixturenames:
            wanted, seed = metafunc.config.getoption(option), metafunc.config.getoption("--kill-seed")
            parts = [(min(size, wanted - n), seed + n) for n in range(0, wanted, size)]
            metafunc.parametrize((argument, "seed"), parts)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What Hypothesis tries is a law: `make laws` tries it with many more examples."""
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("law")


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """A small bank with a trained model; made once, never changed by a test."""
    return open_small_world(made_once(tmp_path_factory, "small-world", make_small_world))


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A real PostgreSQL; each test takes a database of its own."""
    yield from running()


@pytest.fixture(scope="session")
def challenger(small_world: SmallWorld) -> Model:
    """A second model for the small world's catalogue."""
    context = small_world.context
    days = clean_days(context.home / "clean", context.catalogue)
    samples = collect_samples(context, days, label_delay_seconds=7 * SECONDS_PER_DAY)
    return train_and_evaluate(context, samples, TrainSettings(rounds=5, rounds_max=5, threads=1)).model
