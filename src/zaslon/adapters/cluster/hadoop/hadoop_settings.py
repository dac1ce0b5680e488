"""What DistCp is told about S3: endpoint and region in a configuration of Hadoop, and the keys.

On the command line others could read the keys; in a file a killed process would leave them. One Java process that does
all by itself gets them in its environment, as this one did. Where a cluster does the work it is Hadoop that carries them
there, as a part of the configuration: that is a file in memory, of which the child process inherits the descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from botocore.exceptions import BotoCoreError
from botocore.session import Session

from zaslon.domain.errors import ZaslonError

_PROVIDER = "fs.s3a.aws.credentials.provider"
_FROM_ENVIRONMENT = "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_PROPERTIES = ("fs.s3a.access.key", "fs.s3a.secret.key", "fs.s3a.session.token")
# What the pages and the files of a job's history hide. The job itself needs it, in its `job.xml`.
_REDACTED = "mapreduce.job.redacted-properties"
# Keys of an instance change while a job runs: Hadoop asks the instance itself.
_OF_INSTANCES = {"iam-role", "container-role"}


class Access(NamedTuple):
    """How Hadoop reaches S3: its properties, and variables of the environment."""

    properties: Mapping[str, str]
    environment: Mapping[str, str]


@contextmanager
def configuration_file(properties: Mapping[str, str]) -> Iterator[int]:
    """The descriptor of a file that only this process and its children can read; `/dev/fd/N` is its path there."""
    content = "".join(
        f"<property><name>{escape(name)}</name><value>{escape(value)}</value></property>"
        for name, value in properties.items()
    )
    descriptor = os.memfd_create("hadoop-configuration")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, f"<configuration>{content}</configuration>".encode())
        yield descriptor
    finally:
        os.close(descriptor)


def s3_region() -> str | None:
    """The region by the name that other clients use as well; botocore reads `AWS_DEFAULT_REGION` and files only."""
    return os.environ.get("AWS_REGION") or None


def s3_access(configuration: Mapping[str, str], *, one_process: bool) -> Access:
    """S3 as this process knows it, from the environment or the files of every S3 client; without keys, none.

    Args:
        configuration: of the cluster; what it hides already stays hidden.
        one_process: whether the process that is started does all the work.

    Raises:
        ZaslonError: the settings cannot be used.
    """
    found = _s3()
    server = _server(found.endpoint, found.region)
    if not found.keys:
        return Access(server, {})
    if one_process:
        return Access(
            server | {_PROVIDER: _FROM_ENVIRONMENT}, dict(zip(_VARIABLES, found.keys, strict=False))
        )
    provider = "TemporaryAWSCredentialsProvider" if len(found.keys) > 2 else "SimpleAWSCredentialsProvider"
    keys_of = dict(zip(_PROPERTIES, found.keys, strict=False))
    redacted = ",".join(filter(None, [configuration.get(_REDACTED), *keys_of]))
    provided = {_PROVIDER: f"org.apache.hadoop.fs.s3a.{provider}", _REDACTED: redacted}
    return Access(server | provided | keys_of, {})


def s3_variables() -> Mapping[str, str]:
    """Variables with which a process on another machine reaches S3 as this one does; keys of an instance are not among them.

    Raises:
        ZaslonError: the settings cannot be used.
    """
    found = _s3()
    place = {"AWS_ENDPOINT_URL": found.endpoint} if not _is_amazons(found.endpoint) else {}
    region = {"AWS_REGION": found.region} if found.region and found.region != "aws-global" else {}
    return place | region | dict(zip(_VARIABLES, found.keys, strict=False))


class _S3(NamedTuple):
    """S3 as this process knows it: its server, and keys (id, secret and perhaps a token); none are those of an instance."""

    endpoint: str
    region: str | None
    keys: tuple[str, ...]


def _s3() -> _S3:
    try:
        session = Session()
        client, keys = session.create_client("s3", region_name=s3_region()), session.get_credentials()
        place = client.meta.endpoint_url, client.meta.region_name
        if keys is None or keys.method in _OF_INSTANCES:
            return _S3(*place, ())
        frozen = keys.get_frozen_credentials()
    except (BotoCoreError, ValueError) as error:
        raise ZaslonError(
            f"The settings of S3 cannot be used: {error}.", hint="Check the AWS_… variables."
        ) from error
    return _S3(*place, (frozen.access_key, frozen.secret_key, *([frozen.token] if frozen.token else [])))


def _is_amazons(endpoint: str) -> bool:
    return (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _server(endpoint: str, region: str | None) -> dict[str, str]:
    """Another server than Amazon's is named, and has its buckets in the path."""
    found = {"fs.s3a.endpoint.region": region} if region and region != "aws-global" else {}
    if _is_amazons(endpoint):
        return found
    return found | {
        "fs.s3a.endpoint": endpoint,
        "fs.s3a.path.style.access": "true",
        "fs.s3a.connection.ssl.enabled": "true" if urlsplit(endpoint).scheme == "https" else "false",
    }
