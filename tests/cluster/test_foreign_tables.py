"""Sources and tables on a real S3 and a real HDFS: Spark gives the rows of one process there, too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.dataset
import pytest
from tests.cluster.hdfs_server import LocalHdfs
from tests.cluster.seaweed_server import LocalSeaweed
from tests.cluster.spark_cluster import ROOT, SPARK_PYTHON, LocalSpark
from tests.cluster.spark_commands import (
    ARRIVED,
    QUARANTINE_ORDER,
    assert_same_days,
    command,
    in_spark,
    is_same,
    result,
    zaslon,
)
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.adapters.cluster.spark.source_rows import Sources
from zaslon.bootstrap.storage_wiring import reach_storages
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.errors import InputError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("spark")]
LOCAL = in_spark("local[2]")
OUT = "s3a://lake/clean"


@dataclass(frozen=True)
class Storages:
    """Both with the sources in them, and a folder with what commands leave."""

    seaweed: LocalSeaweed
    hdfs: LocalHdfs
    sources: Sequence[str]
    directory: Path

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.seaweed.environment, **self.hdfs.environment, "ZASLON_SPARK_JARS": str(ROOT / ".spark" / "jars"),
            "ZASLON_HADOOP_WEBHDFS": f"{self.hdfs.authority}={self.hdfs.web}",
        }  # fmt: skip

    def on_s3(self) -> list[str]:
        return [f"s3a://lake/spark/{Path(source).name}" for source in self.sources]

    def on_hdfs(self) -> list[str]:
        return [f"{self.hdfs.address}/spark/{Path(source).name}" for source in self.sources]

    def command(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return command(SPARK_PYTHON, *words, home=self.home, directory=None, **self.environment | environment)

    def clean(self, *words: str) -> dict[str, Any]:
        return result(self.command("clean", *words, "--arrived", ARRIVED, "--out", OUT))

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.seaweed.files.cat_file("lake/clean/_table.json"))
        return found


@pytest.fixture(scope="module")
def storages(
    seaweed: LocalSeaweed, hdfs: LocalHdfs, sources: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Storages:
    for source in sources:
        seaweed.files.put_file(source, f"lake/spark/{Path(source).name}")
        hdfs.files.put_file(source, f"/spark/{Path(source).name}")
    return Storages(seaweed, hdfs, sources, tmp_path_factory.mktemp("storages"))


@pytest.fixture(scope="module")
def table(storages: Storages) -> dict[str, Any]:
    """The report of cleaning from S3 into a table on S3, by workers whose environment has no keys."""
    place = storages.directory / "spark"
    place.mkdir()
    cluster = LocalSpark(place)
    try:
        cluster.start()
        return storages.clean(*storages.on_s3(), *in_spark(cluster.master))
    finally:
        cluster.stop()


def _fetched(files: Any, root: str, manifest: dict[str, Any], directory: Path) -> Path:
    """The days of a table in a directory, named as one process names them."""
    for file in manifest["files"]:
        target = directory / f"day={file['day']}" / "part-0.parquet"
        target.parent.mkdir(parents=True)
        content = files.cat_file(f"{root}/{file['path']}")
        assert len(content) == file["bytes"]
        target.write_bytes(content)
        assert len(pl.read_parquet(target, hive_partitioning=False)) == file["rows"]
    return directory


def _rejected(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of a quarantine in an order of their own, wherever the sources were."""
    return frame.with_columns(pl.col("source").str.split("/").list.last()).sort(QUARANTINE_ORDER)


def _assert_is_of_one_process(storages: Storages, embedded: Path, directory: Path) -> None:
    files, manifest = storages.seaweed.files, storages.manifest()
    assert_same_days(_fetched(files, "lake/clean", manifest, directory), embedded / "clean")
    (rejected,) = manifest["quarantine"]
    frame = pl.read_parquet(files.cat_file(f"lake/clean/{rejected['path']}"))
    assert len(frame) == rejected["rows"] > 700
    assert is_same(*map(_rejected, (frame, pl.read_parquet(embedded / "clean" / "_quarantine.parquet"))))
    report = json.loads((embedded / "clean" / "_report.json").read_bytes())
    assert {**manifest["report"], "sources": None} == {**report, "sources": None}


def test_a_table_on_s3_has_the_rows_of_one_process(
    storages: Storages, table: dict[str, Any], embedded: Path, tmp_path: Path
) -> None:
    _assert_is_of_one_process(storages, embedded, tmp_path)
    assert table["paths"]["clean"] == OUT
    run = storages.manifest()["run"]
    for part in ("days", "quarantine"):
        success = json.loads(storages.seaweed.files.cat_file(f"lake/clean/{run}/{part}/_SUCCESS"))
        assert success["committer"] == "magic" and success["filenames"]
    left = [path.read_bytes() for path in storages.directory.rglob("*") if path.is_file()]
    assert not any(storages.seaweed.secret.encode() in content for content in left) and len(left) > 10


def test_others_read_a_table_by_its_manifest(
    storages: Storages, table: dict[str, Any], embedded: Path
) -> None:
    files = storages.seaweed.files
    manifest = json.loads(files.cat_file("lake/clean/_table.json"))
    days = pyarrow.dataset.dataset(
        [f"lake/clean/{file['path']}" for file in manifest["files"]], filesystem=files
    ).to_table()
    expected = pl.read_parquet(embedded / "clean" / "day=*" / "*.parquet", hive_partitioning=False)
    assert is_same(pl.DataFrame(days), expected)
    assert len(expected) == manifest["rows"] == table["rows_clean"]


