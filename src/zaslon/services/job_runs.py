"""What became of every run of a job, kept in the home: `zaslon schedule status` reads it while others write.

schedule/CHAIN/since.json              from when on the chain is known
schedule/CHAIN/runs/RUN/run.json       one run, written again at each of its steps
schedule/CHAIN/runs/RUN/JOB-1.json     standard output of a job's first attempt: its result
schedule/CHAIN/runs/RUN/JOB-1.log      its standard error
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from zaslon.domain.errors import ArtefactError
from zaslon.system.durable import make_directory, write_file

RUNS_KEPT = 200  # of a chain, with their logs: half a year of daily ones

WAITING, RUNNING = "waiting", "running"
SUCCESS, SKIPPED, FAILED, TIMED_OUT, INTERRUPTED = "success", "skipped", "failed", "timed_out", "interrupted"
UPSTREAM_FAILED, MISSED = "upstream_failed", "missed"
BAD = frozenset({FAILED, TIMED_OUT, UPSTREAM_FAILED})


@dataclass(frozen=True)
class JobRun:
    """A job in a run of its chain. Times are seconds since 1970.

    Attributes:
        attempts: begun so far.
        message: what the last attempt reported, if it failed.
        log: its standard error.
    """

    job: str
    state: str = WAITING
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    message: str | None = None
    log: str | None = None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, times as texts."""
        return asdict(self) | {"started": moment_text(self.started), "ended": moment_text(self.ended)}


@dataclass(frozen=True)
class ChainRun:
    """A run of a chain.

    Attributes:
        due: when the schedule wanted it, in seconds since 1970; None if a person did.
        coalesced: runs that it stands for besides its own, because their time had passed.
        alert_problem: why an alert did not arrive.
    """

    chain: str
    run: str
    state: str
    due: float | None
    started: float
    ended: float | None = None
    coalesced: int = 0
    jobs: tuple[JobRun, ...] = ()
    alert_problem: str | None = None

    def with_job(self, job: JobRun) -> ChainRun:
        """The run with a job's newest state."""
        return replace(self, jobs=tuple(job if known.job == job.job else known for known in self.jobs))

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, times as texts."""
        return asdict(self) | {
            "due": moment_text(self.due), "started": moment_text(self.started), "ended": moment_text(self.ended),
            "jobs": [job.to_json_dict() for job in self.jobs],
        }  # fmt: skip


def moment_text(seconds: float | None) -> str | None:
    """`2026-01-31T02:30:00Z`."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class RunStore:
    """The runs of one chain, in their directory."""

    directory: Path
    kept: int = field(default=RUNS_KEPT)

    def known_since(self, now_seconds: float) -> float:
        """From when on the chain is known: no run was missed before. Now, and from now on, if it is new.

        So it is if that moment lies in the future, of a clock that was ahead: the schedule would stand still until then.
        """
        path = self.directory / "since.json"
        since = float(_read(path)["since"]) if path.exists() else math.inf
        if since <= now_seconds:
            return since
        write_file(path, orjson.dumps({"since": now_seconds}))
        return now_seconds

    def begin(self, chain: str, jobs: Sequence[str], due: float | None, now_seconds: float) -> ChainRun:
        """A new run, all jobs waiting; the oldest runs beyond those kept are removed."""
        name = datetime.fromtimestamp(now_seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        while (self._runs / (run := f"{name}-{number:02d}")).exists():
            number += 1
        make_directory(self._runs / run)
        for path in self._directories()[: -self.kept]:
            shutil.rmtree(path)
        return ChainRun(chain, run, RUNNING, due, now_seconds, jobs=tuple(JobRun(job) for job in jobs))

    def keep(self, run: ChainRun) -> ChainRun:
        """Put its newest state on disk."""
        write_file(self.of_run(run) / "run.json", orjson.dumps(run))
        return run

    def of_run(self, run: ChainRun) -> Path:
        """The directory of a run, for its logs."""
        return self._runs / run.run

    def runs(self, most: int | None = None) -> list[ChainRun]:
        """The newest runs, newest first. One that was killed before it was written is not there.

        Raises:
            ArtefactError: a file is damaged.
        """
        found: list[ChainRun] = []
        for path in reversed(self._directories()):
            with suppress(FileNotFoundError):  # not written yet, or removed meanwhile
                found.append(_run_in(path / "run.json"))
            if len(found) == most:
                break
        return found

    def last_due(self, now_seconds: float) -> float:
        """The newest moment of the schedule that needs no run any more: a run that was cut short does not count.

        For the scheduler while no run of its own is going on.
        """
        done = [run.due for run in self.runs() if run.due and run.state not in (INTERRUPTED, RUNNING)]
        return max([self.known_since(now_seconds), *(due for due in done if due <= now_seconds)])

    @property
    def _runs(self) -> Path:
        return self.directory / "runs"

    def _directories(self) -> list[Path]:
        return sorted(self._runs.glob("[0-9]*")) if self._runs.is_dir() else []


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = orjson.loads(path.read_bytes())
    except ValueError as error:
        raise _damaged(path) from error
    return content


def _run_in(path: Path) -> ChainRun:
    content = _read(path)
    try:
        return ChainRun(**{**content, "jobs": tuple(JobRun(**job) for job in content["jobs"])})
    except (KeyError, TypeError) as error:  # of another release, for example
        raise _damaged(path) from error


def _damaged(path: Path) -> ArtefactError:
    return ArtefactError(f"'{path}' is damaged.", hint="Remove it; only its run is forgotten.")
