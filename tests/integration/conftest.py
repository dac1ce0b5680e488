"""A broker for the tests that need one: started once, in a place of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker

from zaslon.testing import SmallWorld

LIBS = Path(__file__).resolve().parents[2] / ".kafka" / "libs"


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    missing = LocalBroker.missing_tool()
    if missing and os.environ.get("ZASLON_SERVERS_REQUIRED") != "1":
        pytest.skip(f"no Kafka broker can be had here: {missing}")
    broker = LocalBroker(tmp_path_factory.mktemp("kafka"), libs=LIBS)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def home(small_world: SmallWorld, tmp_path: Path) -> Path:
    """A home with a trained champion and nothing else."""
    return small_world.in_home(tmp_path / "home").context.home
