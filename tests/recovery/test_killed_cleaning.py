"""`kill -9` in the middle of cleaning: its original bytes are for their owner only, and soon gone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import orjson
import pytest

from zaslon.bootstrap import build_context
from zaslon.domain.errors import BusyError
from zaslon.services.context import Context
from zaslon.services.logs import exclusive, one_job
from zaslon.services.retention import forget_old_originals
from zaslon.settings import load_settings

SECRET = b"Ivanova, card 4000"
# The command itself; when all rows are staged it reports that, and waits for its end.
CLEANER = """
import os
import sys
from zaslon.entrypoints.cli import main
from zaslon.intake.staging import Staging

def wait(staging):
    print("staged", flush=True)
    sys.stdin.read()

os.umask(0)
Staging.settle_repeats = wait
main(sys.argv[1:])
"""


def rows() -> bytes:
    """Accepted rows, repeats of them, rejected ones, and one with a doubtful date."""
    good = {"tx_datetime": "2019-10-01 10:00:00", "customer_id": 7, "terminal_id": 5, "tx_amount": 20}
    numbered = [{"transaction_id": i % 50, **good, "note": SECRET.decode()} for i in range(100)]
    bad = [row | {"tx_amount": SECRET.decode()} for row in numbered[:9]]
    return b"\n".join(
        map(orjson.dumps, [*numbered, *bad, numbered[0] | {"tx_datetime": "2020-10-01 10:00:00"}])
    )


@contextmanager
def cleaning(home: Path, source: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has staged the rows of a source; it is killed."""
    command = [sys.executable, "-c", CLEANER, "clean", str(source), "--home", str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"staged\n"
            yield process
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL


def context_of(home: Path) -> Context:
    return build_context(load_settings(home=home, original_retention_days=1))


def holds_secret(home: Path) -> bool:
    return any(SECRET in path.read_bytes() for path in home.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def killed_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home after a kill; what was staged is also where `score` stages it."""
    place = tmp_path_factory.mktemp("killed")
    home, source = place / "home", place / "in.jsonl"
    source.write_bytes(rows())
    with cleaning(home, source):
        with exclusive(context_of(home)):  # as a service does, which may begin meanwhile
            assert holds_secret(home), "what is being written stays"
        with pytest.raises(BusyError), one_job(context_of(home)):
            pass
    shutil.copytree(home / ".clean.building", home / "scored" / "..cleaning.building")
    return home


def test_what_is_staged_is_private(killed_home: Path) -> None:
    staging = killed_home / ".clean.building" / ".staging"
    names = {path.name.split("-")[0] for path in staging.iterdir()}
    assert {"suspects", "doubtful"} <= names
    assert any(SECRET in path.read_bytes() for path in staging.iterdir())
    for path in (killed_home, killed_home / ".clean.building", staging, *staging.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def next_process(context: Context) -> None:
    with exclusive(context):
        """The service, or a command that decides."""


def retention(context: Context) -> None:
    with closing(context.open_journal()) as journal:
        forget_old_originals(context, journal)


@pytest.mark.parametrize("step", [next_process, retention])
def test_what_a_killed_process_staged_is_removed(
    step: Callable[[Context], None], killed_home: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(killed_home, tmp_path / "home")
    assert holds_secret(home)
    step(context_of(home))
    assert not holds_secret(home)
    assert not [*home.glob(".clean*"), *home.glob("scored/.*")]


def test_the_next_job_removes_what_a_killed_one_staged(killed_home: Path, tmp_path: Path) -> None:
    home = shutil.copytree(killed_home, tmp_path / "home", ignore=shutil.ignore_patterns("scored"))
    with one_job(context_of(home)):
        assert not holds_secret(home)


def test_an_output_that_was_put_aside_gets_its_name_back(killed_home: Path, tmp_path: Path) -> None:
    """Where two names cannot be exchanged, the old output has another one for a moment."""
    home = shutil.copytree(killed_home, tmp_path / "home")
    (home / ".clean.retired").mkdir()
    (home / ".clean.retired" / "old").touch()
    next_process(context_of(home))
    assert [path.name for path in (home / "clean").iterdir()] == ["old"] and not list(home.glob(".clean*"))
