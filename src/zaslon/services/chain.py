"""Run a chain: job after job, each as a process, its state on disk after every step.

run ─► failed? ─► again, after a delay ─► failed for good: people are told, what comes after it does not run
    └► nothing to do (exit code 99 of `retrain`): skipped, and what comes after it too, unless it wants to run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import orjson

from zaslon.domain.errors import BusyError, ZaslonError
from zaslon.domain.jobs import Chain, Job, JobList
from zaslon.ports import Clock
from zaslon.ports.scheduling import Alerts, Ended, JobProcesses
from zaslon.services.job_runs import (
    BAD,
    FAILED,
    INTERRUPTED,
    RUNNING,
    SKIPPED,
    SUCCESS,
    TIMED_OUT,
    UPSTREAM_FAILED,
    ChainRun,
    JobRun,
    RunStore,
)
from zaslon.system.durable import make_directory

_MESSAGE_CHARACTERS_MAX = 500
_RESULT_BYTES_MAX = 4 * 1024 * 1024


class Ending(Protocol):
    """Whether the work is to end; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether it is to end now."""

    def set(self) -> None:
        """Let it end."""

    def wait(self, timeout: float) -> bool:
        """Wait so many seconds, or until it is to end; then true."""


@dataclass(frozen=True)
class Schedule:
    """The jobs of one machine and what they need.

    Attributes:
        directory: keeps runs and logs.
        sources: stand for `{sources}` in commands.
        exclusive_in: keeps other processes out of a directory, or raises BusyError.
        ending: whether it was told to end; waits are cut short by that.
        alerts: None where nobody is told.
        notify: takes sentences for the log of this process.
        observe: takes the end of every job.
        host: the name of this machine, for alerts.
    """

    jobs: JobList
    directory: Path
    sources: Sequence[str]
    processes: JobProcesses
    exclusive_in: Callable[[Path], AbstractContextManager[None]]
    clock: Clock
    ending: Ending
    alerts: Alerts | None
    notify: Callable[[str], None]
    observe: Callable[[str, JobRun], None]
    host: str

    def store(self, chain: Chain) -> RunStore:
        """The runs of a chain."""
        return RunStore(self.directory / chain.name)

    @contextmanager
    def alone_in(self, directory: Path) -> Iterator[None]:
        """Keep other processes out of a directory, which is made. Raises BusyError."""
        make_directory(directory)
        with self.exclusive_in(directory):
            yield


def run_chain(
    schedule: Schedule, chain: Chain, *, due: float | None, coalesced: int = 0, only: str | None = None
) -> ChainRun:
    """Run a chain's jobs now, each after those that it names.

    Args:
        due: the moment that the schedule meant; None if a person wants it.
        coalesced: missed runs that it stands for.
        only: run just this job.

    Raises:
        BusyError: the chain is running.
        ZaslonError: there is no such job, or it cannot be run as the settings are.
    """
    jobs = [job for job in chain.ordered if only in (None, job.name)]
    store = schedule.store(chain)
    with schedule.alone_in(store.directory):
        _end_killed_runs(schedule, store)
        now = schedule.clock.now_seconds()
        run = store.begin(chain.name, [job.name for job in jobs], due, now)
        run = store.keep(replace(run, coalesced=coalesced))
        for job in jobs:
            state = _before(job, {done.job: done.state for done in run.jobs})
            run = _job(schedule, job, run) if state is None else run.with_job(JobRun(job.name, state))
            store.keep(run)
        return store.keep(_ended(run, schedule.clock.now_seconds()))


def _before(job: Job, states: Mapping[str, str]) -> str | None:
    """What becomes of a job without running it, because of those before it; None if it runs.

    A job that is run alone has none before it.
    """
    earlier = {states[name] for name in job.after if name in states}
    if INTERRUPTED in states.values():
        return INTERRUPTED
    if earlier & BAD:
        return UPSTREAM_FAILED
    return SKIPPED if SKIPPED in earlier and not job.after_skipped else None


def _ended(run: ChainRun, now: float) -> ChainRun:
    states = {job.state for job in run.jobs}
    state = INTERRUPTED if INTERRUPTED in states else FAILED if states & BAD else SUCCESS
    return replace(run, state=state, ended=now)


def _job(schedule: Schedule, job: Job, run: ChainRun) -> ChainRun:
    """Run a job, again if it fails and may be; tell people if it failed in the end."""
    done = JobRun(job.name, RUNNING, started=schedule.clock.now_seconds())
    store = RunStore(schedule.directory / run.chain)
    for attempt in range(1, job.retries + 2):
        if attempt > 1 and schedule.ending.wait(job.retry_delay_seconds):
            done = replace(done, state=INTERRUPTED)
            break
        done = replace(done, state=RUNNING, attempts=attempt)
        store.keep(run.with_job(done))
        done = _attempt(schedule, job, run, done)
        if done.state not in BAD:
            break
    done = replace(done, ended=schedule.clock.now_seconds())
    schedule.notify(f"{run.chain}.{job.name}: {done.state}" + (f". {done.message}" if done.message else ""))
    schedule.observe(run.chain, done)
    if done.state in BAD:
        problem = alert(schedule, run.chain, job.name, done.state, done.message or "", done.to_json_dict())
        run = replace(run, alert_problem=run.alert_problem or problem)
    return run.with_job(done)


def _attempt(schedule: Schedule, job: Job, run: ChainRun, done: JobRun) -> JobRun:
    output = _output(RunStore(schedule.directory / run.chain), run, done)
    log = output.with_suffix(".log")
    arguments = [*job.arguments(schedule.sources, run.due or run.started), "--json"]
    ended = schedule.processes.run(arguments, output, log, job.timeout_seconds, schedule.ending.is_set)
    state = _state(job, ended)
    message = None
    if state == TIMED_OUT:
        message = f"It was ended after {job.timeout}."
    elif state == FAILED:
        message = _reported(output) or f"It ended with exit code {ended.exit_code}."
    return replace(done, state=state, exit_code=ended.exit_code, message=message, log=str(log))


def _state(job: Job, ended: Ended) -> str:
    if ended.timed_out:
        return TIMED_OUT
    if ended.exit_code is None:
        return INTERRUPTED
    if ended.exit_code in job.skip_codes:
        return SKIPPED
    return FAILED if ended.exit_code else SUCCESS


def _reported(output: Path) -> str | None:
    """The sentence in the error that a command printed as JSON."""
    if output.stat().st_size > _RESULT_BYTES_MAX:
        return None
    try:
        found = orjson.loads(output.read_bytes())
    except orjson.JSONDecodeError:  # it came to no result
        return None
    error = found.get("error") if isinstance(found, dict) else None
    return str(error["message"])[:_MESSAGE_CHARACTERS_MAX] if isinstance(error, dict) else None


def send_alert(schedule: Schedule, chain: str, job: str | None, state: str, message: str) -> None:
    """Tell people, from outside of a run: Airflow's callbacks do.

    Raises:
        ServerError: it did not arrive.
        ZaslonError: nobody is to be told.
    """
    if schedule.alerts is None:
        raise ZaslonError(
            "There is nobody to tell.",
            hint="Set ZASLON_SCHEDULE_ALERT_URL or ZASLON_SCHEDULE_ALERT_PROGRAM.",
        )
    schedule.alerts.send(_values_of(schedule, chain, job, state, message, {}))


def alert(
    schedule: Schedule, chain: str, job: str | None, state: str, message: str, values: Mapping[str, Any]
) -> str | None:
    """Tell people; why it did not arrive, for the run's record and the log."""
    if schedule.alerts is None:
        return None
    try:
        schedule.alerts.send(_values_of(schedule, chain, job, state, message, values))
    except ZaslonError as error:
        schedule.notify(str(error))
        return str(error)
    return None


