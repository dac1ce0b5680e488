"""Servers for the tests of what runs on a cluster: each started once, in a place of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.hdfs_server import LocalHdfs
from tests.cluster.seaweed_server import LocalSeaweed
from tests.cluster.spark_cluster import LocalSpark, missing_spark
from tests.cluster.spark_commands import ARRIVED, write_sources, zaslon


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHdfs]:
    _skip_without(LocalHdfs.missing_tool())
    server = LocalHdfs(tmp_path_factory.mktemp("hdfs"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSeaweed]:
    """An S3 server with the bucket `lake`."""
    _skip_without(LocalSeaweed.missing_tool())
    server = LocalSeaweed(tmp_path_factory.mktemp("seaweed"))
    try:
        server.start()
        server.create_bucket("lake")
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def spark() -> None:
    """There is a Spark to work with."""
    _skip_without(missing := missing_spark())
    assert missing is None, missing


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files with the mission's defects; the last one repeats rows of the others, with answers that differ."""
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def embedded(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose clean days and features one process has made."""
    home = tmp_path_factory.mktemp("embedded")
    zaslon(sys.executable, "clean", *sources, "--arrived", ARRIVED, home=home)
    zaslon(sys.executable, "features", home=home)
    return home


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[LocalSpark]:
    place = tmp_path / "spark"
    place.mkdir()
    cluster = LocalSpark(place)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _skip_without(missing: str | None) -> None:
    if missing and os.environ.get("ZASLON_SERVERS_REQUIRED") != "1":
        pytest.skip(missing)
