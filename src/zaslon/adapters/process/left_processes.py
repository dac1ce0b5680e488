"""Processes whose parent was killed, found by the mark that they were started with.

A mark is a variable of the environment, which every child inherits. A number would not do: that of a process may be
another one's by now, and children outlive the leader of their group. Linux shows in /proc with which environment a process
has begun; on other systems nothing is found.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from zaslon.domain.errors import SystemRefusedError

MARK = "ZASLON_ATTEMPT_OUTPUT"
_GONE_WITHIN_SECONDS = 60.0  # after SIGKILL: a busy system takes its time to free the memory


def end_marked(mark: str, within_seconds: float) -> int:
    """Ask the processes with a mark to end, and end them if they do not; returns how many there were.

    Args:
        within_seconds: from SIGTERM to SIGKILL.

    Raises:
        SystemRefusedError: some are still there a minute later.
    """
    count = _signalled(mark, signal.SIGTERM, within_seconds)
    until = time.monotonic() + _GONE_WITHIN_SECONDS
    while _signalled(
        mark, signal.SIGKILL, _GONE_WITHIN_SECONDS
    ):  # again for those that had started meanwhile
        if time.monotonic() > until:
            raise SystemRefusedError(
                f"Processes that write '{mark}' do not end.", hint="End them, then start again."
            )
    return count


def _signalled(mark: str, number: int, within_seconds: float) -> int:
    """Signal all that there are now, and wait for their end; how many there were."""
    until = time.monotonic() + within_seconds
    with ExitStack() as stack:
        ends = select.poll()
        found = left = 0
        for process in _marked(mark):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                handle = os.pidfd_open(process)
                stack.callback(os.close, handle)
                if not _has(process, mark):  # the number is another one's since
                    continue
                signal.pidfd_send_signal(handle, number)
                ends.register(handle, select.POLLIN)
                found, left = found + 1, left + 1
        while left and (wait_seconds := until - time.monotonic()) > 0:
            for handle, _ in ends.poll(wait_seconds * 1000):
                ends.unregister(handle)
                left -= 1
    return found


def _marked(mark: str) -> list[int]:
    numbers = [int(place.name) for place in Path("/proc").glob("[0-9]*")]
    return [number for number in numbers if _has(number, mark)]


def _has(process: int, mark: str) -> bool:
    wanted = os.fsencode(f"{MARK}={mark}")
    with suppress(OSError):  # ended, or another user's
        return wanted in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return False
