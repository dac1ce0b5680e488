"""Training runs in MLflow: on SQLite in a directory, or on any tracking server by its address.

MLflow is an extra (`pip install 'zaslon[mlflow]'`). It takes seconds to import, so that happens
when the first run is written down; it is kept silent and its telemetry off.
"""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zaslon.domain.errors import ServerError, ZaslonError

# Limits of MLflow's tracking API (log-batch).
_PARAMS_A_CALL, _METRICS_A_CALL, _PARAM_CHARACTERS_MAX = 100, 1000, 6000


class MlflowRuns:
    """The port `RunTracker` on MLflow.

    Args:
        directory: holds `mlflow.db` and the artefacts; made when the first run is written.
        tracking_uri: of a server instead, for example `http://host:5000`; it keeps the artefacts.
        experiment: under which name the runs are listed.

    Raises:
        ZaslonError: MLflow is not installed.
    """

    def __init__(
        self, directory: Path, *, tracking_uri: str | None = None, experiment: str = "zaslon"
    ) -> None:
        if find_spec("mlflow") is None:
            raise ZaslonError(
                "Training runs cannot be kept in MLflow, because it is not installed.",
                hint="Install it with: pip install 'zaslon[mlflow]'.",
            )
        self._directory, self._experiment = directory.absolute(), experiment
        self.tracking_uri = tracking_uri or f"sqlite:///{self._directory / 'mlflow.db'}"
        self._keeps_artefacts = tracking_uri is None
        self._client: Any = None

    def log_run(
        self,
        name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        artefacts: Sequence[Path],
    ) -> str:
        """Write down one finished run and return its id.

        Args:
            name: of the run, for people.
            params: by name; longer texts than MLflow takes are cut.
            metrics: by name; those that are not finite are left out.
            artefacts: files and directories to keep with the run; a directory goes under its name.

        Raises:
            ServerError: the store cannot be reached or written.
            ZaslonError: an artefact is missing.
        """
        for path in artefacts:
            if not path.exists():
                raise ZaslonError(f"The artefact '{path}' of run '{name}' does not exist.")
        with self._explained(name):
            client, run_id = self._begin(name, params, metrics)
            for path in artefacts:
                if path.is_dir():
                    client.log_artifacts(run_id, str(path), path.name)
                else:
                    client.log_artifact(run_id, str(path))
            client.set_terminated(run_id)
        return run_id

    def start_run(self, name: str, params: Mapping[str, Any]) -> MlflowLiveRun:
        """Begin a run that is logged while it goes on (see the port).

        Raises:
            ServerError: the store cannot be reached or written.
        """
        with self._explained(name):
            _, run_id = self._begin(name, params, {})
        return MlflowLiveRun(self, name, run_id)

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Silence for MLflow's libraries, and one sentence where it fails."""
        try:
            with warnings.catch_warnings():  # from its libraries about each other: no user can act on them
                warnings.simplefilter("ignore")
                yield
        except Exception as error:  # MLflow passes on errors of its database and HTTP libraries
            first_line, _, _ = str(error).partition("\n")  # the rest is SQL
            raise ServerError(
                f"The run '{name}' could not be written to MLflow at {self.tracking_uri}: {first_line}.",
                hint="Check the address and that it can be written to.",
            ) from error

    def _begin(
        self, name: str, params: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> tuple[Any, str]:  # fmt: skip
        """(client, id) of a new run with its parameters."""
        client = self._connected()
        run_id: str = client.create_run(self._experiment_id(client), run_name=name).info.run_id
        self._log_values(client, run_id, params, metrics)
        return client, run_id

    def _log_values(
        self, client: Any, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float],
        step: int = 0,
    ) -> None:  # fmt: skip
        entities = import_module("mlflow.entities")
        now_ms = int(time.time() * 1000)
        known = [
            entities.Metric(key, float(value), now_ms, step)
            for key, value in metrics.items()
            if math.isfinite(value)
        ]
        given = [entities.Param(k, str(v)[:_PARAM_CHARACTERS_MAX]) for k, v in params.items()]
        for begin in range(0, len(known), _METRICS_A_CALL):
            client.log_batch(run_id, metrics=known[begin : begin + _METRICS_A_CALL])
        for begin in range(0, len(given), _PARAMS_A_CALL):
            client.log_batch(run_id, params=given[begin : begin + _PARAMS_A_CALL])

    def _connected(self) -> Any:
        if self._client is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            tracking = import_module("mlflow.tracking")
            for logger in ("mlflow", "alembic"):
                logging.getLogger(logger).setLevel(logging.WARNING)
            if self._keeps_artefacts:
                self._directory.mkdir(parents=True, exist_ok=True)
            self._client = tracking.MlflowClient(self.tracking_uri)
        return self._client

    def _experiment_id(self, client: Any) -> str:
        experiment = client.get_experiment_by_name(self._experiment)
        if experiment is not None:
            return str(experiment.experiment_id)
        place = (self._directory / "artefacts").as_uri() if self._keeps_artefacts else None
        return str(client.create_experiment(self._experiment, artifact_location=place))


class MlflowLiveRun:
    """The port `LiveRun` on MLflow."""

    def __init__(self, runs: MlflowRuns, name: str, run_id: str) -> None:
        self._runs, self._name, self.run_id = runs, name, run_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One point of each metric (see the port)."""
        with self._runs._explained(self._name):
            self._runs._log_values(self._runs._connected(), self.run_id, {}, metrics, step)

    def end(self) -> None:
        """Mark the run as finished (see the port)."""
        with self._runs._explained(self._name):
            self._runs._connected().set_terminated(self.run_id)