def _values_of(
    schedule: Schedule, chain: str, job: str | None, state: str, message: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    name = chain if job is None else f"{chain}.{job}"
    text = f"Zaslon on {schedule.host}: {name} {state.replace('_', ' ')}. {message}".strip()
    return {
        "text": text, "chain": chain, "job": job, "state": state, "message": message, "host": schedule.host,
        **{key: values[key] for key in ("due", "started", "ended", "attempts", "exit_code", "log") if key in values},
    }  # fmt: skip


def end_left_jobs(schedule: Schedule) -> None:
    """End the jobs that a scheduler has left running because it was killed, also of chains no longer in the list.

    Raises:
        SystemRefusedError: one does not end.
    """
    for directory in sorted(path.parent for path in schedule.directory.glob("*/runs")):
        with suppress(BusyError), schedule.alone_in(directory):  # else a person runs it now
            _end_killed_runs(schedule, RunStore(directory))


def _end_killed_runs(schedule: Schedule, store: RunStore) -> None:
    """What is noted as running has lost its scheduler to a kill: nobody else is at work on the chain."""
    for run in store.runs():
        if run.state == RUNNING:
            for job in run.jobs:
                _end_left(schedule, store, run, job)
            now = schedule.clock.now_seconds()
            jobs = tuple(
                replace(job, state=INTERRUPTED, ended=now) if job.ended is None else job for job in run.jobs
            )
            store.keep(replace(run, state=INTERRUPTED, ended=now, jobs=jobs))


def _end_left(schedule: Schedule, store: RunStore, run: ChainRun, job: JobRun) -> None:
    if job.state != RUNNING:
        return
    count = schedule.processes.end_left(_output(store, run, job))
    if count:
        schedule.notify(f"{run.chain}.{job.job}: ended {count} processes of a scheduler that was killed")


def _output(store: RunStore, run: ChainRun, job: JobRun) -> Path:
    """What an attempt prints."""
    return store.of_run(run) / f"{job.job}-{job.attempts}.json"
