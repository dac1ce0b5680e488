"""Everything in a home is for its owner only, whatever the process masks."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import SmallRun, Zaslon
from tests.file_modes import nothing_masked as nothing_masked  # noqa: PLC0414  a fixture
from tests.file_modes import open_to_others

pytestmark = pytest.mark.usefixtures("nothing_masked")


def test_what_a_run_leaves_in_its_home_is_private(small_run: SmallRun) -> None:
    assert (small_run.home / "log" / "journal.db").exists()
    assert open_to_others(small_run.home) == []


def test_what_later_commands_write_is_private(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("transaction_id,is_fraud\n1,1\n")
    for command in (
        ("score", small_run.tomorrow), ("label", labels), ("features",), ("clean", small_run.tomorrow),
        ("shadow", "champion", "--once"), ("keys", "create", "--role", "scorer", "--name", "till"),
    ):  # fmt: skip
        done = zaslon(*command, "--home", home)
        assert done.code == 0, done.err
    assert zaslon("clean", small_run.tomorrow, "--home", home, "--out", tmp_path / "a" / "out").code == 0
    assert {"scored", "log", "features", "clean", "shadow"} <= {p.name for p in home.iterdir()}
    assert open_to_others(home) == open_to_others(tmp_path / "a") == []
