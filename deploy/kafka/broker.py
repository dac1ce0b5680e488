#!/usr/bin/env python3
"""A real Apache Kafka broker on loopback, without containers: TLS, SCRAM users, ACLs.

    python deploy/kafka/broker.py start|stop|kill|status|remove [DIRECTORY] [--fast-start]

`start` fetches the jars by Maven (once, into DIRECTORY/libs), makes an authority with a certificate,
passwords and free ports (once, kept in DIRECTORY), starts the broker, waits until it serves, sets up
users and ACLs, and writes DIRECTORY/admin.env, producer.env, scorer.env, gateway.env and viewer.env: the settings
with which Zaslon reaches it as that user. Needed: Java 17 and Maven. DIRECTORY is `.kafka` if not named.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
USERS = ("admin", "producer", "scorer", "gateway", "viewer")
READY, READY_SECONDS_MAX, STOP_SECONDS_MAX = "Kafka Server started", 60, 30
# A short life is mostly loading classes. A long one wants room that is there from the start, so that
# the collector seldom stops the broker, and then for a few ms only.
_JVM_FAST_START = ("-Xms128m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_JVM = ("-Xms1g", "-Xmx1g", "-Xmn384m", "-XX:+UseG1GC", "-XX:+AlwaysPreTouch", "-Xshare:auto")


class BrokerError(Exception):
    """The broker cannot be fetched or started; the text names the cause."""


class LocalBroker:
    """One broker with all that it needs, in a directory.

    Args:
        directory: made if it is missing; holds secrets, so only its owner may read it.
        libs: where the jars are or go; in the directory if not named.
        fast_start: for tests; without it the broker is slower at first and faster later.
    """

    def __init__(self, directory: Path, *, libs: Path | None = None, fast_start: bool = True) -> None:
        self.directory = directory.resolve()
        self.libs = libs or self.directory / "libs"
        self._jvm = _JVM_FAST_START if fast_start else _JVM

    @staticmethod
    def missing_tool() -> str | None:
        """Why a broker cannot be started on this machine; None if it can."""
        for tool in ("java", "mvn", "openssl"):
            if shutil.which(tool) is None:
                return f"a broker needs `{tool}`, which is not on the PATH"
        return None

    @property
    def pid(self) -> int | None:
        """Process id of the running broker."""
        try:
            pid = int((self.directory / "pid").read_text())
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if b"kafka.Kafka" in name else None

    def start(self) -> None:
        """Fetch, prepare, start, wait until it serves, set up users and ACLs. Again: nothing to do."""
        if self.pid is not None:
            return
        missing = self.missing_tool()
        if missing:
            raise BrokerError(missing)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fetch()
        is_new = not (self.directory / "data" / "meta.properties").exists()
        if is_new:
            self._prepare()
        self._run()
        if is_new:
            self._set_up_access()

    def stop(self) -> None:
        """Shut down in good order."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        if not self._is_gone(pid, STOP_SECONDS_MAX):
            self.kill()

    def kill(self) -> None:
        """`kill -9`."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self._is_gone(pid, STOP_SECONDS_MAX)

    def environment(self, user: str) -> dict[str, str]:
        """The settings with which a user reaches this broker; the password stays in its file."""
        return {
            "ZASLON_KAFKA_SERVERS": f"127.0.0.1:{self._ports()[0]}",
            "ZASLON_KAFKA_USER": user,
            "ZASLON_KAFKA_PASSWORD_FILE": str(self.directory / "secrets" / user),
            "ZASLON_KAFKA_CA_FILE": str(self.directory / "tls" / "ca.crt"),
        }

    def cpu_seconds(self) -> float:
        """Processor time of the broker until now."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _fetch(self) -> None:
        if (self.libs / "complete").exists():
            return
        print("Fetching Apache Kafka by Maven (45 MB, once).", file=sys.stderr)
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={self.libs}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise BrokerError(f"Maven could not fetch Kafka: {(done.stdout + done.stderr)[-800:]}")
        (self.libs / "complete").touch()

    def _prepare(self) -> None:
        """Passwords, certificates, ports, an empty log."""
        place = self.directory / "secrets"
        place.mkdir(exist_ok=True, mode=0o700)
        for user in ("broker", *USERS):
            descriptor = os.open(place / user, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        subprocess.run(["sh", str(HERE / "certificates.sh"), str(self.directory / "tls")], check=True)
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            second.bind(("127.0.0.1", 0))
            ports = [first.getsockname()[1], second.getsockname()[1]]
        (self.directory / "ports.json").write_text(json.dumps(ports))
        self._write_properties()
        for user in USERS:
            lines = [f"{name}={value}\n" for name, value in self.environment(user).items()]
            (self.directory / f"{user}.env").write_text("".join(lines))
        self._format()

    def _ports(self) -> tuple[int, int]:
        port, controller_port = json.loads((self.directory / "ports.json").read_text())
        return port, controller_port

    def _secret(self, user: str) -> str:
        return (self.directory / "secrets" / user).read_text()

    def _write_properties(self) -> None:
        text = (HERE / "server.properties").read_text()
        port, controller_port = self._ports()
        for name, value in (
            ("PORT", port), ("CONTROLLER_PORT", controller_port), ("DIRECTORY", self.directory),
            ("BROKER_PASSWORD", self._secret("broker")),
        ):  # fmt: skip
            text = text.replace(f"@{name}@", str(value))
        path = self.directory / "server.properties"
        path.touch(mode=0o600)
        path.write_text(text)

    def _java(self, program: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        return ["java", *self._jvm, logging, "-cp", f"{self.libs}/*", program]

    def _format(self) -> None:
        """An empty log that knows the broker and its admin; their passwords are in no command line."""
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*self._java("kafka.tools.StorageTool")[1:], "format", f"--cluster-id={cluster}"]
        command += ["-c", str(self.directory / "server.properties")]
        for user in ("broker", "admin"):
            command += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={self._secret(user)}]"]
        arguments = self.directory / "secrets" / "format.arguments"
        arguments.write_text("\n".join(json.dumps(word) for word in command))
        done = subprocess.run(
            ["java", f"@{arguments}"],
            stdout=subprocess.DEVNULL,  # it prints salts and stored keys
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        arguments.unlink()
        if done.returncode:
            raise BrokerError(f"Kafka's storage could not be made: {done.stderr[-800:]}")

    def _run(self) -> None:
        log = self.directory / "broker.log"
        with log.open("wb") as out:  # emptied: an old line would read as ready
            process = subprocess.Popen(
                [*self._java("kafka.Kafka"), str(self.directory / "server.properties")],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        (self.directory / "pid").write_text(str(process.pid))
        end = time.monotonic() + READY_SECONDS_MAX
        while READY not in log.read_text(errors="replace"):  # the port opens earlier
            if process.poll() is not None or time.monotonic() > end:
                raise BrokerError(f"Kafka did not start: {log.read_text(errors='replace')[-800:]}")
            time.sleep(0.05)

    def _set_up_access(self) -> None:
        subprocess.run(
            [sys.executable, str(HERE / "access.py"), str(self.directory / "secrets")],
            env={**os.environ, **self.environment("admin")}, check=True,
        )  # fmt: skip

    @staticmethod
    def _is_gone(pid: int, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return True
            except ChildProcessError:  # started by another process
                if not Path(f"/proc/{pid}").exists():
                    return True
            time.sleep(0.02)
        return False


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=("start", "stop", "kill", "status", "remove"))
    parser.add_argument("directory", type=Path, nargs="?", default=Path(".kafka"))
    parser.add_argument("--fast-start", action="store_true", help="for short lives")
    given = parser.parse_args()
    broker = LocalBroker(given.directory, fast_start=given.fast_start)
    try:
        if given.command == "status":
            print("stopped" if broker.pid is None else f"running, process {broker.pid}")
        elif given.command == "remove":
            broker.stop()
            shutil.rmtree(broker.directory, ignore_errors=True)
        else:
            getattr(broker, given.command)()
    except BrokerError as error:
        raise SystemExit(str(error)) from error
    if given.command == "start":
        print(f"{broker.environment('admin')['ZASLON_KAFKA_SERVERS']}  settings: {broker.directory}/*.env")


if __name__ == "__main__":
    main()
