"""Files of S3 and HDFS for whoever opens an address: how fsspec reaches both, here and in a task on another machine.

`s3://` and `s3a://` are s3fs with the limits below. `hdfs://` is WebHDFS: HDFS's own protocol needs a native library
that Python's packages lack; WebHDFS needs none, and the web ports of the NameNode and the DataNodes must be reachable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.implementations.webhdfs import WebHDFile, WebHDFS
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from zaslon.adapters.cluster.hadoop.cluster_files import default_namenode, web_address
from zaslon.adapters.cluster.hadoop.hadoop_settings import s3_region, s3_variables
from zaslon.domain.errors import ZaslonError

WEBHDFS_PORT = 9870  # dfs.namenode.http-address of Hadoop 3
_CONNECT_SECONDS, _ANSWER_SECONDS, _ATTEMPTS = 10, 60, 3


@dataclass(frozen=True)
class WebAddresses:
    """Where WebHDFS answers.

    Attributes:
        given: `host:port` by NameNode, as in `hdfs://NAMENODE/`.
        configuration: of a cluster; it counts for what is not given.
    """

    given: Mapping[str, str]
    configuration: Mapping[str, str]

    @staticmethod
    def of_setting(pairs: str | None, configuration: Mapping[str, str]) -> WebAddresses:
        """From `NAMENODE=HOST:PORT` pairs."""
        return WebAddresses(dict(pair.split("=", 1) for pair in (pairs or "").split()), configuration)

    def of(self, namenode: str) -> tuple[str, int]:
        """(host, port) for a NameNode; the usual port of its host where nothing is said."""
        found = self.given.get(namenode) or web_address(self.configuration, namenode)
        host, _, port = (found or f"{namenode.partition(':')[0]}:{WEBHDFS_PORT}").rpartition(":")
        return host, int(port)

    @property
    def default_namenode(self) -> str | None:
        """`host:port` of the HDFS that is meant where none is named."""
        return default_namenode(self.configuration)


@dataclass(frozen=True)
class StorageAccess:
    """How a process reaches S3 and HDFS; another process that gets it reaches them the same way.

    Attributes:
        web: where WebHDFS answers.
        user: name of the user there; HDFS believes it where Kerberos is off.
        s3: variables of the environment, keys among them where they are not those of an instance.
    """

    web: WebAddresses
    user: str
    s3: Mapping[str, str] = field(repr=False)

    @staticmethod
    def here(web: WebAddresses, user: str) -> StorageAccess:
        """That of this process.

        Raises:
            ZaslonError: the settings of S3 cannot be used.
        """
        return StorageAccess(web, user, s3_variables())

    def use(self) -> None:
        """Reach them that way in this process, as the one that it came from."""
        os.environ.update(self.s3)
        use_storages(self.web, self.user)


def use_storages(web: WebAddresses, user: str) -> None:
    """Let fsspec open `s3a://`, `s3://` and `hdfs://` in this process; S3 is found as every client of it finds it."""
    fsspec.register_implementation("hdfs", HdfsFiles, clobber=True)
    fsspec.config.conf["hdfs"] = {"web": web, "user": user}
    fsspec.config.conf["s3"] = s3_arguments()


def s3_arguments() -> dict[str, Any]:
    """Arguments of s3fs: nothing is listed from memory, and every request ends."""
    return {
        "use_listings_cache": False, "client_kwargs": {"region_name": s3_region()},
        "config_kwargs": {
            "connect_timeout": _CONNECT_SECONDS, "read_timeout": _ANSWER_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
            # Not everyone knows the checksums that newer clients add.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    }  # fmt: skip


class HdfsFiles(WebHDFS):  # type: ignore[misc]
    """HDFS through WebHDFS, by its usual addresses.

    Args:
        host, port: of the NameNode as in an address; neither for the one of the configuration.
        web: where WebHDFS answers.
        user: name of the user there.
    """

    protocol = "hdfs"

    def __init__(
        self, host: str | None = None, port: int | None = None, *, web: WebAddresses, user: str, **given: Any
    ) -> None:
        namenode = f"{host}:{port}" if port else host or web.default_namenode
        if namenode is None:
            raise ZaslonError(
                "An address of HDFS names no NameNode, and neither does Hadoop's configuration.",
                hint="Write hdfs://namenode/path, or name the configuration's directory in HADOOP_CONF_DIR.",
            )
        web_host, web_port = web.of(namenode)
        super().__init__(host=web_host, port=web_port, user=user, **given)

    def _connect(self) -> None:
        super()._connect()
        self.session.mount("http://", _Bounded())  # by itself it would wait for any length of time
        self.session.mount("https://", _Bounded())

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        """The path with all its signs: fsspec's own takes `?` for the end of it."""
        return re.sub(r"^hdfs://[^/]*", "", path) or "/"

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **given: Any) -> WebHDFile:
        return _HdfsFile(
            self, path, mode=mode, block_size=block_size or self.blocksize, tempdir=self.tempdir,
            autocommit=given.get("autocommit", True),
        )  # fmt: skip


class _HdfsFile(WebHDFile):  # type: ignore[misc]
    """A file to read. A DataNode that refuses says so in a page, which fsspec's own takes for the content."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        end = min(self.size, end)
        if start >= end:
            return b""
        answer = self.fs._call("OPEN", path=self.path, offset=start, length=end - start)
        content: bytes = answer.content
        if len(content) != end - start:
            raise OSError(f"'{self.path}' gave {len(content):,} of {end - start:,} bytes")
        return content


class _Bounded(HTTPAdapter):
    """Requests that end."""

    def send(self, request: PreparedRequest, *given: Any, **named: Any) -> Response:
        """Send with the time to connect and to answer that is usual here."""
        return super().send(request, *given, **named | {"timeout": (_CONNECT_SECONDS, _ANSWER_SECONDS)})
