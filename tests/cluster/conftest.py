"""Servers for the tests of what runs on a cluster: each started once, in a place of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.cluster.hdfs_server import LocalHdfs
from tests.cluster.seaweed_server import LocalSeaweed


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


def _skip_without(missing: str | None) -> None:
    if missing and os.environ.get("ZASLON_SERVERS_REQUIRED") != "1":
        pytest.skip(missing)
