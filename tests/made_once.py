"""What is expensive to make is made by one process of a test run, and read by all of them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(temporary: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A directory that `make` has filled in this run, in whichever process; no test may change it.

    The processes of pytest-xdist have directories of their own below one of the run.
    """
    base = temporary.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    place, is_made = run / name, run / f"{name}.made"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_made.exists():
            shutil.rmtree(place, ignore_errors=True)  # of a process that failed to make it
            place.mkdir()
            make(place)
            is_made.touch()
    return place
