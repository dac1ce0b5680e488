"""An SQLite file of a home: opened for its owner only, and its errors as sentences."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zaslon.domain.errors import SystemRefusedError
from zaslon.system.durable import make_directory, make_private_file

BUSY_MS = 5_000  # how long another process's transaction is waited for


def open_file(path: Path, *, read_only: bool = False, **options: Any) -> sqlite3.Connection:
    """A connection without transactions of its own; the file and its directory are made if they are to be written.

    Args:
        path: the file.
        read_only: for those who only look: nothing is made.
        options: of `sqlite3.connect`.

    Raises:
        sqlite3.Error, OSError: it cannot be opened.
    """
    if not read_only:
        make_directory(path.parent)
        make_private_file(path)
    address = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection: sqlite3.Connection = sqlite3.connect(address, uri=True, isolation_level=None, **options)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return connection


@contextmanager
def copy_explained(what: str, path: Path) -> Iterator[None]:
    """Errors of a file that holds only what can be copied or computed again.

    Raises:
        SystemRefusedError: with `what` it is.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise SystemRefusedError(
            f"{what} '{path}' cannot be used: {error}.",
            hint="Look at the free space and the permissions there; it may be deleted.",
        ) from error
