"""The provider's operators, with what they lack.

They render no settings, never look at a job's status, leave a job running when Airflow gives it up, and cannot delete a
cluster whose creation failed, because its id is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.yandex.operators.dataproc import (
    DataprocCreateClusterOperator,
    DataprocCreatePysparkJobOperator,
    DataprocDeleteClusterOperator,
    InitializationAction,
)
from airflow.sdk import Variable
from cloud_clusters import CONNECTION, DataProc, is_done, status_name
from cloud_plan import CloudSettings, exit_code_in, fill_in, read_settings

PLAN, CREATE = "plan", "create"  # task ids


class JobFailedError(Exception):
    """A job on the cluster did not succeed."""


def current_settings() -> CloudSettings:
    """The variable `zaslon_cloud`, read when a task runs."""
    return read_settings(Variable.get("zaslon_cloud"))


class CreateCluster(DataprocCreateClusterOperator):  # type: ignore[misc]  # Airflow is not installed where types are checked
    """Creates the cluster that the plan describes."""

    def __init__(self, **more: Any) -> None:
        super().__init__(connection_id=CONNECTION, **more)

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Create it; its id."""
        cluster = context["ti"].xcom_pull(task_ids=PLAN)["cluster"]
        actions = [InitializationAction(**action) for action in cluster["initialization_actions"]]
        for name, value in {**cluster, "initialization_actions": actions}.items():
            if not hasattr(self, name):  # another version of the provider: nothing is left out in silence
                raise TypeError(f"the provider's operator has no {name}")
            setattr(self, name, value)
        return super().execute(context)


class ClusterJob(DataprocCreatePysparkJobOperator):  # type: ignore[misc]  # as above
    """Runs one command of Zaslon on the cluster.

    Its exit code is the result: 0, or one that means "nothing to do". Any other is a failure.
    """

    def __init__(self, *, command: Sequence[str], skip_codes: Sequence[int], **more: Any) -> None:
        cluster_id = f"{{{{ ti.xcom_pull(task_ids='{CREATE}') }}}}"
        super().__init__(connection_id=CONNECTION, cluster_id=cluster_id, **more)
        self.command, self.skip_codes = tuple(command), tuple(skip_codes)

    def execute(self, context: Mapping[str, Any]) -> int:
        """Run it; the exit code."""
        plan = context["ti"].xcom_pull(task_ids=PLAN)
        if time.time() >= plan["until"]:
            raise JobFailedError("The cluster's lifetime is over: the job is not begun.")
        prefix = self._prefix
        # A try that Airflow lost may go on and write to the same place.
        for job_id in DataProc(None).cancel(self.cluster_id, prefix):
            self.log.warning("Cancelled job %s of an earlier try", job_id)
        self.name = f"{prefix}{context['ti'].try_number}"
        day, master = f"{context['dag_run'].run_after:%Y-%m-%d}", DataProc(None).master(self.cluster_id)
        self.args = fill_in(self.command, {**plan["places"], "date": day, "master": master})
        for name, value in plan["job"].items():
            setattr(self, name, value)
        try:
            super().execute(context)
        except RuntimeError as error:  # the SDK's OperationError is one
            return self._exit_code(error)
        return self._exit_code(None)

    @property
    def _prefix(self) -> str:
        """How the names of its jobs begin; the API takes no underscores."""
        return f"{self.task_id.replace('_', '-')[:50]}-try-"

    def _exit_code(self, error: RuntimeError | None) -> int:
        """Zero, or the code in the log if it means "nothing to do"; else it has failed."""
        found = DataProc(None).jobs(self.cluster_id, self.name)
        if not found:
            raise JobFailedError(f"Job {self.name} is not on the cluster: {error}") from error
        job = found[-1]
        if error is None and is_done(job):
            return 0
        code = exit_code_in(DataProc(None).log(self.cluster_id, job.id))
        if code in self.skip_codes:
            return code
        raise JobFailedError(
            f"Job {job.id} ended with {status_name(job)}, exit code {'unknown' if code is None else code}. {error or ''}"
        ) from error

    def on_kill(self) -> None:
        """End the job too, after a timeout or by a person."""
        DataProc(None).cancel(self.cluster_id, self._prefix)


class DeleteCluster(DataprocDeleteClusterOperator):  # type: ignore[misc]  # as above
    """Deletes the run's cluster by its name, so also one that was half created; looks whether it is gone."""

    def __init__(self, **more: Any) -> None:
        super().__init__(connection_id=CONNECTION, **more)

    def execute(self, context: Mapping[str, Any]) -> None:
        """Delete it, if there is one; by the plan, as the settings may have changed meanwhile."""
        plan = context["ti"].xcom_pull(task_ids=PLAN)
        if plan is None:  # refused, so nothing was created
            return
        name, service = plan["name"], DataProc(plan["cluster"]["folder_id"])
        for found in service.clusters(name):
            self.cluster_id = found.id
            super().execute(context)
        if service.clusters(name):
            raise RuntimeError(f"Cluster {name} is still there and costs money.")
