"""A real tracking server of MLflow on loopback, as `deploy/mlflow` starts it: PostgreSQL, S3, users."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from deploy.mlflow.users import Admin, set_up
from tests.integration.s3_server import LocalS3
from tests.postgres_server import LocalPostgres
from tests.waiting import DEADLINE_SECONDS, until

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / ".mlflow"
_LOCK = ROOT / "requirements" / "mlflow-server.txt"


class LocalMlflow:
    """One server with its users; artefacts are below `BUCKET/mlflow` of the S3 server."""

    def __init__(self, directory: Path, postgres: LocalPostgres, s3: LocalS3) -> None:
        self.directory, self._postgres, self._s3 = directory, postgres, s3
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.passwords = directory / "passwords"
        self.bucket = s3.bucket("models")
        self._databases = [postgres.new_database() for _ in range(2)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, wait until it answers, and set its users up."""
        _fetch()
        self.go_on()
        set_up(Admin(self.address, self._admin_password()), self.passwords)

    def go_on(self) -> None:
        """Start on the data that there are."""
        with (self.directory / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                [ROOT / "deploy" / "mlflow" / "server.sh"], env=self._environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(self._answers, lambda: (self.directory / "mlflow.log").read_text()[-2000:], look_seconds=0.2)

    def settings(self, trainer: str = "trainer", promoter: str | None = "promoter") -> dict[str, object]:
        """With which Zaslon reaches it as these users."""
        settings: dict[str, object] = {
            "registry": "mlflow", "mlflow_uri": self.address, "mlflow_timeout_seconds": 60,
            "mlflow_user": trainer, "mlflow_password_file": self.passwords / trainer,
        }  # fmt: skip
        if promoter is not None:
            settings |= {
                "mlflow_promoter_user": promoter, "mlflow_promoter_password_file": self.passwords / promoter,
            }  # fmt: skip
        return settings

    def environment(self, user: str) -> dict[str, str]:
        """With which MLflow alone reaches it as a user."""
        return {
            "MLFLOW_TRACKING_URI": self.address, "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": (self.passwords / user).read_text(),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        }  # fmt: skip

    def freeze(self, frozen: bool) -> None:
        """Let it answer nobody while its port is open, or go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`, its workers too."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE_SECONDS)
            self._process = None

    def _environment(self) -> dict[str, str]:
        password_file = self.directory / "pgpass"
        if not password_file.exists():
            password_file.touch(mode=0o600)
            password_file.write_text(f"*:*:*:*:{self._postgres.password}\n")
        runs, users = (
            address.replace(f":{self._postgres.password}", "").replace("://", "+psycopg://")
            for address in self._databases
        )
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), **self._s3.environment,
            "AWS_DEFAULT_REGION": "local", "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required", "MLFLOW_BIN": str(PROGRAMS / "bin" / "mlflow"),
            "MLFLOW_STATE": str(self.directory / "state"), "MLFLOW_PORT": str(self.port), "MLFLOW_WORKERS": "1",
            "MLFLOW_DB_URI": runs, "MLFLOW_AUTH_DB_URI": users, "PGPASSFILE": str(password_file),
            "MLFLOW_ARTIFACTS": f"s3://{self.bucket.name}/mlflow",
            "MLFLOW_ADMIN_PASSWORD_FILE": str(self._admin_password_file()),
        }  # fmt: skip

    def _admin_password_file(self) -> Path:
        path = self.directory / "admin-password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path

    def _admin_password(self) -> str:
        return self._admin_password_file().read_text()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "mlflow.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=DEADLINE_SECONDS):
                return True
        except (urllib.error.URLError, OSError):
            return False


def _fetch() -> None:
    """The server's environment in an ignored folder, made once for this lock."""
    stamp = PROGRAMS / "complete"
    if stamp.exists() and stamp.read_bytes() == _LOCK.read_bytes():
        return
    shutil.rmtree(PROGRAMS, ignore_errors=True)
    uv, python = shutil.which("uv"), str(PROGRAMS / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", *(["--without-pip"] if uv else []), PROGRAMS], check=True)
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    done = subprocess.run(
        [*install, "--quiet", "--require-hashes", "-r", _LOCK], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"MLflow's server cannot be installed: {done.stderr[-800:]}"
    stamp.write_bytes(_LOCK.read_bytes())
