"""Processes of jobs: ended as a whole group, and alerts that reach a real webhook and a real program."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from tests.webhook import Webhook, listening

from zaslon.adapters.process.alerts import AlertHooks
from zaslon.adapters.process.job_process import ChildProcesses
from zaslon.domain.errors import ServerError, SystemRefusedError
from zaslon.ports.scheduling import Ended

PYTHON = [sys.executable, "-IS", "-c"]
# A process that ignores SIGTERM, with a child that does too.
STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    print("ready", flush=True)
while True:
    signal.pause()
"""


def run(
    place: Path, text: str, *, seconds: float = 60, end_within: float = 60, over: bool = False
) -> tuple[Ended, str, str]:
    processes = ChildProcesses([*PYTHON, text], {"ADDED": "yes"}, end_within)
    ended = processes.run(["given"], place / "out", place / "err", seconds, lambda: over)
    return ended, (place / "out").read_text(), (place / "err").read_text()


def test_a_process_ends_with_its_code_and_output(tmp_path: Path) -> None:
    text = (
        "import os, sys; print(sys.argv[1], os.environ['ADDED']); print('why', file=sys.stderr); sys.exit(7)"
    )
    assert run(tmp_path, text) == (Ended(7), "given yes\n", "why\n")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out", tmp_path / "err")} == {0o600}


def test_a_timeout_ends_a_process(tmp_path: Path) -> None:
    ended, _, _ = run(tmp_path, "import time; time.sleep(600)", seconds=0.05)
    assert ended == Ended(None, timed_out=True)


@pytest.mark.parametrize("by_timeout", [True, False])
def test_a_process_is_ended_with_its_whole_group(tmp_path: Path, by_timeout: bool) -> None:
    gone, held = os.pipe()
    # The shell opens the pipe again: whoever has it belongs to the group.
    shell = ["/bin/sh", "-c", f'exec "$0" "$@" 9>/proc/{os.getpid()}/fd/{held}']
    processes = ChildProcesses([*shell, *PYTHON, STUBBORN], {}, end_within_seconds=0.05)
    out = tmp_path / "out"
    ended = processes.run(
        [], out, tmp_path / "err", 3.0 if by_timeout else 60.0,
        lambda: not by_timeout and out.read_text() == "ready\n",
    )  # fmt: skip
    assert ended == Ended(None, timed_out=by_timeout)
    os.close(held)
    assert os.read(gone, 1) == b""  # the end of the file: parent and child are gone
    os.close(gone)


def test_an_end_of_the_schedule_ends_its_jobs(tmp_path: Path) -> None:
    ended, _, _ = run(tmp_path, "import time; time.sleep(600)", over=True)
    assert ended == Ended(None)


def test_a_command_that_cannot_be_started_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemRefusedError, match="cannot be started"):
        ChildProcesses([str(tmp_path / "none")], {}).run([], tmp_path / "o", tmp_path / "e", 1, lambda: False)


@pytest.fixture
def webhook(request: pytest.FixtureRequest) -> Iterator[Webhook]:
    with listening(getattr(request, "param", 200)) as server:
        yield server


def test_an_alert_reaches_webhook_and_program(tmp_path: Path, webhook: Webhook) -> None:
    program = tmp_path / "tell"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/told\n")
    program.chmod(0o755)
    AlertHooks(webhook.url, program).send({"text": "It failed."})
    assert webhook.bodies == [b'{"text":"It failed."}']
    assert (tmp_path / "told").read_bytes() == b'{"text":"It failed."}'


@pytest.mark.parametrize("webhook", [500], indirect=True)
def test_a_webhook_that_fails_is_named_without_its_secret(webhook: Webhook) -> None:
    with pytest.raises(ServerError) as raised:
        AlertHooks(webhook.url, None).send({"text": "It failed."})
    assert "500" in str(raised.value)
    assert "secret-token" not in str(raised.value)


def test_a_failing_program_does_not_keep_the_webhook_from_it(tmp_path: Path, webhook: Webhook) -> None:
    with pytest.raises(ServerError, match="No such file"):
        AlertHooks(webhook.url, tmp_path / "none").send({"text": "It failed."})
    assert len(webhook.bodies) == 1


def test_a_webhook_that_does_not_speak_http_is_a_failed_alert() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"garbage\r\n\r\n")

        answering = Thread(target=answer)
        answering.start()
        hooks = AlertHooks(f"http://127.0.0.1:{server.getsockname()[1]}/", None)
        with pytest.raises(ServerError, match="did not arrive"):
            hooks.send({"text": "It failed."})
        answering.join()
