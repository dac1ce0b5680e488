"""Which commands create a home, and which report a missing one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Zaslon
from tests.cli.test_nonsense import assert_helps

READING = [
    ["evaluate"],
    ["replay", 3],
    ["decisions", "customer", 7],
    ["reconcile"],
    ["keys", "list"],
    ["keys", "revoke", "x"],
]
NEEDING = [["train"], ["features"], ["score", "rows.txt"], ["label", "labels.csv"], ["stream"]]


@pytest.mark.parametrize("command", [*READING, *NEEDING], ids=lambda c: " ".join(map(str, c)))
def test_commands_that_need_a_home_do_not_create_one(
    zaslon: Zaslon, tmp_path: Path, command: list[Any]
) -> None:
    home = tmp_path / "typo"
    assert_helps(zaslon(*command, "--home", home, "--json"), 7, f"no home '{home}'")
    assert not home.exists()


def test_topics_and_doctor_make_no_home(
    zaslon: Zaslon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    zaslon("topics", "--json")
    zaslon("doctor", "--json")
    assert zaslon("doctor", "--warm", "--json").code == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("days", "said"), [(0, "kept permanently"), (30, "removed after 30 days")])
def test_the_doctor_says_for_how_long_original_bytes_are_kept(
    zaslon: Zaslon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, said: str
) -> None:
    monkeypatch.setenv("ZASLON_ORIGINAL_RETENTION_DAYS", str(days))
    checks = zaslon("doctor", "--home", tmp_path / "home", "--json").json["checks"]
    (detail,) = [check["detail"] for check in checks if check["name"] == "original bytes of records"]
    assert said in detail


def test_evaluating_writes_nothing_into_the_home(zaslon: Zaslon, home: Path) -> None:
    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (home, *home.rglob("*"))}

    before = written()
    assert zaslon("evaluate", "--home", home, "--label-delay", "1d", "--json").code == 0
    assert written() == before


def test_an_impossible_home_is_refused(zaslon: Zaslon, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "home", Path("/proc/home")):
        assert_helps(zaslon("clean", "rows.txt", "--home", home, "--json"), 10, str(home))
