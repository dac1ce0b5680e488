"""What the schedule counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from zaslon.services.job_runs import BAD, SUCCESS, ChainRun, JobRun

_LABELS = ("chain", "job")


class ScheduleMetrics:
    """All metrics of one scheduler; `docs/operating/schedule.md` describes each."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.last_success = Gauge(
            "zaslon_job_last_success_timestamp_seconds", "end of the last success", _LABELS, registry=registry
        )
        self.last_seconds = Gauge(
            "zaslon_job_last_duration_seconds",
            "of the last run, with its retries",
            _LABELS,
            registry=registry,
        )
        self.runs = Counter("zaslon_job_runs", "ended runs", (*_LABELS, "state"), registry=registry)
        self.failures = Counter("zaslon_job_failures", "failed or ended by us", _LABELS, registry=registry)
        ProcessCollector(registry=registry)

    def remember(self, runs: Iterable[ChainRun]) -> None:
        """Begin with what is kept of earlier schedulers, oldest first. Counters begin at nothing."""
        for run in runs:
            for job in run.jobs:
                self._set(run.chain, job)

    def observe(self, chain: str, job: JobRun) -> None:
        """Count the end of a job."""
        self.runs.labels(chain, job.job, job.state).inc()
        self.failures.labels(chain, job.job).inc(job.state in BAD)
        self._set(chain, job)

    def _set(self, chain: str, job: JobRun) -> None:
        if job.ended is None or job.started is None:
            return
        self.last_seconds.labels(chain, job.job).set(job.ended - job.started)
        if job.state == SUCCESS:
            self.last_success.labels(chain, job.job).set(job.ended)
