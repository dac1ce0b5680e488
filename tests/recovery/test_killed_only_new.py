"""`kill -9` while files are added: a reader sees rows and ledger of before or after, and the next run gives the same."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.intake_cases import HEADER, content_of, line

from zaslon.entrypoints.options import NO_NEWS

# The command itself, killed at a step.
CLEANER = """
import os
import signal
import sys
from zaslon.entrypoints.cli import main
from zaslon.intake.earlier_output import Taking
from zaslon.system import durable, replacing

def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def exchanged(new, target, real=durable.exchange_names):
    real(new, target)
    end()

def not_exchanged(new, target):
    durable.os.rename(target, durable._retired(target))
    end()

{step}
sys.exit(main(sys.argv[1:]))
"""
STEPS = {
    "the days are written": ("Taking.finish = end", "before"),
    "all is written": ("replacing.replace_directory = end", "before"),
    "the old one has no name": ("durable.exchange_names = not_exchanged", "nothing"),
    "the names are exchanged": ("durable.exchange_names = exchanged", "after"),
}


def clean(place: Path, sources: str, step: str = "", *more: str) -> int:
    command = [
        "clean",
        *sources.split(),
        "--only-new",
        "--home",
        "home",
        "--arrived",
        "2019-09-01 00:00:00",
        "--json",
        *more,
    ]
    words = [sys.executable, "-c", CLEANER.format(step=step), *command]
    return subprocess.run(words, cwd=place, stdout=subprocess.DEVNULL, timeout=120, check=False).returncode


@dataclass(frozen=True)
class Added:
    """A home into which `a.txt` was cleaned, beside it `b.txt`, and its clean days by what was done."""

    place: Path
    contents: dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Added:
    place = tmp_path_factory.mktemp("added")
    for name, numbers in {"a.txt": [1, 2], "b.txt": [2, 3]}.items():
        rows = [line(transaction_id=n, tx_datetime=f"2019-08-2{n} 10:00:00") for n in numbers]
        (place / name).write_text("\n".join([HEADER, *rows, "torn", ""]))
    assert clean(place, "a.txt") == 0
    contents = {"nothing": {}, "before": content_of(place / "home" / "clean")}
    shutil.copytree(place / "home", place / "kept")
    assert clean(place, "a.txt b.txt") == 0
    contents["after"] = content_of(place / "home" / "clean")
    return Added(place, contents)


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_run_is_repaired_by_the_next(step: str, added: Added) -> None:
    place, (change, seen) = added.place, STEPS[step]
    shutil.rmtree(place / "home")
    shutil.copytree(place / "kept", place / "home")
    assert clean(place, "a.txt b.txt", change) == -signal.SIGKILL
    assert content_of(place / "home" / "clean") == added.contents[seen]
    assert clean(place, "a.txt b.txt") == (NO_NEWS if seen == "after" else 0)
    assert content_of(place / "home" / "clean") == added.contents["after"]
    assert not list((place / "home").glob(".clean*"))


def test_an_output_elsewhere_that_lost_its_name_loses_no_row(added: Added) -> None:
    """A home is put in order before anything is read; what lies elsewhere first when it is written."""
    place, step = added.place, STEPS["the old one has no name"][0]
    assert clean(place, "a.txt", "", "--out", "elsewhere") == 0
    assert clean(place, "b.txt", step, "--out", "elsewhere") == -signal.SIGKILL
    assert not (place / "elsewhere").exists()
    assert clean(place, "b.txt", "", "--out", "elsewhere") == 3, "it was not there, and is again"
    assert clean(place, "b.txt", "", "--out", "elsewhere") == 0
    assert content_of(place / "elsewhere") == added.contents["after"]
