"""Spark gives the rows of one process: cleaned, rejected, and their features, bit for bit."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.spark_cluster import SPARK_PYTHON, LocalSpark
from tests.cluster.spark_commands import (
    ARRIVED,
    assert_same_clean,
    assert_same_days,
    command,
    in_spark,
    result,
    zaslon,
)
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("spark")]

# Tasks are tried twice as a matter of course, and partitions are many and small.
SPECULATION = """
spark.speculation true
spark.speculation.quantile 0.1
spark.speculation.multiplier 1.0
spark.executor.memory 768m
spark.sql.files.maxRecordsPerFile 100
"""


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `zaslon package` reports of an archive with an interpreter."""
    home = tmp_path_factory.mktemp("packaged")
    return zaslon(sys.executable, "package", "--interpreter", home=home)


def test_spark_gives_the_rows_of_one_process(sources: Sequence[str], embedded: Path, tmp_path: Path) -> None:
    one = json.loads((embedded / "clean" / "_report.json").read_bytes())
    assert {"duplicate", "conflicting_duplicate"} <= one["rows_rejected"].keys() and one["answers_changed"]
    zaslon(SPARK_PYTHON, "clean", *sources, "--arrived", ARRIVED, *in_spark("local[2]"), home=tmp_path)
    assert_same_clean(tmp_path / "clean", embedded / "clean")
    report = zaslon(SPARK_PYTHON, "features", *in_spark("local[2]"), home=tmp_path)
    assert report["rows_clean"] == one["rows_clean"]
    assert_same_days(tmp_path / "features", embedded / "features")
    homes = {tmp_path / "from-spark": tmp_path, tmp_path / "from-embedded": embedded}
    for home in homes:
        home.mkdir()
    begun = [zaslon(sys.executable, "backfill", str(of / "clean"), home=home) for home, of in homes.items()]
    assert begun[0]["state"] == begun[1]["state"] and begun[0]["rows_applied"] > 20_000


def test_a_killed_executor_and_second_tries_change_nothing(
    sources: Sequence[str], embedded: Path, tmp_path: Path, standalone: LocalSpark
) -> None:
    (tmp_path / "spark-defaults.conf").write_text(SPECULATION)
    home = tmp_path / "home"
    work = command(
        SPARK_PYTHON, "clean", *sources, "--arrived", ARRIVED, *in_spark(standalone.master), home=home,
        SPARK_CONF_DIR=str(tmp_path),
    )  # fmt: skip
    standalone.kill_an_executor()
    result(work)
    assert_same_clean(home / "clean", embedded / "clean")


def test_what_no_source_is_ends_as_without_spark(embedded: Path, tmp_path: Path) -> None:
    (tmp_path / "no").write_text("nothing of ours\n")
    arguments = ["clean", str(tmp_path / "no"), "--arrived", ARRIVED]
    ended = [command(sys.executable, *arguments, home=tmp_path / "one")]
    ended += [command(SPARK_PYTHON, *arguments, *in_spark("local[1]"), home=tmp_path / "two")]
    one, other = (json.loads(work.communicate(timeout=DEADLINE_SECONDS)[0])["error"] for work in ended)
    assert one["kind"] == other["kind"] == "InputError"
    assert one["exit_code"] == other["exit_code"] == 3
    assert other["message"].startswith(one["message"].replace("/one/", "/two/"))


def test_executors_without_zaslon_are_one_clear_error(sources: Sequence[str], tmp_path: Path) -> None:
    work = command(
        SPARK_PYTHON,
        "clean",
        *sources,
        *in_spark("local[1]"),
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
    zaslon(
        SPARK_PYTHON, "clean", *sources, "--arrived", ARRIVED, *in_spark(standalone.master), home=home,
        SPARK_CONF_DIR=str(tmp_path), PYSPARK_PYTHON="./environment/bin/python",
    )  # fmt: skip
    assert_same_clean(home / "clean", embedded / "clean")
    # What it has compiled lies beside the code that ran.
    assert list(tmp_path.glob("spark/*/*/app-*/*/environment/lib/python3*/site-packages/zaslon/__pycache__"))


def test_a_driver_runs_from_the_archive_too(
    sources: Sequence[str], embedded: Path, tmp_path: Path, packaged: dict[str, Any]
) -> None:
    """As in a container of YARN: the archive is unpacked in the working directory, and PySpark is the cluster's."""
    shutil.unpack_archive(packaged["archive"], tmp_path / "environment")
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    for library in ("pyspark", "py4j"):
        (found,) = SPARK_PYTHON.parents[1].glob(f"lib/python3*/site-packages/{library}")
        (cluster / library).symlink_to(found)
    python, home = "./environment/bin/python", tmp_path / "home"
    zaslon(
        python, "clean", *sources, "--arrived", ARRIVED, *in_spark("local[2]"), home=home, directory=tmp_path,
        PYSPARK_PYTHON=python, PYTHONPATH=str(cluster),
    )  # fmt: skip
    assert_same_clean(home / "clean", embedded / "clean")
