"""Jobs as child processes, each a group of its own that is ended as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from zaslon.adapters.process.left_processes import MARK, end_marked
from zaslon.domain.errors import SystemRefusedError
from zaslon.ports.scheduling import Ended
from zaslon.system.durable import make_private_file

_LOOK_EVERY_SECONDS = 0.2
_END_WITHIN_SECONDS = 10.0  # from SIGTERM to SIGKILL: as long as a container has


class ChildProcesses:
    """`zaslon.ports.scheduling.JobProcesses`.

    Args:
        command: what the arguments are of.
        environment: added to that of this process.
        end_within_seconds: from SIGTERM to SIGKILL.
        inherited: descriptors of files that the processes keep under the same numbers.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str],
        end_within_seconds: float = _END_WITHIN_SECONDS, inherited: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self._command, self._environment = list(command), dict(environment)
        self._end_within_seconds, self._inherited = end_within_seconds, tuple(inherited)

    def run(
        self, arguments: Sequence[str], output: Path, messages: Path, timeout_seconds: float,
        is_over: Callable[[], bool],
    ) -> Ended:  # fmt: skip
        """Run one and wait for its end."""
        for path in (output, messages):  # a sentence about a record may quote it
            make_private_file(path)
        with output.open("wb") as out, messages.open("wb") as err:
            try:
                process = subprocess.Popen(  # noqa: S603  a command of our own
                    [*self._command, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    env=os.environ | self._environment | {MARK: _mark(output)}, start_new_session=True,
                    pass_fds=self._inherited,
                )  # fmt: skip
            except OSError as error:
                raise SystemRefusedError(f"'{self._command[0]}' cannot be started: {error}.") from error
        try:
            return self._wait(process, timeout_seconds, is_over)
        finally:
            if process.poll() is None:  # an error of ours, or Ctrl-C
                self._end(process)

    def end_left(self, output: Path) -> int:
        """End what a killed scheduler has left (see the port)."""
        return end_marked(_mark(output), self._end_within_seconds)

    def _wait(
        self, process: subprocess.Popen[bytes], timeout_seconds: float, is_over: Callable[[], bool]
    ) -> Ended:
        until = time.monotonic() + timeout_seconds
        while (left := until - time.monotonic()) > 0:
            if is_over():
                self._end(process)
                return Ended(None)
            with suppress(subprocess.TimeoutExpired):
                return Ended(process.wait(min(left, _LOOK_EVERY_SECONDS)))
        self._end(process)
        return Ended(None, timed_out=True)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask the group to end, then end it. The leader is reaped last: until then nobody else gets its number."""
        _signal_group(process.pid, signal.SIGTERM)
        until = time.monotonic() + self._end_within_seconds
        while time.monotonic() < until and _is_running(process.pid):
            time.sleep(min(_LOOK_EVERY_SECONDS, self._end_within_seconds))
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _mark(output: Path) -> str:
    """No two attempts write the same file."""
    return str(output.resolve())


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _is_running(pid: int) -> bool:
    """Whether it has not ended; it is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
