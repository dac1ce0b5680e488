"""What a command has around it: a terminal, a pipe, a disk, a person with Ctrl-C."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import SmallRun, Zaslon
from tests.cli.test_the_log import outcomes
from tests.waiting import DEADLINE_SECONDS


def test_brackets_in_names_are_no_markup(zaslon: Zaslon, tmp_path: Path) -> None:
    answer = zaslon("clean", tmp_path / "[red]x[/].txt", "--home", tmp_path / "[b]")
    assert answer.code == 3
    assert "[red]x[/].txt" in answer.err
    for name in ("[red]", "[/b]"):
        answer = zaslon("simulate", tmp_path / f"{name}.txt", "--days", 1, "--rows", 10)
        assert answer.code == 0, answer
        assert f"{name}.txt" in answer.out


def test_an_empty_simulation_is_reported_without_shares(zaslon: Zaslon, tmp_path: Path) -> None:
    one = ("--profile", "handbook", "--customers", 1, "--terminals", 1, "--days", 1, "--seed", 1)
    answer = zaslon("simulate", tmp_path / "few.txt", *one)
    assert answer.code == 0, answer
    assert "0 rows" in answer.out, "a seed is needed that gives no row"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full, the full disk, is Linux's")
def test_unwritable_output_is_reported_on_stderr(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "zaslon.entrypoints.cli", "doctor", "--home", tmp_path, "--json"],
            stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert b"No space left" in process.stderr
    assert b"Traceback" not in process.stderr
    assert process.returncode == 10


def spawned(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "zaslon.entrypoints.cli", *(str(a) for a in arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    pipe = tmp_path / "endless.txt"
    os.mkfifo(pipe)
    process = spawned("clean", pipe, "--home", tmp_path / "home", "--out", tmp_path / "out", "--json")
    with pipe.open("wb") as file:  # returns when the command has opened its source
        file.write(b"# a header\n")
        file.flush()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130, err
    assert b'"kind":"Interrupted"' in out
    assert b"Traceback" not in err
    assert not (tmp_path / "out").exists()


def limit_of_files(size: int) -> Callable[[], None]:
    """To be called in a new process: a file cannot grow beyond `size` bytes, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_log_stays_whole(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    before = zaslon("replay", 3, "--home", home, "--json").json
    undisturbed = shutil.copytree(home, tmp_path / "undisturbed")
    assert zaslon("score", small_run.tomorrow, "--home", undisturbed, "--json").code == 0
    # Of what is written to score, the log is the largest: with less and less room it fails first.
    for share in (3, 6, 12, 24, 48):
        place = shutil.copytree(home, tmp_path / f"home-{share}")
        limit = limit_of_files((home / "log" / "journal.db").stat().st_size // share)
        process = spawned("score", small_run.tomorrow, "--home", place, "--json", preexec_fn=limit)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
        if process.returncode != 0:
            break
    assert process.returncode == 10, (out, err)
    assert b"Traceback" not in err
    assert zaslon("replay", 3, "--home", place, "--json").json == before
    assert zaslon("score", small_run.tomorrow, "--home", place, "--json").code == 0
    assert outcomes(place) == outcomes(undisturbed)


@pytest.mark.slow
def test_a_reader_that_goes_away_is_not_an_error(tmp_path: Path) -> None:
    process = spawned("doctor", "--home", tmp_path, "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(DEADLINE_SECONDS) == 1, err
    assert b"Traceback" not in err
