"""`kill -9` at random moments: nothing lost, nothing doubled, nothing different."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import orjson
import pytest
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.testing import SmallWorld

NURSERY = Path(__file__).with_name("crashing_scorer.py")
ROWS = 600
KILLS_MAX = 8  # of one log; then it is decided to its end


@dataclass(frozen=True)
class Death:
    """When a scorer is killed: a moment after it began, or after it has recorded an outcome.

    Attributes:
        position: of that outcome; None while the scorer recovers its state.
        after_seconds: from then on, so that it dies in the middle of anything.
    """

    position: int | None
    after_seconds: float

    @staticmethod
    def drawn(chance: random.Random, next_position: int) -> Death:
        if chance.random() < 0.2:
            return Death(None, chance.uniform(0.0, 0.1))
        nearest = min(next_position, ROWS - 1)
        return Death(nearest + chance.randrange((ROWS - nearest + 3) // 4), chance.uniform(0.0, 0.01))


class Nursery:
    """Starts scorers, and kills them."""

    def __init__(self, log: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(NURSERY), str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._expect(b"ready\n")

    def _expect(self, line: bytes) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == line

    def _channel(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def run(self, world: SmallWorld, batch_size: int, death: Death | None) -> bool:
        """One scorer's life; True if it was killed before it was done."""
        assert self._process.stdin is not None
        home = world.context.home
        self._process.stdin.write(f"{home} {batch_size}\n".encode())
        self._process.stdin.flush()
        child = int(self._channel())
        messages = b"" if death is None or death.position is None else self._channel()
        if death is not None and messages != b"ended\n":
            if death.position is not None:
                self._wait_for(world, death.position)
            time.sleep(death.after_seconds)
            with suppress(ProcessLookupError):  # it was faster
                os.kill(child, signal.SIGKILL)
        while messages != b"ended\n":
            messages = self._channel()
            assert messages, "the nursery is gone"
        assert not (home / "failed").exists(), (home / "failed").read_text()
        return not (home / "done").exists()

    def _wait_for(self, world: SmallWorld, position: int) -> None:
        """Until the outcome of a position is recorded, or the scorer has ended."""
        journal, home = world.context.open_journal_for_reading(), world.context.home
        until(
            lambda: (
                journal.outcome(position) is not None
                or (home / "done").exists()
                or (home / "failed").exists()
            )
        )
        journal.close()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE_SECONDS)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nursery(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    log = tmp_path_factory.mktemp("log") / "log.json"
    log.write_bytes(
        orjson.dumps(
            {
                "records": [r.decode("latin-1") for r in small_world.records[:ROWS]],
                "kinds": [int(k) for k in small_world.kinds[:ROWS]],
                "arrivals": small_world.arrivals[:ROWS],
            }
        )
    )
    nursery = Nursery(log)
    yield nursery
    nursery.close()


@pytest.mark.law
def test_random_kills_change_no_outcome(
    small_world: SmallWorld, nursery: Nursery, tmp_path: Path, kills: int, seed: int
) -> None:
    chance = random.Random(seed)
    processed = small_world.engine().process(small_world.batch(0, ROWS))
    undisturbed = [outcome.to_json() for outcome in processed.outcomes]
    done = done_in_the_middle = 0
    for number in count():
        if done >= kills:
            break
        home = tmp_path / f"home-{number}"
        world = small_world.in_home(home)
        next_position = 0
        for life in range(KILLS_MAX + 1):
            batch_size = chance.choice([1, 7, 40, 100])
            death = None if life == KILLS_MAX else Death.drawn(chance, next_position)
            if not nursery.run(world, batch_size, death):
                break
            done += 1
            with closing(world.context.open_journal()) as journal:
                next_position = journal.next_position
            done_in_the_middle += 0 < next_position < ROWS
        with closing(world.context.open_journal()) as journal:
            recorded = list(journal.outcomes())
        assert [position for position, _ in recorded] == list(range(ROWS)), f"run {number}"
        assert [outcome for _, outcome in recorded] == undisturbed, f"run {number}"
        shutil.rmtree(home)
    print(json.dumps({"kills": done, "in the middle of the log": done_in_the_middle, "runs": number}))
    assert done_in_the_middle > 0
