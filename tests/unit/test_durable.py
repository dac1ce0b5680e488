"""Files written durably: what others see of them, whatever becomes of the writer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from zaslon.system import durable
from zaslon.system.c_library import exchange_names


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "champion.json"
    durable.write_file(path, b"old")

    def fail() -> None:
        with durable.writing(path) as file:
            file.write(b"new")
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011  the one above
        fail()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    monkeypatch.setattr(
        os, "fsync", lambda _: modes.extend(p.stat().st_mode & 0o777 for p in tmp_path.iterdir())
    )
    durable.write_file(tmp_path / "pseudonym.key", b"secret", 0o600)
    assert set(modes) == {0o600}


def test_settling_removes_abandoned_files_only(tmp_path: Path) -> None:
    (tmp_path / ".keys.json.0badcafe.partial").write_bytes(b"half")
    with durable.writing(tmp_path / "keys.json") as file:
        durable.settle(tmp_path)
        file.write(b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["keys.json"]
    assert (tmp_path / "keys.json").read_bytes() == b"whole"


def test_a_directory_that_cannot_be_synced_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "no such operation here")

    monkeypatch.setattr(os, "fsync", refuse)
    durable.make_directory(tmp_path / "home" / "models")
    assert (tmp_path / "home" / "models").is_dir()


def test_a_failed_write_is_never_reported_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken"):
        durable.write_file(tmp_path / "keys.json", b"{}")
    assert not (tmp_path / "keys.json").exists()


def test_an_unreadable_directory_is_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise PermissionError

    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    durable.sync_directory(tmp_path)
    assert synced


def test_two_directories_swap_their_names_or_neither_does(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    assert not exchange_names(one, other)
    (other / "inside").mkdir(parents=True)
    assert exchange_names(one, other)
    assert [p.name for p in one.iterdir()] == ["inside"]
    assert list(other.iterdir()) == []
