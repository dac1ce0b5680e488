"""Schedule: every chain at its times, in the foreground, until it is told to end.

a moment is due ─► still early enough? ─► run, once for all that were missed
                          └──► too late: recorded as missed, and people are told
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zaslon.domain.errors import BusyError
from zaslon.domain.jobs import Chain, JobList
from zaslon.services.chain import Schedule, alert, end_left_jobs, run_chain
from zaslon.services.job_runs import MISSED, SUCCESS, ChainRun, RunStore, moment_text

_LOOK_AT_LEAST_EVERY_SECONDS = 60.0  # a machine that slept, or whose clock was set, is noticed so late


def keep_schedule(schedule: Schedule) -> None:
    """Run every chain at its times, each in a thread of its own, until it is told to end.

    Raises:
        BusyError: another scheduler is at work in this home.
        ZaslonError: a job cannot be run as the settings are, or one that an earlier scheduler has left does not end.
    """
    for chain in schedule.jobs.here:
        for job in chain.jobs:
            job.arguments(schedule.sources, 0)
    with schedule.alone_in(schedule.directory):
        end_left_jobs(schedule)
        threads = [_Loop(schedule, chain) for chain in schedule.jobs.here]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for thread in threads:
        if thread.error is not None:
            raise thread.error


class _Loop(threading.Thread):
    """One chain's times. What breaks it ends the others too, and is raised by `keep_schedule`."""

    def __init__(self, schedule: Schedule, chain: Chain) -> None:
        super().__init__(name=f"schedule-{chain.name}")
        self._schedule, self._chain = schedule, chain
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            keep_chain(self._schedule, self._chain)
        except Exception as error:  # noqa: BLE001  raised again by the thread that waits
            self.error = error
            self._schedule.ending.set()


def keep_chain(schedule: Schedule, chain: Chain) -> None:
    """Run one chain at its times until it is told to end."""
    while not schedule.ending.is_set():
        now = schedule.clock.now_seconds()
        last = schedule.store(chain).last_due(now)
        due = chain.newest_moment(now)
        if due > last:
            _run_due(schedule, chain, last, due, now)
            continue
        left = chain.next_moment(now) - now
        if schedule.ending.wait(min(left, _LOOK_AT_LEAST_EVERY_SECONDS)):
            return


def _run_due(schedule: Schedule, chain: Chain, last: float, due: float, now: float) -> None:
    """Begin the newest run that is due, for all that were missed; or note that it is too late for it."""
    coalesced = chain.count_moments(last, due) - 1
    if now - due > chain.missed_within_seconds:
        _note_missed(schedule, chain, due, now, coalesced)
        return
    try:
        run_chain(schedule, chain, due=due, coalesced=coalesced)
    except BusyError as error:  # a person runs it now: looked at again in a minute, as late as is allowed
        schedule.notify(f"Chain {chain.name} waits: {error}")
        schedule.ending.wait(_LOOK_AT_LEAST_EVERY_SECONDS)


def _note_missed(schedule: Schedule, chain: Chain, due: float, now: float, coalesced: int) -> None:
    store = schedule.store(chain)
    run = store.begin(chain.name, (), due, now)
    late = f"The run of {moment_text(due)} was missed: it may begin {chain.missed_within} late at most."
    problem = alert(schedule, chain.name, None, MISSED, late, {"due": moment_text(due)})
    store.keep(replace(run, state=MISSED, ended=now, coalesced=coalesced, alert_problem=problem))


@dataclass(frozen=True)
class ScheduleStatus:
    """The state of every chain, with its newest runs."""

    chains: Sequence[tuple[Chain, float, Sequence[ChainRun]]]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"chains": [_chain_status(*state) for state in self.chains]}


def _chain_status(chain: Chain, next_due: float, runs: Sequence[ChainRun]) -> dict[str, Any]:
    success = next((run.ended for run in runs if run.state == SUCCESS), None)
    return {
        "name": chain.name, "when": chain.when, "next": moment_text(next_due),
        "state": runs[0].state if runs else None, "last_success": moment_text(success),
        "runs": [run.to_json_dict() for run in runs],
    }  # fmt: skip


def status(jobs: JobList, directory: Path, now_seconds: float, most: int) -> ScheduleStatus:
    """What is kept about the newest runs of every chain, newest first."""
    return ScheduleStatus(
        [
            (chain, chain.next_moment(now_seconds), RunStore(directory / chain.name).runs(most))
            for chain in jobs.here
        ]
    )


def exported(schedule: Schedule) -> dict[str, Any]:
    """The jobs as plain values, durations in seconds and sources filled in; the other places are left to who runs them.

    Raises:
        ZaslonError: a job needs sources, and the settings name none.
    """
    return {"chains": [_exported_chain(schedule, chain) for chain in schedule.jobs.chains]}


def _exported_chain(schedule: Schedule, chain: Chain) -> dict[str, Any]:
    jobs = [
        {
            "name": job.name, "arguments": [*job.with_sources(schedule.sources), "--json"],
            "where": job.where,
            "after": list(job.after), "after_skipped": job.after_skipped, "skip_codes": list(job.skip_codes),
            "timeout_seconds": job.timeout_seconds, "retries": job.retries,
            "retry_delay_seconds": job.retry_delay_seconds,
        }
        for job in chain.ordered
    ]  # fmt: skip
    return {
        "name": chain.name, "when": chain.when, "missed_within_seconds": chain.missed_within_seconds, "jobs": jobs,
    }  # fmt: skip
