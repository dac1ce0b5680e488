"""What a simulated Yandex Cloud knows: operations, clusters, jobs, and the faults that a test injects.

Nothing here waits: an operation ends when somebody asks for it, unless the fault `held` names its kind.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from yandex.cloud.dataproc.v1 import cluster_pb2, job_pb2
from yandex.cloud.operation import operation_pb2

_INTERNAL = 13  # of gRPC's codes
Work = Callable[[], Any]
# Clusters of others in the same folder: by hand, and of another Airflow, long over.
OTHERS: dict[str, dict[str, str]] = {
    "by-hand": {},
    "another-airflow": {"created-by": "their-airflow", "zaslon-until": "1"},
    "in-their-words": {"created-by": "somebody"},
}


class FaultError(Exception):
    """What a test wants to go wrong."""


class CloudState:
    """Everything that is there, and a file of calls for the test.

    `faults.json`, read at every use, may hold:

        create, delete   a message: the operation fails; a failed creation leaves a cluster in ERROR
        jobs             by command (`clean`): an exit code of the driver, "lost" for an operation that succeeds
                         while its job does not, or "run" to run the job's Python file
        held             kinds of operations (`create`, `job`, `delete`) that do not end
        denied           the name of a job whose operation nobody may look at
        unavailable      so many looks at operations are answered with UNAVAILABLE
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.lock = directory, threading.RLock()
        self.tokens: set[str] = set()
        self.clusters: dict[str, Any] = {}
        self.jobs: dict[str, Any] = {}
        self.logs: dict[str, str] = {}
        self.refused_looks = 0
        self._operations: dict[str, Any] = {}
        self._works: dict[str, tuple[str, Work]] = {}
        for name, labels in OTHERS.items():
            self.clusters[f"c-{name}"] = cluster_pb2.Cluster(
                id=f"c-{name}",
                folder_id="folder-1",
                name=name,
                labels=labels,
                status=cluster_pb2.Cluster.RUNNING,
            )

    def fault(self, name: str, default: Any = None) -> Any:
        """The fault of this name, as it is now."""
        path = self.directory / "faults.json"
        return json.loads(path.read_text()).get(name, default) if path.exists() else default

    def note(self, kind: str, request: Any = None, **more: object) -> None:
        """A line in the file of calls."""
        line = {"call": kind, **({} if request is None else MessageToDict(request)), **more}
        with self.lock, (self.directory / "calls.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def begin(self, kind: str, metadata: Any, work: Work, name: str = "") -> Any:
        """A running operation; `work` ends it when somebody looks, and its failure is the operation's error."""
        operation = operation_pb2.Operation(id=f"op-{uuid.uuid4().hex[:12]}", description=name or kind)
        operation.created_at.GetCurrentTime()
        operation.metadata.Pack(metadata)
        with self.lock:
            self._operations[operation.id], self._works[operation.id] = operation, (kind, work)
            self._keep_clusters()
            return _copy(operation)

    def _keep_clusters(self) -> None:
        """What there is, for the test to look at."""
        found = {
            cluster.name: cluster_pb2.Cluster.Status.Name(cluster.status)
            for cluster in self.clusters.values()
        }
        (self.directory / "clusters.new").write_text(json.dumps(found))
        (self.directory / "clusters.new").rename(self.directory / "clusters.json")

    def look(self, operation_id: str) -> Any | None:
        """An operation as it is now; None if there is none."""
        with self.lock:
            operation = self._operations.get(operation_id)
            kind, work = self._works.get(operation_id, ("", None))
            if operation is None:
                return None
            if not operation.done and work is not None and kind not in self.fault("held", []):
                _end(operation, work)
                self._keep_clusters()
            return _copy(operation)

    def may_answer(self) -> bool:
        """Whether a look at an operation is answered, not refused as unavailable."""
        with self.lock:
            self.refused_looks += 1
            return self.refused_looks > int(self.fault("unavailable", 0))

    def is_denied(self, operation_id: str) -> bool:
        """Whether nobody may look at an operation."""
        with self.lock:
            operation = self._operations.get(operation_id)
            return operation is not None and operation.description == self.fault("denied")

    def create(self, cluster: Any) -> Any:
        """The end of a creation."""
        message = self.fault("create")
        cluster.status = cluster_pb2.Cluster.ERROR if message else cluster_pb2.Cluster.RUNNING
        if message:
            raise FaultError(message)
        return cluster

    def delete(self, cluster_id: str) -> None:
        """The end of a deletion."""
        if message := self.fault("delete"):
            raise FaultError(message)
        del self.clusters[cluster_id]

    def run(self, job: Any, code: int) -> Any:
        """The end of a job whose driver ended with this code, as Spark's client on YARN reports it."""
        if self.fault("jobs", {}).get(job.pyspark_job.args[0]) == "lost":
            job.status = job_pb2.Job.ERROR
            return job
        if code:
            job.status = job_pb2.Job.ERROR
            self.logs[job.id] = (
                "INFO Client: Application report (state: FINISHED)\n"
                f"ERROR Client: Application diagnostics message: User application exited with status {code}\n"
            )
            raise FaultError(f"Job {job.id} failed")
        job.status = job_pb2.Job.DONE
        return job


def _copy(operation: Any) -> Any:
    answer = operation_pb2.Operation()
    answer.CopyFrom(operation)
    return answer


def _end(operation: Any, work: Work) -> None:
    try:
        response = work()
    except FaultError as error:
        operation.error.CopyFrom(Status(code=_INTERNAL, message=str(error)))
    else:
        if response is not None:
            operation.response.Pack(response)
    operation.done = True
