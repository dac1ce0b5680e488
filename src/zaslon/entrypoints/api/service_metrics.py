"""What the service counts, for Prometheus. No label holds an identifier."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from zaslon.domain.rejections import Reason
from zaslon.entrypoints.snapshot_metrics import SnapshotMetrics
from zaslon.flows.serve import GroupDone
from zaslon.ports import DeliveryTiming

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_ENGINE_ERROR = ("rejection", Reason.ENGINE_ERROR.code)
_RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class Metrics:
    """All metrics of one service; `docs/operating/runbook-service.md` describes each."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "zaslon_requests", "requests answered", ("method", "route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "zaslon_request_seconds", "time to the answer", ("route",), buckets=_SECONDS, registry=registry
        )
        self._by_request: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.outcomes = Counter(
            "zaslon_outcomes",
            "outcomes recorded, by action or reason",
            ("outcome", "detail"),
            registry=registry,
        )
        self._by_outcome: dict[tuple[str, str], Counter] = {}
        self.engine_errors = Counter(
            "zaslon_engine_errors", "records that broke our own code", registry=registry
        )
        self.repeated = Counter("zaslon_repeated", "transactions answered from the log", registry=registry)
        self.answers_not_taken = Counter(
            "zaslon_answers_not_taken",
            "transactions with an answer, which was not taken",
            registry=registry,
        )
        self.degraded = Counter(
            "zaslon_degraded",
            "decisions for which something was left out",
            ("degradation",),
            registry=registry,
        )
        self.group_records = Histogram(
            "zaslon_group_records", "records decided together", buckets=_RECORDS, registry=registry
        )
        self.queue_seconds = Histogram(
            "zaslon_queue_seconds", "longest wait of a group's calls", buckets=_SECONDS, registry=registry
        )
        self.engine_seconds = Histogram(
            "zaslon_engine_seconds", "deciding a group", buckets=_SECONDS, registry=registry
        )
        self.commit_seconds = Histogram(
            "zaslon_commit_seconds", "making a group durable", buckets=_SECONDS, registry=registry
        )
        self.logged_seconds = Histogram(
            "zaslon_logged_seconds",
            "until the stream's log had a record",
            buckets=_SECONDS,
            registry=registry,
        )
        self.decided_seconds = Histogram(
            "zaslon_decided_seconds", "from there to its outcome", buckets=_SECONDS, registry=registry
        )
        self.waiting_records = Gauge("zaslon_waiting_records", "records without outcome", registry=registry)
        self.snapshots = SnapshotMetrics("zaslon", registry)
        self.log_position = Gauge("zaslon_log_position", "next position of the log", registry=registry)
        self.ready = Gauge("zaslon_ready", "1 while decisions are made", registry=registry)
        ProcessCollector(registry=self.registry)

    def watch_worker(self, pid: int) -> None:
        """Measure the process that decides beside this one."""
        ProcessCollector(namespace="zaslon_worker", pid=lambda: pid, registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; called from the event loop's thread."""
        counted = self._by_request.get((method, route, status))
        if counted is None:  # to find them takes longer than to count
            counted = self.requests.labels(method, route, str(status)), self.request_seconds.labels(route)
            self._by_request[method, route, status] = counted
        counted[0].inc()
        counted[1].observe(seconds)

    def group(self, done: GroupDone) -> None:
        """Count a group; called from the receiving thread."""
        records = 0
        for kind, by_detail in done.outcomes.items():
            for detail, count in by_detail.items():
                self.outcomes.labels(kind, detail).inc(count)
                records += count
        self.engine_errors.inc(done.outcomes.get("rejection", {}).get(Reason.ENGINE_ERROR.code, 0))
        for degradation, count in done.degraded.items():
            self.degraded.labels(degradation).inc(count)
        self.repeated.inc(done.repeated)
        self.answers_not_taken.inc(done.answers_not_taken)
        self.group_records.observe(records)
        self.queue_seconds.observe(done.waited_seconds)
        self.engine_seconds.observe(done.engine_seconds)
        self.commit_seconds.observe(done.commit_seconds)
        self.log_position.set(done.next_position)

    def passed(self, deliveries: Sequence[DeliveryTiming], next_position: int) -> None:
        """Count records that passed through the stream; called from the gateway's thread."""
        for delivery in deliveries:
            self.logged_seconds.observe(delivery.logged_seconds)
            self.decided_seconds.observe(delivery.decided_seconds)
            if delivery.repeated:
                self.repeated.inc()
                continue
            counted_as = delivery.outcome.counted_as
            counter = self._by_outcome.get(counted_as)
            if counter is None:
                counter = self._by_outcome[counted_as] = self.outcomes.labels(*counted_as)
            counter.inc()
            if counted_as == _ENGINE_ERROR:
                self.engine_errors.inc()
        self.log_position.set(next_position)

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        text: bytes = generate_latest(self.registry)
        return text
