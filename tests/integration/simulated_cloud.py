"""A simulated Yandex Cloud on loopback: endpoints, IAM tokens, operations, Data Proc's clusters and jobs.

Real gRPC over TLS with a CA of its own, from the stubs of the package `yandexcloud`; so it runs in Airflow's environment:

    python -m tests.integration.simulated_cloud DIRECTORY PYTHON OBJECTS

It checks what a client has to get right: the signature of the key, the bearer token, required fields, states. DIRECTORY
gets tls/ca.crt, key.json (the service account's key), calls.jsonl, clusters.json and address; faults.json is the test's.
A job that is really run has the other PYTHON, and s3a://BUCKET/KEY is a file below OBJECTS.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
import jwt
from tests.integration.cloud_keys import make_keys
from tests.integration.cloud_state import CloudState
from yandex.cloud.dataproc.v1 import (
    cluster_pb2,
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    subcluster_pb2,
)
from yandex.cloud.endpoint import (
    api_endpoint_pb2,
    api_endpoint_service_pb2,
    api_endpoint_service_pb2_grpc,
)
from yandex.cloud.iam.v1 import iam_token_service_pb2, iam_token_service_pb2_grpc
from yandex.cloud.operation import operation_service_pb2_grpc

OPEN = ("/yandex.cloud.endpoint.ApiEndpointService/", "/yandex.cloud.iam.v1.IamTokenService/")
PAGE = 2  # few, so that every list has pages


class Guard(grpc.ServerInterceptor):  # type: ignore[misc]  # not installed where types are checked; so below
    """Only endpoints and IAM answer without a token that this IAM has issued."""

    def __init__(self, state: CloudState) -> None:
        self._state = state

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        head = dict(details.invocation_metadata)
        token = head.get("authorization", "").removeprefix("Bearer ")
        if details.method.startswith(OPEN) or token in self._state.tokens:
            return continuation(details)
        return grpc.unary_unary_rpc_method_handler(
            lambda _request, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "The token is invalid")
        )


class Endpoints(api_endpoint_service_pb2_grpc.ApiEndpointServiceServicer):  # type: ignore[misc]
    """Every service is here."""

    def __init__(self, address: str) -> None:
        self._address = address

    def List(self, _request: Any, _context: Any) -> Any:  # noqa: N802  the API's name; so below
        services = ("endpoint", "iam", "operation", "dataproc")
        return api_endpoint_service_pb2.ListApiEndpointsResponse(
            endpoints=[api_endpoint_pb2.ApiEndpoint(id=name, address=self._address) for name in services]
        )


class Iam(iam_token_service_pb2_grpc.IamTokenServiceServicer):  # type: ignore[misc]
    """Tokens for who has signed with the service account's key."""

    def __init__(self, state: CloudState, key: dict[str, str], address: str) -> None:
        self._state, self._key, self._address = state, key, address

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        audience = f"https://iam.{self._address}/iam/v1/tokens"
        try:
            claims = jwt.decode(request.jwt, self._key["public_key"], algorithms=["PS256"], audience=audience)
        except jwt.PyJWTError as problem:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"JWT: {problem}")
        if claims["iss"] != self._key["service_account_id"]:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown service account")
        token = f"t1.{uuid.uuid4().hex}"
        self._state.tokens.add(token)
        return iam_token_service_pb2.CreateIamTokenResponse(iam_token=token)


class Operations(operation_service_pb2_grpc.OperationServiceServicer):  # type: ignore[misc]
    """Operations end when they are looked at."""

    def __init__(self, state: CloudState) -> None:
        self._state = state

    def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self._state.may_answer():
            context.abort(grpc.StatusCode.UNAVAILABLE, "try later")
        if self._state.is_denied(request.operation_id):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")
        return self._state.look(request.operation_id) or _not_found(context, request.operation_id)


