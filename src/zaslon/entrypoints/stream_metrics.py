"""What the stream counts, for Prometheus. No label holds an identifier."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from zaslon.domain.errors import SystemRefusedError
from zaslon.entrypoints.snapshot_metrics import SnapshotMetrics
from zaslon.services.batch_metrics import BatchMetrics

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_RECORDS = (1, 2, 5, 10, 50, 100, 500, 1_000, 5_000, 20_000, 100_000)


class StreamMetrics:
    """All metrics of one scorer; `docs/guides/stream.md` describes each."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.outcomes = Counter(
            "zaslon_stream_outcomes", "outcomes recorded", ("outcome",), registry=registry
        )
        self.answers_not_taken = Counter(
            "zaslon_stream_answers_not_taken", "transactions with an answer", registry=registry
        )
        self.engine_errors = Counter(
            "zaslon_stream_engine_errors", "records that our own code could not process", registry=registry
        )
        self.batch_records = Histogram(
            "zaslon_stream_batch_records", "records in a micro-batch", buckets=_RECORDS, registry=registry
        )
        self.stage_seconds = Histogram(
            "zaslon_stream_stage_seconds", "time of a micro-batch in a stage", ("stage",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.lag_records = Gauge("zaslon_stream_lag_records", "arrived and not taken", registry=registry)
        self.snapshots = SnapshotMetrics("zaslon_stream", registry)
        self.log_position = Gauge("zaslon_stream_log_position", "next position", registry=registry)
        ProcessCollector(registry=registry)

    def observe(self, metrics: BatchMetrics) -> None:
        """Count a micro-batch."""
        self.outcomes.labels("decision").inc(metrics.decisions)
        self.outcomes.labels("rejection").inc(metrics.rejections)
        self.outcomes.labels("label").inc(metrics.labels)
        self.answers_not_taken.inc(metrics.answers_not_taken)
        self.engine_errors.inc(metrics.engine_errors)
        self.batch_records.observe(metrics.records)
        for stage in ("take", "decide", "hand_over", "commit"):
            self.stage_seconds.labels(stage).observe(getattr(metrics, f"{stage}_seconds"))
        self.lag_records.set(metrics.lag_records)
        self.log_position.set(metrics.next_position)


class SendMetrics:
    """What `zaslon produce` counts."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sent = Counter("zaslon_records_sent", "records handed to the broker", registry=registry)
        self.rate = Gauge(
            "transactions_per_second_sent_to_kafka", "rate since the beginning", registry=registry
        )
        ProcessCollector(registry=registry)

    def observe(self, records: int, per_second: float) -> None:
        """Count a slice."""
        self.sent.inc(records)
        self.rate.set(per_second)


def publish(
    registry: CollectorRegistry, host: str, port: int, setting: str = "ZASLON_STREAM_METRICS_PORT"
) -> None:
    """Let Prometheus read the metrics at `http://host:port/metrics`; `setting` is where the port comes from.

    Raises:
        SystemRefusedError: the port is taken or may not be opened.
    """
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        raise SystemRefusedError(
            f"Metrics cannot be served at {host}:{port}: {error}.",
            hint=f"Choose another {setting}.",
        ) from error
