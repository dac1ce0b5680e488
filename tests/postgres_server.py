"""A real PostgreSQL on loopback for a test session: Debian's, installed or unpacked into an ignored folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

ROOT = Path(__file__).resolve().parents[1]
UNPACKED = ROOT / ".postgres"
_PACKAGES = ("postgresql-15", "libpq5")
_AS_OTHER = "nobody"  # the server refuses to run as root


class LocalPostgres:
    """One server with its own data; users log in with a password.

    Args:
        syncs: whether what is committed is on the disk; tests need not wait for that.
    """

    def __init__(self, *, syncs: bool = False) -> None:
        self._syncs = "on" if syncs else "off"
        self.password = secrets.token_urlsafe(24)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # Not below the directory of pytest, which other users cannot enter.
        self._directory = Path(mkdtemp(prefix="zaslon-postgres-"))
        self._data = self._directory / "data"
        self._databases = 0

    @staticmethod
    def missing_tool() -> str | None:
        """Why a server cannot be started on this machine; None if it can."""
        if _programs() is not None or shutil.which("apt-get"):
            return None
        return "there is no PostgreSQL, and no apt-get to fetch it"

    def start(self) -> None:
        """Make the data and start; returns when it answers."""
        if _programs() is None:
            _fetch()
        owner = pwd.getpwnam(_AS_OTHER) if os.geteuid() == 0 else None
        password_file = self._directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if owner is not None:
            for path in (self._directory, password_file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb", "-D", self._data, "-U", "zaslon", "-A", "scram-sha-256", "--pwfile", password_file,
            "-E", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip
        self.go_on()

    def go_on(self) -> None:
        """Start on the data that there are."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._directory} "
            f"-c fsync={self._syncs} -c max_connections=300"
        )
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._directory / "log", "-o", options, "start")

    def new_database(self) -> str:
        """The address of a database that no other test uses, with the password."""
        import psycopg

        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.address(name)

    def address(self, database: str) -> str:
        """How a client reaches a database."""
        return f"postgresql://zaslon:{self.password}@127.0.0.1:{self.port}/{database}"

    def kill(self) -> None:
        """Stop at once, as a crash would."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        """Stop, and remove the data."""
        self.kill()
        shutil.rmtree(self._directory)

    def _run(self, program: str, *arguments: object) -> None:
        programs = _programs()
        assert programs is not None
        libraries = [str(path) for path in UNPACKED.glob("usr/lib/*-linux-gnu*")]
        messages = self._directory / "messages"  # a pipe would stay open as long as the server
        with messages.open("ab") as file:
            done = subprocess.run(
                [programs / program, *map(str, arguments)], check=False, cwd="/", stdin=subprocess.DEVNULL,
                stdout=file, stderr=file, user=_AS_OTHER if os.geteuid() == 0 else None,
                env={"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": ":".join(libraries), "LC_ALL": "C"},
            )  # fmt: skip
        assert done.returncode == 0, f"{program} failed: {messages.read_text()[-800:]}"


def running() -> Iterator[LocalPostgres]:
    """One server, for a fixture; without the tools the test is skipped, or fails where servers are required."""
    missing = LocalPostgres.missing_tool()
    if missing and os.environ.get("ZASLON_SERVERS_REQUIRED") != "1":
        pytest.skip(f"PostgreSQL cannot be started here: {missing}")
    server = LocalPostgres()
    server.start()
    yield server
    server.remove()


def _programs() -> Path | None:
    """The directory of the server's programs: the newest that is installed, or what was unpacked."""
    for root in (Path("/"), UNPACKED):
        found = sorted(root.glob("usr/lib/postgresql/*/bin"), key=lambda path: int(path.parent.name))
        if found and (root == Path("/") or (UNPACKED / "complete").exists()):
            return found[-1]
    return None


def _fetch() -> None:
    """Download Debian's packages and unpack them; nothing is installed."""
    shutil.rmtree(UNPACKED, ignore_errors=True)
    UNPACKED.mkdir()
    done = subprocess.run(
        ["apt-get", "-q", "download", *_PACKAGES], cwd=UNPACKED, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"PostgreSQL cannot be fetched: {(done.stdout + done.stderr)[-800:]}"
    for package in UNPACKED.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, UNPACKED], check=True)
        package.unlink()
    (UNPACKED / "complete").touch()
