"""Spark gives the rows of one process: cleaned, rejected, and their features, bit for bit."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.cluster.spark_cluster import SPARK_PYTHON, LocalSpark, missing_spark, spark_environment
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.cluster

ROWS = int(os.environ.get("ZASLON_TEST_SPARK_ROWS", "30000"))
ARRIVED = "2024-01-01 00:00:00"
QUARANTINE_ORDER = ["source", "record", "offset", "reason", "field"]
# Tasks are tried twice as a matter of course, and partitions are many and small.
SPECULATION = """
spark.speculation true
spark.speculation.quantile 0.1
spark.speculation.multiplier 1.0
spark.executor.memory 768m
spark.sql.files.maxRecordsPerFile 100
"""


@pytest.fixture(scope="module", autouse=True)
def _spark() -> None:
    missing = missing_spark()
    if missing and os.environ.get("ZASLON_SERVERS_REQUIRED") != "1":
        pytest.skip(missing)
    assert missing is None, missing


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files with the mission's defects; the last one repeats rows of the others, with answers that differ."""
    directory = tmp_path_factory.mktemp("sources")
    whole = directory / "whole"
    arguments = [
        "--rows",
        str(ROWS),
        "--days",
        "60",
        "--customers",
        str(ROWS // 50),
        "--defects",
        "20",
        "--format",
        "mission",
    ]
    _zaslon(sys.executable, "simulate", str(whole), *arguments)
    header, *rows = whole.read_bytes().splitlines()
    half = len(rows) // 2
    again = [_repeated(row, n) for n, row in enumerate(rows[100:900])]
    parts = {
        "first.txt": rows[:half],
        "second.txt.gz": rows[half:],
        "third.txt": [*again, b"7,2019", b'1,"2'],
    }
    for name, part in parts.items():
        content = b"\n".join([header, *part, b""])
        (directory / name).write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    return [str(directory / name) for name in parts]


def _repeated(row: bytes, number: int) -> bytes:
    """A row again: as it was, with another amount, or with another answer."""
    fields = row.split(b",")
    if number % 3 == 1:
        fields[4:5] = [b"1.23"]
    elif number % 3 == 2:
        fields[-2:] = [b"1", b"3"]
    return b",".join(fields)


@pytest.fixture(scope="module")
def embedded(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose clean days and features one process has made."""
    home = tmp_path_factory.mktemp("embedded")
    _zaslon(sys.executable, "clean", *sources, "--arrived", ARRIVED, home=home)
    _zaslon(sys.executable, "features", home=home)
    return home


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `zaslon package` reports of an archive with an interpreter."""
    home = tmp_path_factory.mktemp("packaged")
    return _zaslon(sys.executable, "package", "--interpreter", home=home)


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


def _command(
    python: str | Path,
    *words: str,
    home: Path | None = None,
    directory: Path | None = None,
    **environment: str,
) -> subprocess.Popen[str]:
    key = {"ZASLON_PSEUDONYM_KEY": "the key of these tests"} if home else {}
    given = spark_environment(**environment, **key, **({"ZASLON_HOME": str(home)} if home else {}))
    return subprocess.Popen(
        [str(python), "-m", "zaslon.entrypoints.cli", *words, "--json"], env=given, text=True,
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=2 * DEADLINE_SECONDS)
    assert process.returncode == 0, errors[-3_000:]
    found: dict[str, Any] = json.loads(out)
    return found


def _zaslon(
    python: str | Path,
    *words: str,
    home: Path | None = None,
    directory: Path | None = None,
    **environment: str,
) -> dict[str, Any]:
    return _result(_command(python, *words, home=home, directory=directory, **environment))


def _in_spark(master: str) -> list[str]:
    return ["--engine", "spark", "--master", master]


def _days(directory: Path) -> dict[str, pl.DataFrame]:
    files = sorted(directory.glob("day=*/*.parquet"))
    return {
        str(path.relative_to(directory)): pl.read_parquet(path, hive_partitioning=False) for path in files
    }


def _assert_same_days(found: Path, expected: Path) -> None:
    ours, theirs = _days(found), _days(expected)
    assert list(ours) == list(theirs) and len(ours) > 20
    different = [day for day, rows in ours.items() if not _is_same(rows, theirs[day])]
    assert different == []


def _is_same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Bit for bit, NaN as well."""
    return one.schema == other.schema and one.equals(other, null_equal=True)


def _assert_same_clean(found: Path, expected: Path) -> None:
    assert (found / "_report.json").read_bytes() == (expected / "_report.json").read_bytes()
    _assert_same_days(found, expected)
    rejected = [
        pl.read_parquet(out / "_quarantine.parquet").sort(QUARANTINE_ORDER) for out in (found, expected)
    ]
    assert _is_same(*rejected) and len(rejected[0]) > 700


def test_spark_gives_the_rows_of_one_process(sources: Sequence[str], embedded: Path, tmp_path: Path) -> None:
    one = json.loads((embedded / "clean" / "_report.json").read_bytes())
    assert {"duplicate", "conflicting_duplicate"} <= one["rows_rejected"].keys() and one["answers_changed"]
    _zaslon(SPARK_PYTHON, "clean", *sources, "--arrived", ARRIVED, *_in_spark("local[2]"), home=tmp_path)
    _assert_same_clean(tmp_path / "clean", embedded / "clean")
    report = _zaslon(SPARK_PYTHON, "features", *_in_spark("local[2]"), home=tmp_path)
    assert report["rows_clean"] == one["rows_clean"]
    _assert_same_days(tmp_path / "features", embedded / "features")


def test_a_killed_executor_and_second_tries_change_nothing(
    sources: Sequence[str], embedded: Path, tmp_path: Path, standalone: LocalSpark
) -> None:
    (tmp_path / "spark-defaults.conf").write_text(SPECULATION)
    home = tmp_path / "home"
    work = _command(
        SPARK_PYTHON, "clean", *sources, "--arrived", ARRIVED, *_in_spark(standalone.master), home=home,
        SPARK_CONF_DIR=str(tmp_path),
    )  # fmt: skip
    standalone.kill_an_executor()
    _result(work)
    _assert_same_clean(home / "clean", embedded / "clean")


def test_what_no_source_is_ends_as_without_spark(embedded: Path, tmp_path: Path) -> None:
    (tmp_path / "no").write_text("nothing of ours\n")
    arguments = ["clean", str(tmp_path / "no"), "--arrived", ARRIVED]
    ended = [_command(sys.executable, *arguments, home=tmp_path / "one")]
    ended += [_command(SPARK_PYTHON, *arguments, *_in_spark("local[1]"), home=tmp_path / "two")]
    one, other = (json.loads(work.communicate(timeout=DEADLINE_SECONDS)[0])["error"] for work in ended)
    assert one["kind"] == other["kind"] == "InputError"
    assert one["exit_code"] == other["exit_code"] == 3
    assert other["message"].startswith(one["message"].replace("/one/", "/two/"))


def test_executors_without_zaslon_are_one_clear_error(sources: Sequence[str], tmp_path: Path) -> None:
    work = _command(
        SPARK_PYTHON,
        "clean",
        *sources,
        *_in_spark("local[1]"),
        home=tmp_path,
        PYSPARK_PYTHON="/usr/bin/python3",
    )
    _, errors = work.communicate(timeout=DEADLINE_SECONDS)
    assert work.returncode == 11
    assert "The executors of Spark" in errors
    assert "docs/guides/cluster.md" in errors or "Spark's own log" in errors
    assert not (tmp_path / "clean").exists()


def test_executors_need_nothing_but_the_archive(
    sources: Sequence[str], embedded: Path, tmp_path: Path, standalone: LocalSpark, packaged: dict[str, Any]
) -> None:
    (tmp_path / "spark-defaults.conf").write_text(f"spark.archives {packaged['archive']}#environment\n")
    home = tmp_path / "home"
    _zaslon(
        SPARK_PYTHON, "clean", *sources, "--arrived", ARRIVED, *_in_spark(standalone.master), home=home,
        SPARK_CONF_DIR=str(tmp_path), PYSPARK_PYTHON="./environment/bin/python",
    )  # fmt: skip
    _assert_same_clean(home / "clean", embedded / "clean")
    # What it has compiled lies beside the code that ran.
    assert list(tmp_path.glob("spark/*/*/app-*/*/environment/lib/python3*/site-packages/zaslon/__pycache__"))


def test_a_driver_runs_from_the_archive_too(
    sources: Sequence[str], embedded: Path, tmp_path: Path, packaged: dict[str, Any]
) -> None:
    """As in a container of YARN: the archive is unpacked in the working directory, and PySpark is the cluster's."""
    with tarfile.open(packaged["archive"]) as archive:
        archive.extractall(tmp_path / "environment", filter="data")
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    for library in ("pyspark", "py4j"):
        (found,) = SPARK_PYTHON.parents[1].glob(f"lib/python3*/site-packages/{library}")
        (cluster / library).symlink_to(found)
    python, home = "./environment/bin/python", tmp_path / "home"
    _zaslon(
        python, "clean", *sources, "--arrived", ARRIVED, *_in_spark("local[2]"), home=home, directory=tmp_path,
        PYSPARK_PYTHON=python, PYTHONPATH=str(cluster),
    )  # fmt: skip
    _assert_same_clean(home / "clean", embedded / "clean")
