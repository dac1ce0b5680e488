"""`zaslon copy` between a real S3 and a real HDFS, by a real DistCp."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.hdfs_server import JARS, LocalHdfs
from tests.cluster.seaweed_server import LocalSeaweed
from tests.waiting import until, until_ended

from zaslon.entrypoints.cli import main

pytestmark = pytest.mark.cluster
BIG_BYTES = 20_000_000
SOURCE = "s3a://lake/raw"
ODD_NAME = "a+(b)|$c%20^&'.txt"


@dataclass(frozen=True)
class Copies:
    """Two storages, a home, and the command between them."""

    seaweed: LocalSeaweed
    hdfs: LocalHdfs
    home: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, source: str, target: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, the JSON object, and standard error. A target that begins with a slash is on HDFS."""
        self.capture.readouterr()
        code = main(["copy", self.address(source), self.address(target), "--json", "--home", str(self.home)])
        captured = self.capture.readouterr()
        return code, json.loads(captured.out), captured.err

    def copied(self, source: str, target: str) -> dict[str, Any]:
        """The report of a copy that goes well."""
        code, report, messages = self(source, target)
        assert code == 0, messages
        return report

    def address(self, place: str) -> str:
        """The address of a place; the HDFS is the one of the configuration."""
        return f"hdfs://{place}" if place.startswith("/") else place


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digests(files: Any, root: str) -> dict[str, str]:
    begin = len(root) + 1
    return {path[begin:]: _sha256(files.cat_file(path)) for path in files.find(root)}


def _content() -> dict[str, bytes]:
    """30 small files, an empty one, one of several blocks and parts, and a name of what has a meaning elsewhere."""
    small = {f"day={n % 3}/часть {n}.txt": f"row {n}\n".encode() * (n + 1) for n in range(30)}
    return small | {"_SUCCESS": b"", "big.bin": random.Random(13).randbytes(BIG_BYTES), ODD_NAME: b"odd"}


@pytest.fixture(scope="module")
def content(seaweed: LocalSeaweed) -> Mapping[str, str]:
    """SHA-256 of what is at the source."""
    files = _content()
    for name, data in files.items():
        seaweed.files.pipe_file(f"lake/raw/{name}", data)
    return {name: _sha256(data) for name, data in files.items()}


@pytest.fixture
def copies(
    seaweed: LocalSeaweed, hdfs: LocalHdfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], content: Mapping[str, str],
) -> Copies:  # fmt: skip
    assert content
    of_tests = {"ZASLON_HADOOP_JARS": str(JARS), "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1"}
    for name, value in {**seaweed.environment, **hdfs.environment, **of_tests}.items():
        monkeypatch.setenv(name, value)
    return Copies(seaweed, hdfs, tmp_path / "home", capfd)


def test_a_folder_is_copied_once_and_compared(copies: Copies, content: Mapping[str, str]) -> None:
    first, second = copies.copied(SOURCE, "/raw"), copies.copied(SOURCE, "/raw")
    assert _digests(copies.hdfs.files, "/raw") == content
    assert first["target"] == f"{copies.hdfs.address}/raw"
    assert (first["files"], first["files_copied"], first["files_verified"]) == (len(content),) * 3
    assert first["bytes_copied"] == first["bytes"] > BIG_BYTES
    assert f"Files Copied={len(content)}\n" in Path(first["paths"]["log"]).read_text()
    assert (second["files_copied"], second["files_skipped"], second["paths"]["log"]) == (
        0,
        len(content),
        None,
    )
    manifest = json.loads(Path(first["paths"]["manifest"]).read_text())
    assert {name: found["sha256"] for name, found in manifest["files"].items()} == content

    # Other bytes of the same length, newer than the source: DistCp takes them for the same.
    for name in (ODD_NAME, "day=1/часть 4.txt"):
        size = copies.hdfs.files.info(f"/raw/{name}")["size"]
        copies.hdfs.files.pipe_file(f"/raw/{name}", b"?" * size)
    copies.hdfs.files.rm("/raw/day=2/часть 5.txt")
    third = copies.copied(SOURCE, "/raw")
    assert _digests(copies.hdfs.files, "/raw") == content
    assert (third["files_copied"], third["files_copied_again"], third["files_verified"]) == (
        3,
        2,
        len(content),
    )


