"""The cloud's API for what the provider's operators do not do: find by name, list, look at a job, cancel it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from airflow.providers.yandex.hooks.dataproc import DataprocHook
from grpc import RpcError
from yandex.cloud.dataproc.v1.cluster_service_pb2 import (
    DeleteClusterRequest,
    ListClusterHostsRequest,
    ListClustersRequest,
)
from yandex.cloud.dataproc.v1.cluster_service_pb2_grpc import ClusterServiceStub
from yandex.cloud.dataproc.v1.job_pb2 import Job
from yandex.cloud.dataproc.v1.job_service_pb2 import CancelJobRequest, ListJobLogRequest, ListJobsRequest
from yandex.cloud.dataproc.v1.job_service_pb2_grpc import JobServiceStub
from yandex.cloud.dataproc.v1.subcluster_pb2 import MASTERNODE
from yandexcloud.operations import OperationError

_LOG = logging.getLogger(__name__)
CONNECTION = "yandexcloud_default"
_CANCEL_SECONDS_MAX, _DELETE_SECONDS_MAX = 600.0, 1_800.0
_LOG_PAGES_MAX = 64  # of a MiB; the exit code is at the end
_ENDED = (Job.DONE, Job.ERROR, Job.CANCELLED)


class DataProc:
    """Clusters and jobs of one folder, by Airflow's connection."""

    def __init__(self, folder_id: str | None) -> None:
        hook = DataprocHook(yandex_conn_id=CONNECTION)
        self._sdk = hook.sdk
        self._folder_id = folder_id or hook.default_folder_id
        self._clusters, self._jobs = self._sdk.client(ClusterServiceStub), self._sdk.client(JobServiceStub)

    def clusters(self, name: str | None = None) -> list[Any]:
        """All clusters, or those of a name."""
        named = None if name is None else f'name="{name}"'
        return list(
            _pages(
                lambda token: self._clusters.List(
                    ListClustersRequest(folder_id=self._folder_id, filter=named, page_token=token)
                ),
                "clusters",
            )
        )

    def master(self, cluster_id: str) -> str:
        """The host of a cluster's master.

        Raises:
            LookupError: there is none.
        """
        hosts = _pages(
            lambda token: self._clusters.ListHosts(
                ListClusterHostsRequest(cluster_id=cluster_id, page_token=token)
            ),
            "hosts",
        )
        for host in hosts:
            if host.role == MASTERNODE:
                return str(host.name)
        raise LookupError(f"Cluster {cluster_id} has no master.")

    def delete(self, cluster_id: str) -> bool:
        """Delete a cluster and wait for it; false if that failed, whatever the reason. One failure stops no others."""
        try:
            operation = self._clusters.Delete(DeleteClusterRequest(cluster_id=cluster_id))
            self._sdk.wait_operation_and_get_result(operation, timeout=_DELETE_SECONDS_MAX)
        except (RpcError, OperationError) as error:
            _LOG.warning("Cluster %s was not deleted: %s", cluster_id, error)
        return all(cluster.id != cluster_id for cluster in self.clusters())

    def jobs(self, cluster_id: str, prefix: str) -> list[Any]:
        """The jobs of a cluster whose names begin so."""
        found = _pages(
            lambda token: self._jobs.List(ListJobsRequest(cluster_id=cluster_id, page_token=token)), "jobs"
        )
        return [job for job in found if job.name.startswith(prefix)]

    def cancel(self, cluster_id: str, prefix: str) -> list[str]:
        """End the jobs that go on and whose names begin so, and wait for that; their ids."""
        ids = [job.id for job in self.jobs(cluster_id, prefix) if job.status not in _ENDED]
        for job_id in ids:
            operation = self._jobs.Cancel(CancelJobRequest(cluster_id=cluster_id, job_id=job_id))
            self._sdk.wait_operation_and_get_result(operation, timeout=_CANCEL_SECONDS_MAX)
        return ids

    def log(self, cluster_id: str, job_id: str) -> str:
        """What a job's client has printed, its last pages."""
        pages: list[str] = []
        token = ""
        while True:
            request = ListJobLogRequest(cluster_id=cluster_id, job_id=job_id, page_token=token)
            answer = self._jobs.ListLog(request)
            pages = [*pages, answer.content][-_LOG_PAGES_MAX:]
            # While a log may grow, its last page has a token that leads to nothing new.
            if not answer.next_page_token or answer.next_page_token == token or not answer.content:
                return "".join(pages)
            token = answer.next_page_token


def is_done(job: Any) -> bool:
    """Whether a job has succeeded."""
    return bool(job.status == Job.DONE)


def status_name(job: Any) -> str:
    """The status of a job in the API's words."""
    return str(Job.Status.Name(job.status))


def run_of(cluster: Any) -> tuple[str, str] | None:
    """DAG and run that a cluster was created by; None if its description does not say it."""
    try:
        found = json.loads(cluster.description)
        return str(found["dag"]), str(found["run"])
    except (ValueError, KeyError, TypeError):
        return None


def _pages(ask: Callable[[str], Any], field: str) -> Iterator[Any]:
    """The items of every page of a list."""
    token = ""
    while True:
        answer = ask(token)
        yield from getattr(answer, field)
        token = answer.next_page_token
        if not token:
            return
