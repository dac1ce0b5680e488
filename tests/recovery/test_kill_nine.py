"""`kill -9` at random moments: nothing lost, nothing doubled, nothing different."""

import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zaslon.testing import SmallWorld

SCORER = Path(__file__).with_name("crashing_scorer.py")


def run_until_done(home: Path, log: Path, seed: int) -> int:
    """Start the scorer again and again, killing it at seeded moments; returns how often."""
    chance = random.Random(seed)
    kills = 0
    for attempt in range(40):
        batch_size = chance.choice([1, 7, 40, 100])
        process = subprocess.Popen(
            [sys.executable, str(SCORER), str(home), str(log), str(batch_size)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        if process.stdout.readline() == b"ready\n" and attempt < 4:
            time.sleep(chance.uniform(0.0, 0.25))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        rest = process.stdout.read()
        code = process.wait(60)
        if code == 0 and b"done" in rest:
            return kills
        assert code == -signal.SIGKILL, f"the scorer ended with {code}"
    raise AssertionError("the scorer never finished")


@pytest.mark.parametrize("part", range(4))
def test_killed_at_random_moments_the_outcomes_are_those_of_an_undisturbed_run(
    small_world: SmallWorld, tmp_path: Path, kill_seeds: int, part: int
) -> None:
    rows = 1_500
    log = tmp_path / "log.pickle"
    log.write_bytes(
        pickle.dumps((small_world.records[:rows], small_world.kinds[:rows], small_world.arrivals[:rows]))
    )
    undisturbed = [o.to_json() for o in small_world.engine().process(small_world.batch(0, rows)).outcomes]
    kills = 0
    for seed in range(part, kill_seeds, 4):
        world = small_world.in_home(tmp_path / f"home-{seed}")
        kills += run_until_done(world.context.home, log, seed)
        recorded = list(world.context.open_journal().outcomes())
        assert [position for position, _ in recorded] == list(range(rows)), f"seed {seed}"
        assert [outcome for _, outcome in recorded] == undisturbed, f"seed {seed}"
    assert kills > 0
