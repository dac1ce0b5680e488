"""Files that may hold customer data are for their owner only, whatever the process masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import SmallRun, Zaslon

# Nothing of a customer is in them: models, their figures, empty locks.
WITHOUT_CUSTOMERS = ("models", "mlflow", "registry", ".lock")


@pytest.fixture
def nothing_masked() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(place: Path) -> list[str]:
    """What others than the owner may read, write or enter."""
    found = [place, *(p for p in place.rglob("*") if p.relative_to(place).parts[0] not in WITHOUT_CUSTOMERS)]
    return sorted(str(path) for path in found if path.stat().st_mode & 0o077)


def test_what_a_run_leaves_in_its_home_is_private(small_run: SmallRun) -> None:
    assert (small_run.home / "log" / "journal.db").exists()
    assert open_to_others(small_run.home) == []


@pytest.mark.usefixtures("nothing_masked")
def test_what_later_commands_write_is_private(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    assert zaslon("score", small_run.tomorrow, "--home", home, "--json").code == 0
    assert zaslon("clean", small_run.tomorrow, "--home", home, "--out", tmp_path / "a" / "out").code == 0
    assert zaslon("shadow", "champion", "--once", "--home", home).code == 0
    for place in (home / "scored", home / "log", home / "shadow", tmp_path / "a"):
        assert any(place.rglob("*")) and open_to_others(place) == []
