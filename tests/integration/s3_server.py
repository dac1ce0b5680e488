"""A real S3 server on loopback, without containers: S3Proxy over a directory, TLS and signed requests only."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from tests.waiting import DEADLINE_SECONDS, until

HERE = Path(__file__).resolve().parent

ROOT = HERE.parents[1]
LIBS = ROOT / ".s3" / "libs"


class LocalS3:
    """One server with its objects below `directory/buckets/BUCKET`; a bucket is a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key_id, self.secret = "scorer", secrets.token_urlsafe(24)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing_tool() -> str | None:
        """Why a server cannot be started on this machine; None if it can."""
        for tool in ("java", "mvn", "openssl"):
            if shutil.which(tool) is None:
                return f"an S3 server needs `{tool}`, which is not on the PATH"
        return None

    def bucket(self, name: str) -> Path:
        """Make a bucket; where its objects are."""
        path = self.directory / "buckets" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def environment(self) -> dict[str, str]:
        """With which a client reaches it; the keys stay in their file."""
        return {
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{self.port}", "AWS_REGION": "local",
            "AWS_CA_BUNDLE": str(self.directory / "tls" / "ca.crt"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.directory / "keys"),
            "AWS_CONFIG_FILE": str(self.directory / "no-such-file"), "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def start(self) -> None:
        """Start, and wait until it listens."""
        _fetch()
        if not (self.directory / "tls").exists():
            self._prepare()
        settings = self.directory / "s3.properties"
        settings.touch(mode=0o600)
        settings.write_text(
            f"s3proxy.secure-endpoint=https://127.0.0.1:{self.port}\n"
            f"s3proxy.keystore-path={self.directory / 'tls' / 'server.p12'}\n"
            f"s3proxy.keystore-password={self.secret}\n"
            f"s3proxy.authorization=aws-v4\ns3proxy.identity={self.key_id}\ns3proxy.credential={self.secret}\n"
            "jclouds.provider=filesystem-nio2\njclouds.identity=none\njclouds.credential=none\n"
            f"jclouds.filesystem.basedir={self.directory / 'buckets'}\n"
        )
        with (self.directory / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{LIBS}/*",
                 "org.gaul.s3proxy.Main", "--properties", str(settings)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(self._listens_or_ended, lambda: (self.directory / "s3.log").read_text()[-800:])
        assert self._process.poll() is None, (self.directory / "s3.log").read_text()[-800:]

    def _prepare(self) -> None:
        """A bucket, the keys, an authority and a certificate."""
        self.bucket("any")
        keys = self.directory / "keys"
        keys.touch(mode=0o600)
        keys.write_text(
            f"[default]\naws_access_key_id = {self.key_id}\naws_secret_access_key = {self.secret}\n"
        )
        tls = self.directory / "tls"
        subprocess.run(["sh", str(ROOT / "deploy" / "kafka" / "certificates.sh"), str(tls)], check=True)
        subprocess.run(
            ["openssl", "pkcs12", "-export", "-in", str(tls / "broker.crt"), "-inkey", str(tls / "broker.key"),
             "-out", str(tls / "server.p12"), "-passout", "env:STORE_PASSWORD"],
            env={**os.environ, "STORE_PASSWORD": self.secret}, check=True,
        )  # fmt: skip

    def _listens_or_ended(self) -> bool:
        assert self._process is not None
        return self._listens() or self._process.poll() is not None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_SECONDS)


def _fetch() -> None:
    if (LIBS / "complete").exists():
        return
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(HERE / "s3_pom.xml"), "dependency:copy-dependencies",
         "-DincludeScope=runtime", f"-DoutputDirectory={LIBS}"],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, f"Maven could not fetch the S3 server: {(done.stdout + done.stderr)[-800:]}"
    (LIBS / "complete").touch()
