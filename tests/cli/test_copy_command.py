"""`zaslon copy` between folders of this machine: what it does around the program that copies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import file_distcp
from tests.cli.conftest import Answer, Zaslon

from zaslon.adapters.embedded.lock import exclusive_in
from zaslon.services.context import LOCK

NAMES = ("a.txt", "day=1/b [1].txt", "day=1/часть (2)|$.txt", "empty")


@dataclass(frozen=True)
class Folders:
    """A source with some files, a target that does not exist yet, and the command between them."""

    place: Path
    zaslon: Zaslon
    patch: pytest.MonkeyPatch

    @property
    def source(self) -> Path:
        return self.place / "from"

    @property
    def target(self) -> Path:
        return self.place / "to"

    @property
    def hadoop(self) -> Path:
        return self.place / "hadoop"

    def copy(self, *options: str) -> Answer:
        return self.zaslon("copy", f"file://{self.source}", f"file://{self.target}", "--json", *options)

    @contextmanager
    def fault(self, text: str) -> Iterator[None]:
        """The program fails in some way meanwhile."""
        with self.patch.context() as patch:
            patch.setenv("DISTCP_FAULT", text)
            yield

    def are_equal(self) -> bool:
        def content(folder: Path) -> dict[str, bytes]:
            paths = [path for path in folder.rglob("*") if path.is_file()]
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

        return content(self.source) == content(self.target)


@pytest.fixture
def folders(tmp_path: Path, zaslon: Zaslon, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("HADOOP_HOME", str(file_distcp.install(tmp_path / "hadoop")))
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("ZASLON_HOME", str(tmp_path / "home"))
    found = Folders(tmp_path, zaslon, monkeypatch)
    for number, name in enumerate(NAMES):
        path = found.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else name.encode() * (number + 1))
    return found


def test_all_files_are_copied_and_compared(folders: Folders) -> None:
    report = folders.copy().json
    assert folders.are_equal()
    assert (report["files"], report["files_copied"], report["files_verified"]) == (4, 4, 4)
    assert (
        report["bytes"]
        == report["bytes_copied"]
        == sum(f.stat().st_size for f in folders.target.rglob("*.txt"))
    )
    assert set(report["seconds"]) == {"list", "copy", "verify"}


def test_a_second_copy_does_not_start_hadoop(folders: Folders) -> None:
    folders.copy()
    (folders.hadoop / "bin" / "hadoop").write_text("#!/bin/false\n")
    report = folders.copy().json
    assert (report["files_copied"], report["files_skipped"], report["paths"]["log"]) == (0, 4, None)


def test_other_bytes_of_the_same_length_are_copied_again(folders: Folders) -> None:
    folders.copy()
    for name in NAMES[1:3]:
        (folders.source / name).write_bytes(b"?" * (folders.source / name).stat().st_size)
    report = folders.copy().json
    assert folders.are_equal()
    assert (report["files_copied"], report["files_copied_again"], report["files_skipped"]) == (2, 2, 2)
    assert "-overwrite" in (folders.hadoop / "arguments").read_text().splitlines()


def test_the_manifest_forgets_what_the_source_has_lost(folders: Folders) -> None:
    manifest = Path(folders.copy().json["paths"]["manifest"])
    (folders.source / "a.txt").unlink()
    folders.copy()
    assert sorted(json.loads(manifest.read_text())["files"]) == sorted(NAMES[1:])


def test_an_interrupted_copy_resumes(folders: Folders) -> None:
    with folders.fault("stop 2"):
        failed = folders.copy()
    assert failed.code == 11
    assert (folders.target / ".distcp.tmp.attempt_1").exists()
    report = folders.copy()
    assert folders.are_equal()
    assert "1 unfinished files" in report.err
    assert (report.json["files_copied"], report.json["files_skipped"]) == (2, 2)


def test_unfinished_files_of_the_source_stay_there(folders: Folders) -> None:
    (folders.source / ".distcp.tmp.attempt_1").write_bytes(b"half")
    assert folders.copy().json["files"] == 4
    assert not list(folders.target.glob(".distcp*"))


def test_files_that_only_the_target_has_stay_and_are_counted(folders: Folders) -> None:
    folders.target.mkdir()
    (folders.target / "other").write_bytes(b"mine")
    done = folders.copy()
    assert done.json["files_only_at_target"] == 1
    assert "1 files that the source does not have" in done.err
    assert (folders.target / "other").read_bytes() == b"mine"


def test_a_damaged_target_is_found_when_all_is_read_again(folders: Folders) -> None:
    folders.copy()
    manifest = Path(folders.copy().json["paths"]["manifest"])
    content = json.loads(manifest.read_text())
    content["files"]["a.txt"]["sha256"] = "0" * 64  # as if other bytes had been read then
    manifest.write_text(json.dumps(content))
    (folders.target / "a.txt").write_bytes(b"?????")
    assert folders.copy("--verify-all").json["files_copied_again"] == 1
    assert folders.are_equal()


def test_files_that_differ_after_two_copies_are_an_error(folders: Folders) -> None:
    with folders.fault("garble"):
        failed = folders.copy()
    assert failed.code == 11
    assert "3 of the files differ after two copies" in failed.json["error"]["message"]


def test_a_failure_names_its_reason_and_its_log(folders: Folders) -> None:
    with folders.fault("say org.apache.hadoop.x.QuotaExceededException: 1 GB is full."):
        failed = folders.copy()
    message = failed.json["error"]["message"]
    assert failed.code == 11
    assert "exit code 25: the target is full" in message
    assert "1 GB is full" in Path(message.split("'")[-2]).read_text()


def test_a_copy_that_takes_too_long_is_ended(folders: Folders) -> None:
    folders.patch.setenv("ZASLON_COPY_TIMEOUT", "1s")
    with folders.fault("hang"):
        failed = folders.copy()
    assert failed.code == 11
    assert "ZASLON_COPY_TIMEOUT" in failed.json["error"]["hint"]


def test_a_copy_that_runs_already_is_left_alone(folders: Folders) -> None:
    directory = Path(folders.copy().json["paths"]["manifest"]).parent
    with exclusive_in(directory / LOCK):
        assert folders.copy().code == 9


def test_a_damaged_manifest_is_named(folders: Folders) -> None:
    manifest = Path(folders.copy().json["paths"]["manifest"])
    for content in ("", "[]", '{"format": 2}', '{"format": 1, "files": {"a": {}}}'):
        manifest.write_text(content)
        failed = folders.copy()
        assert failed.code == 6
        assert str(manifest) in failed.json["error"]["message"]


def test_the_report_is_a_table_for_people(folders: Folders) -> None:
    done = folders.zaslon("copy", f"file://{folders.source}", f"file://{folders.target}")
    assert done.code == 0
    assert "files verified" in done.out


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("/a/b", "is not an address"),
        ("ftp://host/a", "is not an address"),
        ("", "is not an address"),
        ("hdfs:///raw", "does not say on which server"),
        ("s3a://", "does not say on which server"),
        ("file://host/a", "does not say on which server"),
        ("s3a://key:secret@lake/raw", "holds no user, key or password"),
        ("s3a://key:abc/secret@lake/raw", "bucket of an address is not a name"),
        ("s3://key:/secret@lake/raw", "bucket of an address is not a name"),
        ("s4://key:abc/secret@lake/raw", "'s4://…' is not an address"),
        ("s3a:/key:secret@lake/raw", "is not an address"),
        ("s3a://lake/raw/*.txt", "has a pattern"),
        ("s3a://lake/raw/../x", "has a pattern"),
        ("hdfs://namenode/raw//x", "has a pattern"),
        ("s3://lake/to/x", "overlap"),
        ("s3a://lake", "overlap"),
        ("s3n://lake/to/", "overlap"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(folders: Folders, source: str, sentence: str) -> None:
    refused = folders.zaslon("copy", source, "s3a://lake/to", "--json")
    assert refused.code == 2
    assert sentence in refused.json["error"]["message"]
    assert "secret" not in refused.out


def test_a_machine_without_hadoop_is_told_what_helps(folders: Folders, tmp_path: Path) -> None:
    folders.patch.setenv("HADOOP_HOME", str(tmp_path))
    assert "ZASLON_HADOOP_JARS" in folders.copy().json["error"]["hint"]
    folders.patch.setenv("ZASLON_HADOOP_JARS", str(tmp_path))
    assert "holds no hadoop-distcp" in folders.copy().json["error"]["message"]
    assert folders.copy().code == 2


@pytest.mark.parametrize("text", ["namenode", "namenode=", "namenode=host", "namenode=host:port", "=host:1"])
def test_an_address_of_webhdfs_is_checked(folders: Folders, text: str) -> None:
    folders.patch.setenv("ZASLON_HADOOP_WEBHDFS", text)
    assert "is not NAMENODE=HOST:PORT" in folders.copy().json["error"]["message"]


def test_a_source_without_files_is_an_error(folders: Folders) -> None:
    empty = folders.place / "empty"
    empty.mkdir()
    for source in (empty, folders.place / "none"):
        failed = folders.zaslon("copy", f"file://{source}", f"file://{folders.target}", "--json")
        assert failed.code == 3
        assert "does not exist, or has no files" in failed.json["error"]["message"]
