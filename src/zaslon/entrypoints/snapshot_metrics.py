"""What service and stream count of their snapshots, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from zaslon.services.snapshot_writer import SnapshotResult

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 120.0)


class SnapshotMetrics:
    """Metrics of the snapshots of one process.

    Args:
        prefix: what their names begin with, for example `zaslon_stream`.
        registry: where they are registered.
    """

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self._written = Counter(
            f"{prefix}_snapshots", "snapshots of the state", ("result",), registry=registry
        )
        self._position = Gauge(
            f"{prefix}_snapshot_position", "of the newest snapshot kept by this process", registry=registry
        )
        self._seconds = Histogram(
            f"{prefix}_snapshot_seconds", "copying a state and writing it", ("stage",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip

    def observe(self, saved: SnapshotResult) -> None:
        """Count a snapshot; called from any one thread."""
        self._written.labels("kept" if saved.is_kept else "failed").inc()
        self._seconds.labels("copy").observe(saved.copy_seconds)
        self._seconds.labels("write").observe(saved.write_seconds)
        if saved.is_kept:
            self._position.set(saved.position)
