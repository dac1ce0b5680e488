"""A schedule of real child processes under a clock that only moves when somebody waits or works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from zaslon.adapters.embedded.lock import exclusive_in
from zaslon.adapters.process.alerts import AlertHooks
from zaslon.adapters.process.job_process import ChildProcesses
from zaslon.domain.jobs import parse_jobs
from zaslon.ports.scheduling import Ended
from zaslon.services.chain import Schedule

# `JOB CODES --json`: notes that it was called, and ends with the code for this call: the last one from then on.
_COMMAND = """
import json, pathlib, sys
job, codes = sys.argv[1], sys.argv[2].split(",")
calls = pathlib.Path(sys.argv[0]).with_name("calls")
before = calls.read_text().split() if calls.exists() else []
with calls.open("a") as file:
    file.write(job + "\\n")
code = int(codes[min(before.count(job), len(codes) - 1)])
print(json.dumps({"error": {"message": f"{job} did not work."}} if code else {"done": True}))
sys.exit(code)
"""
_ALERT = """#!{python} -IS
import pathlib, sys
with pathlib.Path({file!r}).open("a") as file:
    file.write(sys.stdin.read() + "\\n")
"""

LIST = """
[[chains]]
name = "daily"
when = "30 2 * * *"
missed_within = "12h"

[[chains.jobs]]
name = "clean"
command = ["clean", "{clean}"]
timeout = "1h"
retries = 2
retry_delay = "5m"

[[chains.jobs]]
name = "retrain"
after = ["clean"]
command = ["retrain", "{retrain}"]
skip_codes = [99]
timeout = "1h"

[[chains.jobs]]
name = "promote"
after = ["retrain"]
command = ["promote", "0"]
timeout = "1h"

[[chains.jobs]]
name = "report"
after = ["retrain"]
after_skipped = true
command = ["report", "0"]
timeout = "1h"
"""


def at(text: str) -> float:
    """Seconds of a time in UTC, such as `2026-03-02 02:30`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@dataclass
class SetClock:
    """A clock, and an ending that waits by setting it; `until` is when the schedule is told to end."""

    now: float
    until: float
    ended: bool = False
    at_wait: Callable[[], None] = lambda: None

    def now_seconds(self) -> float:
        return self.now

    def monotonic_seconds(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return self.ended or self.now >= self.until

    def set(self) -> None:
        self.ended = True

    def wait(self, timeout: float) -> bool:
        self.at_wait()
        self.now += timeout
        return self.is_set()


@dataclass
class TakingTime:
    """Child processes, after each of which the clock has gone on by so many seconds."""

    processes: ChildProcesses
    clock: SetClock
    seconds: float

    def run(
        self, arguments: Sequence[str], output: Path, messages: Path, timeout_seconds: float,
        is_over: Callable[[], bool],
    ) -> Ended:  # fmt: skip
        ended = self.processes.run(arguments, output, messages, timeout_seconds, lambda: False)
        self.clock.now += self.seconds
        return ended

    def end_left(self, output: Path) -> int:
        return self.processes.end_left(output)


@dataclass
class ScheduleWorld:
    """A home, its list of jobs, and what happened."""

    place: Path
    clock: SetClock
    clean: str = "0"
    retrain: str = "0"
    job_seconds: float = 60
    end_within_seconds: float = 10
    said: list[str] = field(default_factory=list)

    def schedule(self) -> Schedule:
        """A scheduler of this home; another one is a restart."""
        command, program = self.place / "command.py", self.place / "alert.py"
        command.write_text(_COMMAND)
        program.write_text(_ALERT.format(python=sys.executable, file=str(self.place / "alerts")))
        program.chmod(0o755)
        processes = ChildProcesses([sys.executable, "-IS", str(command)], {}, self.end_within_seconds)
        text = LIST.replace("{clean}", self.clean).replace("{retrain}", self.retrain)
        return Schedule(
            jobs=parse_jobs(text, origin="The list"), directory=self.place / "schedule", sources=(),
            processes=TakingTime(processes, self.clock, self.job_seconds),
            exclusive_in=lambda directory: exclusive_in(directory / ".lock"), clock=self.clock, ending=self.clock,
            alerts=AlertHooks(None, program), notify=self.said.append, observe=lambda _chain, _job: None, host="here",
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        """The jobs that were run, in order, each attempt."""
        path = self.place / "calls"
        return path.read_text().split() if path.exists() else []

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """What people were told."""
        path = self.place / "alerts"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
