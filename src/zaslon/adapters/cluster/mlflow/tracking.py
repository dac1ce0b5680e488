"""How MLflow is reached: SQLite and files in a directory, or a tracking server; who we are there; what may go wrong."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zaslon.domain.errors import ServerError, ZaslonError
from zaslon.system.durable import PRIVATE_DIRECTORY, make_directory
from zaslon.system.loopback import sends_in_clear

# Limits of MLflow's tracking API (log-batch).
_PARAMS_A_CALL, _METRICS_A_CALL, _PARAM_CHARACTERS_MAX = 100, 1000, 6000
# MLflow reads credentials and limits from the environment when it calls the server: one thread at a time.
_ENVIRONMENT = threading.RLock()


@dataclass(frozen=True)
class Login:
    """A user of the tracking server, with the password as it is when a call is made."""

    user: str
    password: Callable[[], str]


@dataclass(frozen=True)
class Tracking:
    """Where runs and models are kept.

    Attributes:
        directory: holds `mlflow.db` and the artefacts where no server is named; made when something is written.
        uri: of a tracking server, `https://host:port`, which keeps the artefacts too; None for SQLite.
        experiment: under which name runs are listed.
        trainer: writes runs and candidates; None where the server asks for no login.
        promoter: writes the served models; None where that is the trainer.
        ca_file: authority that signed the server's certificate; None for the system's.
        timeout_seconds: for one answer of the server.
        retries: how often a call is tried again.

    Raises:
        ZaslonError: MLflow is not installed.
    """

    directory: Path
    uri: str | None = None
    experiment: str = "zaslon"
    trainer: Login | None = None
    promoter: Login | None = None
    ca_file: Path | None = None
    timeout_seconds: int = 5
    retries: int = 1

    def __post_init__(self) -> None:
        """Check that MLflow can be used."""
        if find_spec("mlflow") is None:
            raise ZaslonError(
                "Runs and models cannot be kept in MLflow, because it is not installed.",
                hint="Install it with: pip install 'zaslon[mlflow]'.",
            )

    @property
    def place(self) -> str:
        """The address that MLflow's own tools take (`--backend-store-uri`, `MLFLOW_TRACKING_URI`)."""
        return self.uri or f"sqlite:///{self.directory.absolute() / 'mlflow.db'}"

    @contextmanager
    def connected(self, what: str, *, promoting: bool = False) -> Iterator[Any]:
        """MLflow's client, as the trainer or the promoter; silence for its libraries meanwhile.

        Args:
            what: what could not be done, where MLflow fails: the beginning of a sentence.

        Raises:
            ServerError: MLflow failed: one sentence about it.
            ZaslonError: a password would go to another machine unencrypted.
        """
        login = (self.promoter if promoting else None) or self.trainer
        with (
            _ENVIRONMENT,
            _environment(self._variables(login)),
            _private_files(),
            self._explained(what),
            _silence(),
        ):
            self._check_way()
            yield self._client()

    def _check_way(self) -> None:
        """MLflow also sends what it finds in its own variables and in its file of credentials."""
        if self.uri is None or not sends_in_clear(self.uri):
            return
        from mlflow.utils.credentials import read_mlflow_creds  # noqa: PLC0415  slow to import

        if read_mlflow_creds().password or os.environ.get("MLFLOW_TRACKING_TOKEN"):
            raise ZaslonError(
                f"A password or token would go to MLflow at {self.uri} unencrypted.",
                hint="Name the server as https://host:port in ZASLON_MLFLOW_URI.",
            )

    def experiment_id(self, client: Any) -> str:
        """The experiment, made where it is not there."""
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is not None:
            return str(experiment.experiment_id)
        place = (self.directory.absolute() / "artefacts").as_uri() if self.uri is None else None
        return str(client.create_experiment(self.experiment, artifact_location=place))

    def _client(self) -> Any:
        from mlflow.tracking import MlflowClient  # noqa: PLC0415  slow to import

        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.WARNING)
        if self.uri is None:
            make_directory(self.directory)
        return MlflowClient(self.place, self.place)

    def _variables(self, login: Login | None) -> dict[str, str]:
        """By default MLflow tries eight times and waits two minutes for each answer."""
        variables = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where our JSON goes
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(self.retries),
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(self.timeout_seconds),
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
            "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
        }
        if self.ca_file is not None:
            variables["MLFLOW_TRACKING_SERVER_CERT_PATH"] = str(self.ca_file)
        if login is not None:
            variables |= {
                "MLFLOW_TRACKING_USERNAME": login.user, "MLFLOW_TRACKING_PASSWORD": login.password(),
            }  # fmt: skip
        return variables

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except ZaslonError:
            raise
        except Exception as error:  # MLflow passes on errors of its database and HTTP libraries
            first_line, _, _ = str(error).partition("\n")  # the rest is SQL
            raise ServerError(
                f"{what} in MLflow at {self.place}: {first_line}.",
                hint="Check its address, the user's rights, and that it can be written to.",
            ) from error


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _private_files() -> Iterator[None]:
    """MLflow makes its files with all permissions that are not masked. Ours, made meanwhile, need no more than these."""
    before = os.umask(~PRIVATE_DIRECTORY & 0o777)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _silence() -> Iterator[None]:
    """MLflow's libraries warn about each other and of every retry: no user can act on that."""
    retries = logging.getLogger("urllib3.connectionpool")
    level = retries.level
    retries.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        retries.setLevel(level)


def log_values(
    client: Any, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float], step: int = 0
) -> None:
    """Add parameters and finite metrics to a run; longer texts than MLflow takes are cut."""
    from mlflow.entities import Metric, Param  # noqa: PLC0415  slow to import

    now_ms = int(time.time() * 1000)
    known = [Metric(k, float(v), now_ms, step) for k, v in metrics.items() if math.isfinite(v)]
    given = [Param(k, str(v)[:_PARAM_CHARACTERS_MAX]) for k, v in params.items()]
    for begin in range(0, len(known), _METRICS_A_CALL):
        client.log_batch(run_id, metrics=known[begin : begin + _METRICS_A_CALL])
    for begin in range(0, len(given), _PARAMS_A_CALL):
        client.log_batch(run_id, params=given[begin : begin + _PARAMS_A_CALL])