class Clusters(cluster_service_pb2_grpc.ClusterServiceServicer):  # type: ignore[misc]
    """Creates, lists and deletes clusters."""

    def __init__(self, state: CloudState) -> None:
        self._state = state

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        _check(request, context)
        state = self._state
        with state.lock:
            if any(known.name == request.name for known in state.clusters.values()):
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Cluster {request.name} already exists")
            cluster = cluster_pb2.Cluster(
                id=f"c-{uuid.uuid4().hex[:12]}", folder_id=request.folder_id, name=request.name,
                description=request.description, labels=request.labels, status=cluster_pb2.Cluster.CREATING,
            )  # fmt: skip
            state.clusters[cluster.id] = cluster
        state.note("create", request)
        metadata = cluster_service_pb2.CreateClusterMetadata(cluster_id=cluster.id)
        return state.begin("create", metadata, lambda: state.create(cluster))

    def List(self, request: Any, _context: Any) -> Any:  # noqa: N802
        wanted = request.filter.removeprefix("name=").strip('"')
        with self._state.lock:
            found = [
                cluster for cluster in self._state.clusters.values()
                if cluster.folder_id == request.folder_id and wanted in ("", cluster.name)
            ]  # fmt: skip
        page, token = _page(found, request.page_token)
        return cluster_service_pb2.ListClustersResponse(clusters=page, next_page_token=token)

    def ListHosts(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """The master is not on the first page."""
        hosts = [subcluster_pb2.Host(name=f"data-{n}", role=subcluster_pb2.DATANODE) for n in range(PAGE)]
        hosts.append(subcluster_pb2.Host(name="master-1", role=subcluster_pb2.MASTERNODE))
        page, token = _page(hosts, request.page_token)
        return cluster_service_pb2.ListClusterHostsResponse(hosts=page, next_page_token=token)

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        state = self._state
        if request.cluster_id not in state.clusters:
            _not_found(context, request.cluster_id)
        state.note("delete", request)
        metadata = cluster_service_pb2.DeleteClusterMetadata(cluster_id=request.cluster_id)
        return state.begin("delete", metadata, lambda: state.delete(request.cluster_id))


class Jobs(job_service_pb2_grpc.JobServiceServicer):  # type: ignore[misc]
    """Runs jobs, really or as the faults say."""

    def __init__(self, state: CloudState, python: str, objects: Path) -> None:
        self._state, self._python, self._objects = state, python, objects

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        state, cluster = self._state, self._state.clusters.get(request.cluster_id)
        if cluster is None:
            _not_found(context, request.cluster_id)
        if cluster.status != cluster_pb2.Cluster.RUNNING:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "Cluster is not running")
        job = job_pb2.Job(
            id=f"j-{uuid.uuid4().hex[:12]}", cluster_id=request.cluster_id, name=request.name,
            pyspark_job=request.pyspark_job, status=job_pb2.Job.RUNNING,
        )  # fmt: skip
        with state.lock:
            state.jobs[job.id] = job
        state.note("job", request)
        metadata = job_service_pb2.CreateJobMetadata(cluster_id=request.cluster_id, job_id=job.id)
        return state.begin("job", metadata, lambda: state.run(job, self._exit_code(job)), job.name)

    def _exit_code(self, job: Any) -> int:
        code = self._state.fault("jobs", {}).get(job.pyspark_job.args[0], 0)
        if code != "run":
            return code if isinstance(code, int) else 0
        words = [self._here(word) for word in (job.pyspark_job.main_python_file_uri, *job.pyspark_job.args)]
        done = subprocess.run([self._python, *words], capture_output=True, text=True, check=False)
        self._state.note("ran", code=done.returncode, output=(done.stdout + done.stderr)[-2_000:])
        return done.returncode

    def _here(self, word: str) -> str:
        return word.replace("s3a://", f"{self._objects}/")

    def List(self, request: Any, _context: Any) -> Any:  # noqa: N802
        with self._state.lock:
            found = [job for job in self._state.jobs.values() if job.cluster_id == request.cluster_id]
        page, token = _page(found, request.page_token)
        return job_service_pb2.ListJobsResponse(jobs=page, next_page_token=token)

    def ListLog(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """A page a line, and one that repeats its token at the end."""
        lines = self._state.logs.get(request.job_id, "").splitlines(keepends=True)
        at = int(request.page_token or 0)
        return job_service_pb2.ListJobLogResponse(
            content="".join(lines[at : at + 1]), next_page_token=str(min(at + 1, len(lines)))
        )

    def Cancel(self, request: Any, _context: Any) -> Any:  # noqa: N802
        job = self._state.jobs[request.job_id]
        job.status = job_pb2.Job.CANCELLED
        self._state.note("cancel", request, name=job.name)
        metadata = job_service_pb2.CreateJobMetadata(cluster_id=job.cluster_id, job_id=job.id)
        return self._state.begin("cancel", metadata, lambda: job)


def _check(request: Any, context: Any) -> None:
    for name in ("folder_id", "name", "service_account_id", "bucket", "zone_id"):
        if not getattr(request, name):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{name} is required")
    for spec in request.config_spec.subclusters_spec:
        if not (spec.subnet_id and spec.resources.resource_preset_id and spec.resources.disk_size):
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"subcluster {spec.name} needs subnet and resources"
            )


def _not_found(context: Any, what: str) -> NoReturn:
    context.abort(grpc.StatusCode.NOT_FOUND, f"{what} not found")
    raise AssertionError("abort raises")


def _page(items: list[Any], token: str) -> tuple[list[Any], str]:
    at = int(token or 0)
    return items[at : at + PAGE], str(at + PAGE) if at + PAGE < len(items) else ""


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("python")
    parser.add_argument("objects", type=Path)
    options = parser.parse_args()
    key, credentials = make_keys(options.directory)
    state = CloudState(options.directory)
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[Guard(state)])
    address = f"localhost:{server.add_secure_port('127.0.0.1:0', grpc.ssl_server_credentials([credentials]))}"
    api_endpoint_service_pb2_grpc.add_ApiEndpointServiceServicer_to_server(Endpoints(address), server)
    iam_token_service_pb2_grpc.add_IamTokenServiceServicer_to_server(Iam(state, key, address), server)
    operation_service_pb2_grpc.add_OperationServiceServicer_to_server(Operations(state), server)
    cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(Clusters(state), server)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(
        Jobs(state, options.python, options.objects), server
    )
    server.start()
    (options.directory / "key.json").write_text(json.dumps(key))
    (options.directory / "address.new").write_text(address)
    (options.directory / "address.new").rename(options.directory / "address")
    server.wait_for_termination()


if __name__ == "__main__":
    main()
