"""One process at a time in a home: locks on files, which the system releases when a process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zaslon.domain.errors import BusyError
from zaslon.system.durable import make_private_file


@contextmanager
def exclusive_in(lock: Path) -> Iterator[None]:
    """Keep other processes out while the block runs. A killed process leaves no lock.

    A child that inherits what can be inherited (`close_fds=False`) keeps them out too, until its own end.

    Raises:
        BusyError: another process is inside.
    """
    with make_private_file(lock).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise BusyError(
                f"'{lock.parent}' is in use by process {file.read(20).strip() or 'unknown'}.",
                hint="Wait until it is done, or name another home with --home.",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        os.set_inheritable(file.fileno(), True)
        yield


@contextmanager
def one_at_a_time_in(directory: Path) -> Iterator[None]:
    """Wait until no other thread or process is in such a block, for a change of one of its files.

    It has nothing to do with `exclusive_in`: the directory may be in use by a service.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
