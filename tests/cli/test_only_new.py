"""`zaslon clean --only-new`: exit codes, JSON and sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Zaslon
from tests.unit.intake_cases import HEADER, content_of, line

from zaslon.entrypoints.options import NO_NEWS


def written(path: Path, *numbers: int) -> Path:
    rows = [line(transaction_id=n, tx_datetime=f"2019-08-2{n} 10:00:00") for n in numbers]
    path.write_text("\n".join([HEADER, *rows, ""]))
    return path


@pytest.fixture
def home(tmp_path: Path, zaslon: Zaslon) -> Path:
    """One into which a plain `clean` has put `a.txt`."""
    written(tmp_path / "a.txt", 1, 2)
    assert zaslon("clean", tmp_path / "a.txt", "--home", tmp_path / "home", "--json").code == 0
    return tmp_path / "home"


def test_nothing_new_ends_with_99_and_says_so(zaslon: Zaslon, home: Path) -> None:
    sources, before = [home.parent / "a.txt", "--home", home, "--only-new"], content_of(home / "clean")
    again = zaslon("clean", *sources, "--json")
    assert again.code == NO_NEWS
    found = again.json
    assert (found["news"], found["files_new"], found["files_known"], found["rows_in"]) == (False, [], 1, 0)
    spoken = zaslon("clean", *sources)
    assert spoken.code == NO_NEWS
    assert spoken.out.splitlines() == [f"No news: '{home / 'clean'}' holds the rows of all 1 files."]
    assert content_of(home / "clean") == before


def test_a_new_file_alone_is_cleaned_and_counted(zaslon: Zaslon, home: Path) -> None:
    new = written(home.parent / "b.txt", 2, 3)
    added = zaslon("clean", home.parent / "*.txt", "--home", home, "--only-new", "--json")
    assert added.code == 0
    found = added.json
    assert (found["news"], found["files_new"], found["files_known"]) == (True, [str(new)], 1)
    assert (found["rows_in"], found["rows_clean"], found["rows_rejected"]) == (2, 1, {"duplicate": 1})
    assert found["days"] == ["2019-08-23"]
    features = zaslon("features", "--home", home, "--json").json
    assert (features["rows_clean"], len(features["days"])) == (3, 3)


def test_a_cluster_cannot_add_files(zaslon: Zaslon, home: Path) -> None:
    sources = [home.parent / "a.txt", "--home", home, "--only-new"]
    refused = zaslon("clean", *sources, "--engine", "spark", "--master", "local[1]")
    assert refused.code == 2
    assert "--only-new does not go with a cluster" in refused.err
