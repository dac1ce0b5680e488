"""Waiting for what another thread or process does: for as long as that takes.

The deadline is for what hangs. It does not measure speed, so a busy machine fails no test.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 300.0

T = TypeVar("T")


def deadline(otherwise: Callable[[], object] = lambda: "it never happened") -> Callable[[], None]:
    """A check to be made again and again while something is awaited: it fails when that hangs."""
    end = time.monotonic() + DEADLINE_SECONDS

    def check() -> None:
        assert time.monotonic() < end, otherwise()

    return check


def until(
    found: Callable[[], T], otherwise: Callable[[], object] = lambda: "it never happened", *,
    look_seconds: float = 0.01,
) -> T:  # fmt: skip
    """The first value of `found` that is true.

    Args:
        found: looks; called again and again.
        otherwise: the message of the failure when the deadline has passed.
        look_seconds: between two looks; more where a look asks a server.
    """
    check = deadline(otherwise)
    while not (value := found()):
        check()
        time.sleep(look_seconds)
    return value


def until_ended(process: int) -> None:
    """Wait for the end of a process that may not be a child of ours; it may have ended already."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([descriptor], [], [], DEADLINE_SECONDS)
        assert ended, f"process {process} is still running"
    finally:
        os.close(descriptor)