def test_a_folder_of_hdfs_comes_to_s3_without_what_is_unfinished(copies: Copies) -> None:
    files = {"day=1/a b.txt": b"one", "big.bin": b"x" * BIG_BYTES}
    for name, data in {**files, ".distcp.tmp.attempt_1": b"half"}.items():
        copies.hdfs.files.pipe_file(f"/back/{name}", data)
    report = copies.copied("/back", "s3://lake/back")
    assert (report["files_copied"], report["files_verified"]) == (2, 2)
    assert _digests(copies.seaweed.files, "lake/back") == {n: _sha256(data) for n, data in files.items()}
    assert "directWrite=true" in Path(report["paths"]["log"]).read_text()


def test_a_killed_copy_resumes_and_leaves_no_secret(copies: Copies, content: Mapping[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "zaslon.entrypoints.cli", "copy", SOURCE, copies.address("/killed"),
         "--home", str(copies.home)],
        env=os.environ | {"ZASLON_COPY_MEGABYTES_PER_SECOND": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: _is_in_the_middle(copies) or process.poll() is not None, look_seconds=0.2)
    assert process.poll() is None, process.communicate()[1]
    (java,) = _children(process.pid)
    command = Path(f"/proc/{java}/cmdline").read_bytes()
    process.kill()
    process.communicate()
    left = [command, *(path.read_bytes() for path in copies.home.rglob("*") if path.is_file())]
    assert not any(copies.seaweed.secret.encode() in content for content in left)

    code, report, messages = copies(SOURCE, "/killed")
    assert code == 0, messages
    until_ended(java)
    assert "unfinished files of a copy that was cut short were removed" in messages
    assert 0 < report["files_skipped"] < len(content)
    assert _digests(copies.hdfs.files, "/killed") == content


def _is_in_the_middle(copies: Copies) -> bool:
    """Whether some files are complete and another is not."""
    names = [path.rpartition("/")[2] for path in copies.hdfs.files.find("/killed")]
    unfinished = [name for name in names if name.startswith(".distcp.tmp.")]
    return bool(unfinished) and len(unfinished) < len(names)


def _children(process: int) -> list[int]:
    threads = Path(f"/proc/{process}/task").iterdir()
    return [int(number) for thread in threads for number in (thread / "children").read_text().split()]


def test_a_wrong_secret_is_one_sentence(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    code, report, _ = copies(SOURCE, "/new")
    assert code == 11
    assert "signature" in report["error"]["message"]
    assert "AWS_SECRET_ACCESS_KEY" in report["error"]["hint"]


@pytest.mark.parametrize("source", ["s3a://lake/none", "s3a://no-such-bucket/raw", "/none"])
def test_a_source_that_is_not_there_is_named(copies: Copies, source: str) -> None:
    code, report, _ = copies(source, "/new")
    assert code == 3
    assert "does not exist" in report["error"]["message"]


def test_a_file_is_not_taken_for_a_folder(copies: Copies) -> None:
    code, report, _ = copies(f"{SOURCE}/_SUCCESS", "/new")
    assert (code, report["error"]["message"]) == (3, f"'{SOURCE}/_SUCCESS' is a file.")


def test_a_namenode_that_does_not_answer_is_one_sentence(copies: Copies) -> None:
    code, report, _ = copies(SOURCE, "hdfs://127.0.0.1:1/raw")
    assert code == 11
    assert "Connection refused" in report["error"]["message"]
    assert "ZASLON_HADOOP_WEBHDFS" in report["error"]["hint"]


def test_a_failure_of_distcp_is_explained_and_its_log_named(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZASLON_HADOOP_WEBHDFS", f"127.0.0.1:1={copies.hdfs.web}")
    code, report, _ = copies(SOURCE, "hdfs://127.0.0.1:1/new")
    assert code == 11
    message = report["error"]["message"]
    assert "a server cannot be reached (ConnectException" in message
    assert Path(message.split("'")[-2]).is_file()
