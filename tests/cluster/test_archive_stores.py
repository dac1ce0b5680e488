"""Archives on a real S3 and a real HDFS: written once, under their name only when they are complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.archives import GivenArchive, packaging
from tests.cluster.hdfs_server import LocalHdfs
from tests.cluster.seaweed_server import LocalSeaweed

from zaslon.bootstrap.package_wiring import open_archive_store
from zaslon.domain.errors import ServerError
from zaslon.flows.package import package
from zaslon.settings import load_settings

pytestmark = pytest.mark.cluster
PLACE = "lake/code"


@pytest.fixture
def _servers(seaweed: LocalSeaweed, hdfs: LocalHdfs, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (seaweed.environment | hdfs.environment).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_servers")
@pytest.mark.parametrize("scheme", ["s3a", "hdfs"])
def test_an_archive_is_uploaded_once(
    scheme: str, seaweed: LocalSeaweed, hdfs: LocalHdfs, tmp_path: Path
) -> None:
    address, folder = {"s3a": (f"s3a://{PLACE}", PLACE), "hdfs": (f"hdfs:///{PLACE}", f"/{PLACE}")}[scheme]
    files = seaweed.files if scheme == "s3a" else hdfs.files
    world = packaging(tmp_path, open_archive_store(load_settings(home=tmp_path), address))
    first = package(world)
    stored = f"{folder}/{first.built.name}"
    assert not first.was_there
    assert files.cat_file(stored) == GivenArchive.content
    assert package(world).was_there
    # What a killed upload left under the name is replaced, and no second file stays.
    files.rm_file(stored)
    files.pipe_file(stored, b"half")
    assert not package(world).was_there
    assert files.cat_file(stored) == GivenArchive.content
    assert len(files.find(folder)) == 1


@pytest.mark.usefixtures("_servers")
def test_a_refused_upload_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    store = open_archive_store(load_settings(home=tmp_path), f"s3a://{PLACE}")
    with pytest.raises(ServerError, match="lake/code") as caught:
        package(packaging(tmp_path, store))
    assert "another" not in str(caught.value)
    assert "AWS_SECRET_ACCESS_KEY" in str(caught.value)
