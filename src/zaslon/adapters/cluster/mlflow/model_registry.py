"""The registry on MLflow: runs in an experiment, candidates and served models as two registered models.

MLflow has one right, EDIT, for registering a version and for moving an alias. So there are two registered
models: whoever trains edits the first and reads the second, whoever promotes the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zaslon.adapters.cluster.mlflow.tracking import Tracking, log_values
from zaslon.domain.errors import ZaslonError
from zaslon.ports.registry import ARTEFACT, Candidate, RunRecord
from zaslon.system.durable import make_private

CHAMPION, CHALLENGER = "champion", "challenger"
_KEY = "zaslon_key"  # tag of a run
_MODEL = "model"  # directory of the model among a run's artefacts
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of a model, of an alias


class MlflowRegistry:
    """The port `Registry` on MLflow.

    Args:
        tracking: how MLflow is reached.
        served: name of the registered model whose versions were promoted.
    """

    def __init__(self, tracking: Tracking, served: str = "zaslon") -> None:
        self._tracking, self._served, self._candidates = tracking, served, f"{served}-candidates"

    @property
    def place(self) -> str:
        """Where it is (see the port)."""
        return self._tracking.place

    def write(self, run: RunRecord, candidate: Candidate | None = None) -> str:
        """Write down a run, and a candidate as a version (see the port)."""
        for path in run.files:
            if not path.exists():
                raise ZaslonError(f"The file '{path}' of run '{run.name}' does not exist.")
        with self._tracking.connected(f"The run '{run.name}' could not be kept") as client:
            run_id = self._finished(client, run) or self._written(client, run, candidate)
            if candidate is not None:
                self._register(client, run_id, run.tags)
        return run_id

    def promote(self, artefact: str, tags: Mapping[str, str]) -> bool:
        """Move the alias `champion` (see the port)."""
        with self._tracking.connected(f"Model {artefact} could not be promoted", promoting=True) as client:
            version = self._version(client, self._served, artefact)
            if version is None:
                candidate = self._version(client, self._candidates, artefact)
                if candidate is None:
                    return False
                source = f"models:/{self._candidates}/{candidate.version}"
                version = _new_version(client, self._served, source, candidate.run_id, candidate.tags)
            for key, value in tags.items():
                client.set_model_version_tag(self._served, version.version, key, value)
            client.set_registered_model_alias(self._served, CHAMPION, version.version)
        return True

    def champion(self) -> Mapping[str, str] | None:
        """Tags of the served version that is named (see the port)."""
        return self._named(self._served, CHAMPION)

    def challenger(self) -> Mapping[str, str] | None:
        """Tags of the candidate that is named (see the port)."""
        return self._named(self._candidates, CHALLENGER)

    def _finished(self, client: Any, run: RunRecord) -> str | None:
        """The run with this key; one that a crash has left unfinished is marked as failed."""
        experiment = self._tracking.experiment_id(client)
        for found in client.search_runs([experiment], f"tags.{_KEY} = '{run.key}'"):
            if found.info.status == "FINISHED":
                return str(found.info.run_id)
            client.set_terminated(found.info.run_id, "FAILED")
        return None

    def _written(self, client: Any, run: RunRecord, candidate: Candidate | None) -> str:
        experiment = self._tracking.experiment_id(client)
        tags = {**run.tags, _KEY: run.key}
        run_id = str(client.create_run(experiment, run_name=run.name, tags=tags).info.run_id)
        log_values(client, run_id, run.params, run.metrics)
        for path in run.files:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), path.name)
            else:
                client.log_artifact(run_id, str(path))
        if candidate is not None:
            _log_model(client, run_id, candidate)
        client.set_terminated(run_id)
        return run_id

    def _register(self, client: Any, run_id: str, tags: Mapping[str, str]) -> None:
        version = self._version(client, self._candidates, tags[ARTEFACT])
        if version is None:
            version = _new_version(client, self._candidates, f"runs:/{run_id}/{_MODEL}", run_id, tags)
        client.set_registered_model_alias(self._candidates, CHALLENGER, version.version)

    def _version(self, client: Any, name: str, artefact: str) -> Any:
        """The oldest version of an artefact; None without one."""
        found = client.search_model_versions(f"name = '{name}' and tag.{ARTEFACT} = '{artefact}'")
        return min(found, key=lambda version: int(version.version), default=None)

    def _named(self, name: str, alias: str) -> Mapping[str, str] | None:
        with self._tracking.connected(f"The alias '{alias}' could not be read") as client:
            found = _found(client.get_model_version_by_alias, name, alias)
            return None if found is None else dict(found.tags)


def _new_version(client: Any, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> Any:
    """A version of a registered model, which is made where it is not there."""
    if _found(client.get_registered_model, name) is None:
        client.create_registered_model(name)
    return client.create_model_version(name, source, run_id=run_id, tags=dict(tags))


def _log_model(client: Any, run_id: str, candidate: Candidate) -> None:
    from zaslon.adapters.cluster.mlflow.packaging import package  # noqa: PLC0415  slow to import

    with TemporaryDirectory(prefix="zaslon-mlflow-") as scratch:
        packaged = Path(scratch) / _MODEL
        package(candidate, packaged)
        make_private(packaged)  # MLflow copies our code with the permissions that it is installed with
        client.log_artifacts(run_id, str(packaged), _MODEL)


def _found(ask: Any, *names: str) -> Any:
    """What a question about something named gives; None where there is no such thing."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  slow to import

    try:
        return ask(*names)
    except MlflowException as error:
        if error.error_code in _MISSING:
            return None
        raise
