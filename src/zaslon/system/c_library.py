"""What the C library can do and Python does not offer: the only module that calls C directly."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def exchange_names(one: Path, other: Path) -> bool:
    """Let two files or directories swap their names in one step (renameat2, Linux 3.15).

    False where the system or the file system cannot; then nothing has changed.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    done = function(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(done == 0)


def return_freed_memory() -> None:
    """Give freed memory back to the system: glibc would keep a gigabyte of it after a large sample."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
