"""Runs in MLflow that are logged while they go on, such as those of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zaslon.adapters.cluster.mlflow.tracking import Tracking, log_values


class MlflowRuns:
    """The port `RunTracker` on MLflow."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def start_run(self, name: str, params: Mapping[str, Any]) -> MlflowLiveRun:
        """Begin a run (see the port).

        Raises:
            ServerError: MLflow cannot be reached or written.
        """
        with self._tracking.connected(f"The run '{name}' could not be kept") as client:
            run = client.create_run(self._tracking.experiment_id(client), run_name=name)
            log_values(client, run.info.run_id, params, {})
        return MlflowLiveRun(self._tracking, name, run.info.run_id)


class MlflowLiveRun:
    """The port `LiveRun` on MLflow."""

    def __init__(self, tracking: Tracking, name: str, run_id: str) -> None:
        self._tracking, self._what, self.run_id = tracking, f"The run '{name}' could not be kept", run_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One point of each metric (see the port)."""
        with self._tracking.connected(self._what) as client:
            log_values(client, self.run_id, {}, metrics, step)

    def end(self) -> None:
        """Mark the run as finished (see the port)."""
        with self._tracking.connected(self._what) as client:
            client.set_terminated(self.run_id)
