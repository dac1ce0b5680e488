"""A real S3 server on loopback that Hadoop's S3A works with: SeaweedFS, which checks signatures.

S3Proxy, with which the tests of snapshots work, refuses S3A's folders.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from botocore.session import Session
from tests.waiting import DEADLINE_SECONDS, until

_TWIN = 10_000  # each port has another for the servers among themselves, so much higher


class LocalSeaweed:
    """One server with its objects below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key_id, self.secret = "lake", secrets.token_urlsafe(24)
        self._ports = {name: _free_port() for name in ("master", "volume", "filer", "s3")}
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing_tool() -> str | None:
        """Why it cannot be started on this machine; None if it can."""
        return None if _program() else "SeaweedFS's `weed` is not installed: make cluster-test"

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """With which a client reaches it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": self.key_id, "AWS_SECRET_ACCESS_KEY": self.secret,
        }  # fmt: skip

    @property
    def files(self) -> Any:
        """Its objects for a test to read and write."""
        return fsspec.filesystem(
            "s3", endpoint_url=self.endpoint, key=self.key_id, secret=self.secret, use_listings_cache=False,
            skip_instance_cache=True,
        )  # fmt: skip

    def create_bucket(self, name: str) -> None:
        """Create a bucket."""
        client = Session().create_client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
        )  # fmt: skip
        client.create_bucket(Bucket=name)

    def start(self) -> None:
        """Start, and wait until it listens."""
        program, ports = _program(), self._ports
        assert program is not None
        (self.directory / "data").mkdir()
        keys = self.directory / "keys.json"
        keys.touch(mode=0o600)
        keys.write_text(json.dumps({"identities": [self._identity()]}))
        with (self.directory / "seaweed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-logtostderr", "server", f"-dir={self.directory / 'data'}", "-ip=127.0.0.1",
                 "-ip.bind=127.0.0.1", f"-master.port={ports['master']}", f"-volume.port={ports['volume']}",
                 "-volume.max=100", "-master.volumeSizeLimitMB=256", "-filer", f"-filer.port={ports['filer']}",
                 "-s3", f"-s3.port={ports['s3']}", f"-s3.config={keys}", "-s3.iam=false",
                 # By default it sends telemetry, opens two more ports at fixed numbers, and creates buckets.
                 "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
            )  # fmt: skip
        until(lambda: self._listens() or self._has_ended(), self._log)
        assert not self._has_ended(), self._log()

    def kill(self) -> None:
        """`kill -9`: after SIGTERM it takes a quarter of a minute to end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_SECONDS)

    def _identity(self) -> Mapping[str, object]:
        return {
            "name": self.key_id, "credentials": [{"accessKey": self.key_id, "secretKey": self.secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }  # fmt: skip

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._ports["s3"])) == 0

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _log(self) -> str:
        return (self.directory / "seaweed.log").read_text()[-1_500:]


def _program() -> str | None:
    beside = str(Path(sys.executable).parent)
    return shutil.which("weed", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))


def _free_port() -> int:
    """A port whose twin is free as well."""
    while True:
        with socket.socket() as one, socket.socket() as twin:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            with suppress(OSError, OverflowError):
                twin.bind(("127.0.0.1", port + _TWIN))
                return port
