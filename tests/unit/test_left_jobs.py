"""Jobs of a scheduler that was killed: the next one ends them before it begins its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.schedule_world import ScheduleWorld, SetClock, at
from tests.waiting import DEADLINE_SECONDS

from zaslon.adapters.process.left_processes import MARK, end_marked
from zaslon.domain.jobs import JobList
from zaslon.flows.schedule import keep_schedule
from zaslon.services.job_runs import RunStore

SCHEDULER = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.schedule_world import ScheduleWorld, SetClock, at
from zaslon.adapters.process.job_process import ChildProcesses
from zaslon.flows.schedule import keep_schedule
world = ScheduleWorld(Path(sys.argv[1]), SetClock(at("2026-03-02 02:29"), at("2026-03-03 02:00")))
jobs = ChildProcesses([sys.executable, "-IS", "-c", sys.argv[2]], {"HEARD": sys.argv[3]})
keep_schedule(replace(world.schedule(), processes=jobs))
"""
# A job with a child, which both say their numbers to whoever listens, and wait.
JOB = """
import os, signal, sys
signal.signal(signal.SIGTERM, {term})
os.fork() or os.setsid()
with open(os.environ["HEARD"], "w") as file:
    file.write(f"{{os.getpid()}}\\n")
while True:
    signal.pause()
"""
ASKED = JOB.format(term="lambda *_: os._exit(0)")
STUBBORN = JOB.format(term="signal.SIG_IGN")


@contextmanager
def left_by_a_killed_scheduler(place: Path, job: str) -> Iterator[list[int]]:
    """The two processes of a job whose scheduler was killed: handles that no other process can get."""
    heard = place / "heard"
    os.mkfifo(heard)
    numbers: list[str] = []
    with subprocess.Popen([sys.executable, "-c", SCHEDULER, place, job, heard]) as scheduler:
        while len(numbers) < 2:
            numbers += heard.read_text().split()
        scheduler.kill()
    handles = [os.pidfd_open(int(number)) for number in numbers]
    try:
        yield handles
    finally:
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)


def next_scheduler(place: Path, end_within_seconds: float, chain: str = "daily") -> list[str]:
    """What it said; it starts half an hour later."""
    world = ScheduleWorld(
        place, SetClock(at("2026-03-02 03:00"), at("2026-03-02 04:00")), end_within_seconds=end_within_seconds
    )
    schedule = world.schedule()
    jobs = JobList(chains=(schedule.jobs.chain("daily").model_copy(update={"name": chain}),))
    keep_schedule(replace(schedule, jobs=jobs))
    return world.said


def is_running(handle: int) -> bool:
    return not select.select([handle], [], [], 0)[0]


@pytest.mark.parametrize(("job", "end_within_seconds"), [(ASKED, DEADLINE_SECONDS), (STUBBORN, 0.05)])
def test_the_next_scheduler_ends_what_a_killed_one_left(
    tmp_path: Path, job: str, end_within_seconds: float
) -> None:
    with left_by_a_killed_scheduler(tmp_path, job) as left:
        assert all(is_running(process) for process in left)
        said = next_scheduler(tmp_path, end_within_seconds)
        assert not any(is_running(process) for process in left)
    assert said[0] == "daily.clean: ended 2 processes of a scheduler that was killed"
    assert said[1] == "daily.clean: success"
    runs = RunStore(tmp_path / "schedule" / "daily").runs()
    assert [run.state for run in runs] == ["success", "interrupted"]


def test_children_are_ended_though_the_job_itself_is_gone(tmp_path: Path) -> None:
    with left_by_a_killed_scheduler(tmp_path, STUBBORN) as left:
        signal.pidfd_send_signal(left[0], signal.SIGKILL)
        assert select.select([left[0]], [], [], DEADLINE_SECONDS)[0]
        next_scheduler(tmp_path, 0.05)
        assert not is_running(left[1])


def test_a_chain_that_is_no_longer_listed_leaves_nothing(tmp_path: Path) -> None:
    with left_by_a_killed_scheduler(tmp_path, STUBBORN) as left:
        next_scheduler(tmp_path, 0.05, chain="weekly")
        assert not any(is_running(process) for process in left)


def test_other_processes_are_left_alone(tmp_path: Path) -> None:
    mark = str(tmp_path / "clean-1.json")
    command = [sys.executable, "-IS", "-c", "print(flush=True); import signal; signal.pause()"]
    with subprocess.Popen(command, env={MARK: f"{mark}x"}, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        assert end_marked(mark, DEADLINE_SECONDS) == 0
        assert other.poll() is None
        assert end_marked(f"{mark}x", DEADLINE_SECONDS) == 1
    assert other.returncode == -signal.SIGTERM
