"""The manifest of a table on a storage of the cluster, and where commands may write."""

from __future__ import annotations

from pathlib import Path

import pytest

from zaslon.adapters.cluster.hadoop.foreign_files import StorageAccess, WebAddresses
from zaslon.domain.errors import InputError, ZaslonError
from zaslon.entrypoints.cli import main
from zaslon.entrypoints.options import Engines
from zaslon.ports.cluster_tables import TableFile, TableManifest
from zaslon.system.opening import expanded

FILES = (TableFile("runs/a/days/day=2024-01-01/p.parquet", "2024-01-01", 3, 10),)
MANIFEST = TableManifest("zaslon clean", "runs/a", FILES, (TableFile("q", None, 1, 2),), {"days": []})


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert TableManifest.from_bytes(MANIFEST.to_bytes(), "x") == MANIFEST
    assert MANIFEST.rows == 3


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"1", b'{"format": 1, "files": 2, "quarantine": []}'])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="'x' does not describe a table"):
        TableManifest.from_bytes(content, "x")


def test_a_manifest_of_another_format_is_refused() -> None:
    with pytest.raises(InputError, match="another format"):
        TableManifest.from_bytes(MANIFEST.to_bytes().replace(b'"format": 1', b'"format": 2'), "x")


def test_only_a_cluster_writes_to_an_address(tmp_path: Path) -> None:
    assert Engines.SPARK.place("s3a://lake/a", tmp_path) == "s3a://lake/a"
    assert (
        Engines.EMBEDDED.place(None, tmp_path)
        == Engines.SPARK.place(f"file://{tmp_path}", Path())
        == tmp_path
    )
    with pytest.raises(ZaslonError, match="not a directory of this machine"):
        Engines.EMBEDDED.place("hdfs://n/a", tmp_path)


def test_features_of_a_table_need_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(tmp_path / "in"), "--rows", "50", "--days", "2", "--json"]) == 0
    home = ["--home", str(tmp_path / "home"), "--json"]
    assert main(["clean", str(tmp_path / "in"), *home]) == 0
    capsys.readouterr()
    assert main(["features", "--clean", "s3a://lake/clean", *home]) == 2
    assert "Only --engine spark reads and writes tables" in capsys.readouterr().out


def test_webhdfs_answers_where_it_is_said_or_at_the_usual_port() -> None:
    web = WebAddresses.of_setting(
        "n:1=h:2", {"fs.defaultFS": "hdfs://d:8020", "dfs.namenode.http-address": "w:3"}
    )
    assert [web.of(name) for name in ("n:1", "d", "other:8020")] == [("h", 2), ("w", 3), ("other", 9870)]
    assert web.default_namenode == "d:8020"


def test_keys_that_go_to_tasks_are_not_shown() -> None:
    access = StorageAccess(WebAddresses({}, {}), "me", {"AWS_SECRET_ACCESS_KEY": "hidden"})
    assert "hidden" not in repr(access)


def test_a_pattern_of_hdfs_without_a_namenode_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    assert main(["clean", "hdfs:///raw/*.txt", "--home", str(tmp_path / "home"), "--json"]) != 0
    assert "names no NameNode" in capsys.readouterr().out
    assert expanded([str(tmp_path)]) == [str(tmp_path)]