def test_features_go_from_a_table_on_s3_to_one_on_hdfs(
    storages: Storages, table: dict[str, Any], embedded: Path, tmp_path: Path
) -> None:
    out = f"{storages.hdfs.address}/features"
    report = result(storages.command("features", *LOCAL, "--clean", OUT, "--out", out))
    assert (report["rows_clean"], report["paths"]["features"]) == (table["rows_clean"], out)
    files = storages.hdfs.files
    manifest = json.loads(files.cat_file("/features/_table.json"))
    found = _fetched(files, "/features", manifest, tmp_path)
    for day in found.iterdir():
        (day / "part-0.parquet").rename(day / "part-00000.parquet")
    assert_same_days(found, embedded / "features")


def test_a_killed_driver_leaves_the_table_that_was(
    storages: Storages, table: dict[str, Any], embedded: Path, tmp_path: Path
) -> None:
    files, before = storages.seaweed.files, storages.manifest()
    old = "lake/clean/runs/20200101T000000-0123abcd"
    files.pipe_file(f"{old}/days/part.parquet", b"of a run that was killed years ago")
    again = ["clean", *storages.on_hdfs(), "--arrived", ARRIVED, *LOCAL, "--out", OUT]
    driver = storages.command(*again)
    until(lambda: _is_writing(files, before["run"]) or driver.poll() is not None, look_seconds=0.1)
    assert driver.poll() is None, driver.communicate()[1][-2_000:]
    _kill(driver)
    assert storages.manifest() == before
    assert all(files.exists(f"lake/clean/{file['path']}") for file in before["files"])

    result(storages.command(*again))
    _assert_is_of_one_process(storages, embedded, tmp_path)
    assert storages.manifest()["run"] != before["run"]
    assert files.exists(f"lake/clean/{before['files'][0]['path']}"), "readers may still be at it"
    assert not files.exists(f"{old}/days/part.parquet")


def _is_writing(files: Any, before: str) -> bool:
    """Whether a task of another run has begun to write a day."""
    runs = [path for path in files.find("lake/clean/runs") if not path.startswith(f"lake/clean/{before}/")]
    return any("/days/__magic" in path for path in runs)


def _kill(driver: subprocess.Popen[str]) -> None:
    """`kill -9` of Python and of its Java, of which neither can tidy up when the other is gone."""
    threads = Path(f"/proc/{driver.pid}/task").iterdir()
    children = [int(one) for thread in threads for one in (thread / "children").read_text().split()]
    for one in children:
        os.kill(one, signal.SIGSTOP)
    driver.kill()
    for one in children:
        os.kill(one, signal.SIGKILL)
    driver.communicate(timeout=DEADLINE_SECONDS)


def test_one_process_reads_sources_there_as_well(storages: Storages, embedded: Path, tmp_path: Path) -> None:
    first, second, third = storages.on_s3()[0], storages.on_hdfs()[1], storages.on_s3()[2]
    zaslon(
        sys.executable, "clean", first, second, third, "--arrived", ARRIVED, home=tmp_path, directory=None,
        **storages.environment,
    )  # fmt: skip
    assert_same_days(tmp_path / "clean", embedded / "clean")


def test_a_wrong_secret_is_one_sentence(storages: Storages, tmp_path: Path) -> None:
    environment = storages.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    pairs = [(storages.sources[0], "s3a://lake/none"), (storages.on_s3()[0], str(tmp_path / "out"))]
    begun = [
        command(
            SPARK_PYTHON, "clean", source, *LOCAL, "--out", out, home=tmp_path / str(n), directory=None, **environment
        )
        for n, (source, out) in enumerate(pairs)
    ]  # fmt: skip
    written, read = (json.loads(one.communicate(timeout=DEADLINE_SECONDS)[0])["error"] for one in begun)
    assert (written["kind"], read["kind"]) == ("ServerError", "InputError")
    assert "S3 refused the keys" in written["message"] and "may not be read" in read["message"]
    assert "AWS_SECRET_ACCESS_KEY" in written["hint"] and "keys" in read["hint"]


@pytest.mark.parametrize("place", ["s3a", "hdfs"])
def test_a_source_that_is_written_again_is_refused(
    storages: Storages, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in storages.environment.items():
        monkeypatch.setenv(name, value)
    files, path, address = {
        "s3a": (storages.seaweed.files, "lake/changed.txt", "s3a://lake/changed.txt"),
        "hdfs": (storages.hdfs.files, "/changed.txt", f"{storages.hdfs.address}/changed.txt"),
    }[place]
    content = Path(storages.sources[0]).read_bytes()
    files.pipe_file(path, content)
    reach_storages([address])
    sources, catalogue = Sources.of([address]), load_catalogue()
    assert sum(len(chunk) for chunk in sources.chunks(0, catalogue, 1 << 20)) > 10_000
    files.pipe_file(path, content[:-2] + b"0\n")
    with pytest.raises(InputError, match="changed while it was read"):
        list(sources.chunks(0, catalogue, 1 << 20))
