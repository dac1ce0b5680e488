"""`zaslon package`: the same bytes for the same files, a name that says what is in it, and clear refusals."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.archives import GivenArchive, packaging

from zaslon.adapters.environment.archive_folder import ArchiveFolder
from zaslon.adapters.environment.launchers import programs
from zaslon.adapters.environment.locked_environment import RELEASE_LOCK
from zaslon.adapters.environment.tar_archive import write_archive
from zaslon.domain.errors import SystemRefusedError
from zaslon.entrypoints.cli import main
from zaslon.flows.package import package

NAMES = st.text("abcXYZ._-é", min_size=1, max_size=12).filter(lambda name: name.strip(".") != "")
FILES = st.dictionaries(NAMES, st.binary(max_size=200), min_size=1, max_size=6)


@pytest.mark.law
@given(files=FILES, moments=st.lists(st.integers(0, 2**31), min_size=2, max_size=2, unique=True))
def test_the_same_files_are_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], moments: list[int]
) -> None:
    """Whatever their times, the order in which they were made, and where they lie."""
    archives = []
    for moment, names in zip(moments, (list(files), list(files)[::-1]), strict=True):
        directory = tmp_path_factory.mktemp("tree")
        for name in names:
            path = directory / "tree" / f"below-{name}" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(files[name])
            os.utime(path, (moment, moment))
        assert write_archive(directory / "tree", directory / "archive") == len(files)
        archives.append((directory / "archive").read_bytes())
    assert archives[0] == archives[1]


def test_a_changed_byte_or_right_is_another_archive(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    program = tree / "program"
    found = set()
    for number, (content, mode) in enumerate([(b"one", 0o600), (b"two", 0o644), (b"two", 0o755)]):
        program.write_bytes(content)
        program.chmod(mode)
        write_archive(tree, tmp_path / str(number))
        found.add((tmp_path / str(number)).read_bytes())
        with tarfile.open(tmp_path / str(number)) as archive:
            (member,) = archive.getmembers()
            assert member.mode == (0o755 if mode == 0o755 else 0o644)
            assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", 315_532_800)
    assert len(found) == 3


def test_a_folder_gets_an_archive_once(tmp_path: Path) -> None:
    store = ArchiveFolder(tmp_path / "code")
    world = packaging(tmp_path, store)
    first, second = package(world), package(world)
    path = Path(first.archive)
    assert (first.was_there, second.was_there) == (False, True)
    assert first.archive == second.archive
    assert path.read_bytes() == GivenArchive.content
    assert path.name.endswith(f"-{hashlib.sha256(path.read_bytes()).hexdigest()}.tar.gz")


def test_a_damaged_archive_is_written_again(tmp_path: Path) -> None:
    world = packaging(tmp_path, ArchiveFolder(tmp_path / "code"))
    path = Path(package(world).archive)
    path.write_bytes(GivenArchive.content[:-1] + b"!")
    assert not package(world).was_there
    assert path.read_bytes() == GivenArchive.content


def test_a_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code").write_text("a file")
    with pytest.raises(SystemRefusedError, match="cannot be written"):
        package(packaging(tmp_path, ArchiveFolder(tmp_path / "code")))


@pytest.mark.parametrize(
    ("text", "code"),
    [("numpy==2.4.6\n", 3), ("numpy>=2 --hash=sha256:" + "0" * 64 + "\n", 3), ("no requirement!\n", 3)],
)
def test_a_lock_that_binds_nothing_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, code: int
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(text)
    assert main(["package", "--home", str(tmp_path / "home"), "--lock", str(lock), "--json"]) == code
    error = json.loads(capfd.readouterr().out)["error"]
    assert "lock.txt" in error["message"]
    assert "hashes" in error["hint"]
    assert [path.name for path in (tmp_path / "home" / "packages").iterdir()] == [".lock"]


def test_a_lock_that_is_not_there_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["package", "--home", str(tmp_path / "home"), "--lock", str(tmp_path / "none"), "--json"]
    assert main(words) == 3
    assert "is not a file" in json.loads(capfd.readouterr().out)["error"]["message"]
    assert not (tmp_path / "home").exists()


def test_a_lock_without_what_zaslon_needs_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing has to be fetched for a lock that names nothing."""
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    assert main(["package", "--home", str(tmp_path / "home"), "--lock", str(lock), "--json"]) == 2
    message = json.loads(capfd.readouterr().out)["error"]["message"]
    assert "does not start" in message and "No module named" in message


def test_the_locked_packages_hold_no_spark() -> None:
    """The cluster has its own: one in the archive would be 300 MB that nobody reads."""
    names = [line.partition("==")[0] for line in RELEASE_LOCK.read_text("utf-8").splitlines() if "==" in line]
    assert {"numpy", "polars", "pyarrow", "pandas", "botocore", "s3fs"} <= set(names)
    assert {"pyspark", "py4j"}.isdisjoint(names)


def test_a_machine_without_python_says_so(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(programs("3.99", has_interpreter=False)["bin/python"])
    program.chmod(0o755)
    done = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "python3.99 is not on the PATH" in done.stderr and "--interpreter" in done.stderr
