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
    try:
        session = Session()
        client, keys = session.create_client("s3", region_name=s3_region()), session.get_credentials()
        server = _server(client.meta.endpoint_url, client.meta.region_name)
        if keys is None or keys.method in _OF_INSTANCES:
            return Access(server, {})
        frozen = keys.get_frozen_credentials()
    except (BotoCoreError, ValueError) as error:
        raise ZaslonError(
            f"The settings of S3 cannot be used: {error}.", hint="Check the AWS_… variables."
        ) from error
    given = [frozen.access_key, frozen.secret_key, *([frozen.token] if frozen.token else [])]
    if one_process:
        return Access(server | {_PROVIDER: _FROM_ENVIRONMENT}, dict(zip(_VARIABLES, given, strict=False)))
    provider = "TemporaryAWSCredentialsProvider" if frozen.token else "SimpleAWSCredentialsProvider"
    keys_of = dict(zip(_PROPERTIES, given, strict=False))
    redacted = ",".join(filter(None, [configuration.get(_REDACTED), *keys_of]))
    provided = {_PROVIDER: f"org.apache.hadoop.fs.s3a.{provider}", _REDACTED: redacted}
    return Access(server | provided | keys_of, {})


def _server(endpoint: str, region: str | None) -> dict[str, str]:
    """Another server than Amazon's is named, and has its buckets in the path."""
    place = urlsplit(endpoint)
    found = {"fs.s3a.endpoint.region": region} if region and region != "aws-global" else {}
    if (place.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return found
    return found | {
        "fs.s3a.endpoint": endpoint,
        "fs.s3a.path.style.access": "true",
        "fs.s3a.connection.ssl.enabled": "true" if place.scheme == "https" else "false",
    }
