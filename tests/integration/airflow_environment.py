"""A real Airflow in an environment of its own, installed once from its lock into an ignored folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "airflow.txt"
ENVIRONMENT = ROOT / ".airflow"
SCRIPT = ROOT / "deploy" / "airflow" / "airflow.sh"


def install() -> Path:
    """The directory of Airflow's programs; installed if its lock has changed."""
    stamp = ENVIRONMENT / "installed"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        python = ENVIRONMENT / "bin" / "python"
        uv = shutil.which("uv")
        if uv is None:
            _run(sys.executable, "-m", "venv", ENVIRONMENT)
            _run(python, "-m", "pip", "install", "-q", "--require-hashes", "-r", LOCK)
        else:
            _run(uv, "venv", "-q", "--python", sys.executable, ENVIRONMENT)
            _run(uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", LOCK)
        stamp.write_text(digest)
    return ENVIRONMENT / "bin"


def _run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2_000:]


@dataclass(frozen=True)
class Airflow:
    """One Airflow with its own directory and settings."""

    programs: Path
    home: Path
    settings: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see; nothing of ours but what the settings say."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return (
            kept
            | {"AIRFLOW_HOME": str(self.home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
            | dict(self.settings)
        )

    def __call__(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """An `airflow` command."""
        return subprocess.run(
            [self.programs / "airflow", *arguments], env=self.environment | settings, check=False,
            capture_output=True, text=True,
        )  # fmt: skip

    def script(self, *arguments: str) -> None:
        """`deploy/airflow/airflow.sh`."""
        done = subprocess.run(
            [SCRIPT, *arguments], env=self.environment, check=False, capture_output=True, text=True
        )
        logs = {path.name: path.read_text()[-1_500:] for path in (self.home / "run").glob("*.log")}
        assert done.returncode == 0, (done.stderr, logs)
