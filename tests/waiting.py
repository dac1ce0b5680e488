"""Waiting for what another thread or process does: for as long as that takes.

The deadline is for what hangs. It says nothing about speed, so that a busy machine fails no test.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 300.0
_LOOK_SECONDS = 0.01

T = TypeVar("T")


def until(found: Callable[[], T], otherwise: Callable[[], object] = lambda: "it never happened") -> T:
    """The first value of `found` that is true.

    Args:
        found: looks; called again and again.
        otherwise: what the failure says when the deadline has passed.
    """
    end = time.monotonic() + DEADLINE_SECONDS
    while not (value := found()):
        assert time.monotonic() < end, otherwise()
        time.sleep(_LOOK_SECONDS)
    return value


def until_ended(process: int) -> None:
    """Wait for the end of a process that may not be a child of ours; it may have ended already."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([descriptor], [], [], DEADLINE_SECONDS)
        assert ended, f"process {process} goes on"
    finally:
        os.close(descriptor)
