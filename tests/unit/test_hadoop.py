"""Hadoop's DistCp: what it is given, and what it says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from fsspec.implementations.local import LocalFileSystem
from tests import file_distcp

from zaslon.adapters.cluster.hadoop.addresses import parse_address, parse_pair
from zaslon.adapters.cluster.hadoop.cluster_files import (
    cluster_configuration,
    default_namenode,
    web_address,
)
from zaslon.adapters.cluster.hadoop.distcp import CopyLimits, DistCp, left_out
from zaslon.adapters.cluster.hadoop.failures import explained
from zaslon.adapters.cluster.hadoop.file_trees import StoredTree, local_tree
from zaslon.adapters.cluster.hadoop.hadoop_program import find_hadoop
from zaslon.adapters.cluster.hadoop.hadoop_settings import configuration_file, s3_access
from zaslon.domain.errors import InputError, ServerError, ZaslonError

SECRET = "s3cr3t+<&>/="


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "AWS_ACCESS_KEY_ID": "lake", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "ru-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)


def _read(configuration: bytes) -> dict[str, str]:
    root = ET.fromstring(configuration)
    return {str(p.findtext("name")): str(p.findtext("value")) for p in root}


def test_the_configuration_is_a_file_that_only_its_owner_can_read() -> None:
    with configuration_file({"a.b": SECRET}) as descriptor:
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
        assert _read(Path(f"/dev/fd/{descriptor}").read_bytes()) == {"a.b": SECRET}
        assert not os.get_inheritable(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.usefixtures("keys")
def test_a_secret_is_not_in_the_command_line_of_hadoop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = file_distcp.install(tmp_path / "hadoop")
    monkeypatch.setenv("HADOOP_HOME", str(home))
    for folder in ("from", "copy"):
        (tmp_path / folder).mkdir()
    (tmp_path / "from" / "a").write_bytes(b"1")
    hadoop = find_hadoop(None, tmp_path / "scratch", 2)
    tool = DistCp(
        hadoop, f"file://{tmp_path}/from", f"file://{tmp_path}/to", s3_access({}, one_process=hadoop.one_process),
        tmp_path / "copy", tmp_path / "scratch", CopyLimits(3, 7, 60),
    )  # fmt: skip
    steps: list[int] = []
    tool.copy(None, steps.append)
    arguments = (home / "arguments").read_text().splitlines()
    assert SECRET not in " ".join(arguments)
    assert arguments[:2] == ["distcp", "-conf"]
    assert arguments[3:8] == ["-update", "-m", "3", "-bandwidth", "7"]
    assert "-direct" not in arguments
    assert sum(steps) == 100
    configuration = _read((home / "configuration").read_bytes())
    assert configuration["fs.s3a.secret.key"] == SECRET
    assert configuration["fs.s3a.endpoint"] == "http://127.0.0.1:9"
    assert configuration["fs.s3a.path.style.access"] == "true"
    assert not any(SECRET.encode() in path.read_bytes() for path in (tmp_path / "copy").iterdir())


@pytest.mark.usefixtures("keys")
def test_one_java_process_gets_the_keys_in_its_environment() -> None:
    access = s3_access({}, one_process=True)
    assert access.environment == {"AWS_ACCESS_KEY_ID": "lake", "AWS_SECRET_ACCESS_KEY": SECRET}
    assert SECRET not in access.properties.values()


@pytest.mark.usefixtures("keys")
def test_a_temporary_key_brings_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    access = s3_access({}, one_process=False)
    assert access.properties["fs.s3a.session.token"] == "token"
    assert access.properties["fs.s3a.aws.credentials.provider"].endswith("TemporaryAWSCredentialsProvider")
    assert s3_access({}, one_process=True).environment["AWS_SESSION_TOKEN"] == "token"


@pytest.mark.usefixtures("keys")
def test_the_history_of_a_job_hides_the_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "mapreduce.job.redacted-properties"
    assert s3_access({}, one_process=False).properties[name] == "fs.s3a.access.key,fs.s3a.secret.key"
    assert name not in s3_access({}, one_process=True).properties
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    _write_site(tmp_path / "mapred-site.xml", mapreduce__job__redacted_properties="own.password")
    access = s3_access(cluster_configuration(), one_process=False)
    assert access.properties[name].split(",") == [
        "own.password", "fs.s3a.access.key", "fs.s3a.secret.key", "fs.s3a.session.token",
    ]  # fmt: skip


def test_without_keys_hadoop_finds_its_own(
    keys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert s3_access({}, one_process=False) == ({"fs.s3a.endpoint.region": "ru-1"}, {})


def test_only_what_is_named_is_copied_again() -> None:
    source = "s3a://lake/raw"
    names = ["a.txt", "day=1/b [1].txt", "x\\E|$^.txt", "часть 😀.txt", "a b"]
    finished, others = left_out(source, names[:3]).splitlines()
    assert [n for n in names if not re.fullmatch(others, f"{source}/{n}")] == names[:3]
    assert re.fullmatch(others, f"{source}/a.txt2")
    assert re.fullmatch(others, f"{source}/aXtxt")
    assert re.fullmatch(finished, f"{source}/.distcp.tmp.attempt_1")
    assert not re.fullmatch(finished, f"{source}/a.txt")
    assert left_out(source, ["часть 😀"]).isascii()


@pytest.mark.parametrize(
    ("log", "reason", "hint"),
    [
        ("x.ConnectException: refused; see http://a.\nx.IOException: job failed.",
         "a server cannot be reached (ConnectException: refused; see http://a)", "addresses"),
        ("x.SafeModeException: Name node is in safe mode", "HDFS is in safe mode", "Wait"),
        ("Status Code: 403; Error Code: AccessDenied", "S3 refused the keys", "AWS_ACCESS_KEY_ID"),
        ("java.lang.ClassNotFoundException: org.apache.hadoop.fs.s3a.S3AFileSystem", "Hadoop lacks a jar", "hadoop-aws"),
        ("x.NewException: what is it", "NewException: what is it", "log"),
        ("", "it does not say why", "log"),
    ],
)  # fmt: skip
def test_the_reason_of_a_failure_is_found_in_its_log(log: str, reason: str, hint: str) -> None:
    found, help_ = explained(log)
    assert found.startswith(reason)
    assert hint in help_


def test_a_file_that_is_shorter_than_listed_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    tree = local_tree(parse_address(f"file://{tmp_path}"))
    assert tree.files()["a"].size_bytes == 5
    with pytest.raises(ServerError, match="gave 5 of 6 bytes"):
        tree.sha256("a", 6)
    with pytest.raises(ServerError, match="cannot be read"):
        tree.sha256("b", 1)
    with pytest.raises(InputError, match="is a file"):
        local_tree(parse_address(f"file://{tmp_path}/a")).files()


def test_a_folder_that_goes_while_it_is_listed_is_not_an_empty_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    tree = local_tree(parse_address(f"file://{tmp_path}"))
    assert local_tree(parse_address(f"file://{tmp_path}/none")).files() == {}

    def scandir(path: str) -> object:
        (tmp_path / "a").rmdir()
        raise FileNotFoundError(f"{path} is gone")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ServerError, match="is gone"):
        tree.files()


def test_a_file_that_is_written_again_has_another_version(tmp_path: Path) -> None:
    tree = local_tree(parse_address(f"file://{tmp_path}"))
    (tmp_path / "a").write_bytes(b"1")
    first = tree.files()["a"]
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "b").replace(tmp_path / "a")
    assert tree.files()["a"].version != first.version


def _write_site(path: Path, **values: str) -> None:
    properties = "".join(
        f"<property><name>{name.replace('__', '.').replace('_', '-')}</name><value>{value}</value></property>"
        for name, value in values.items()
    )
    path.write_text(f"<configuration>{properties}</configuration>")


def test_the_hdfs_of_the_configuration_is_meant_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    assert default_namenode(cluster_configuration()) is None
    _write_site(tmp_path / "core-site.xml", fs__defaultFS="hdfs://nn:8020/")
    _write_site(tmp_path / "hdfs-site.xml", dfs__namenode__http_address="0.0.0.0:50070")
    configuration = cluster_configuration()
    namenode = default_namenode(configuration)
    assert str(parse_address("hdfs:///raw", namenode)) == "hdfs://nn:8020/raw"
    assert [web_address(configuration, name) for name in ("nn:8020", "nn", "other:8020")] == [
        "nn:50070", "nn:50070", None,
    ]  # fmt: skip
    (tmp_path / "core-site.xml").write_text("<configuration>")
    with pytest.raises(ZaslonError, match=r"core-site\.xml' cannot be read"):
        cluster_configuration()


@pytest.mark.parametrize(("source", "target", "overlap"), [
    ("hdfs://nn/raw", "hdfs://nn:8020/raw/sub", True),
    ("hdfs://nn:8020/raw/sub", "hdfs://nn/raw", True),
    ("hdfs://[::1]/raw", "hdfs://[::1]:8020/raw", True),
    ("hdfs://nn/raw", "hdfs://nn:9000/raw/sub", False),
    ("hdfs://nn/raw", "hdfs://nn:8020/raw2", False),
])  # fmt: skip
def test_a_namenode_has_its_usual_port_where_none_is_named(source: str, target: str, overlap: bool) -> None:
    if not overlap:
        assert list(map(str, parse_pair(source, target, None))) == [source, target]
        return
    with pytest.raises(ZaslonError, match="overlap"):
        parse_pair(source, target, None)


def test_another_file_system_of_the_configuration_is_not_hdfs() -> None:
    assert default_namenode({"fs.defaultFS": "s3a://lake"}) is None
    assert web_address({"dfs.namenode.http-address": "nn:9870"}, "nn") is None


class _Guarded(LocalFileSystem):  # type: ignore[misc]
    """Files of this machine, with a folder that may not be listed."""

    def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
        if str(path).endswith("/closed"):
            raise PermissionError(path)
        return super().ls(path, detail=detail, **more)


def test_a_folder_deep_below_that_may_not_be_listed_is_an_error(tmp_path: Path) -> None:
    for folder in ("open", "deep/closed"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_text("content")
    tree = StoredTree(_Guarded(skip_instance_cache=True), str(tmp_path), parse_address("hdfs://nn/raw"), ())
    with pytest.raises(ServerError, match="cannot be read"):
        tree.files()
    (tmp_path / "deep" / "closed").rename(tmp_path / "deep" / "other")
    assert sorted(tree.files()) == ["deep/other/file", "open/file"]
