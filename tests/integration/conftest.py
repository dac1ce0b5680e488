"""Servers for the tests that need them: each started once, in a place of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.kafka.broker import LocalBroker
from tests.integration.s3_server import LocalS3

from zaslon.testing import SmallWorld

LIBS = Path(__file__).resolve().parents[2] / ".kafka" / "libs"


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    missing = LocalBroker.missing_tool()
    if missing and os.environ.get("ZASLON_SERVERS_REQUIRED") != "1":
        pytest.skip(f"a Kafka broker cannot be started here: {missing}")
    broker = LocalBroker(tmp_path_factory.mktemp("kafka"), libs=LIBS)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    missing = LocalS3.missing_tool()
    if missing and os.environ.get("ZASLON_SERVERS_REQUIRED") != "1":
        pytest.skip(f"an S3 server cannot be started here: {missing}")
    server = LocalS3(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def home(small_world: SmallWorld, tmp_path: Path) -> Path:
    """A home with a trained champion and nothing else."""
    return small_world.in_home(tmp_path / "home").context.home
