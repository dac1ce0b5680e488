"""The key of pseudonyms in a file, made once, for its owner only."""

from __future__ import annotations

import secrets
from pathlib import Path

from zaslon.adapters.embedded.lock import one_at_a_time_in
from zaslon.domain.errors import ArtefactError
from zaslon.system.durable import settle, write_file


def find_or_make_key(path: Path) -> bytes:
    """The key; where there is none, one is made. It is on disk before this returns.

    Raises:
        ArtefactError: the file is empty.
        OSError: it cannot be read or written.
    """
    with one_at_a_time_in(path.parent):
        if not path.exists():
            write_file(path, secrets.token_hex(32).encode(), 0o600)
        settle(path.parent)  # its creator may have been killed before its name was on disk
    return find_key(path)


def find_key(path: Path) -> bytes:
    """The key, empty where there is none: that fits no state with text identifiers.

    Raises:
        ArtefactError: the file is empty: pseudonyms without a key could be guessed.
        OSError: it cannot be read.
    """
    try:
        key = path.read_text("ascii").strip().encode()
    except FileNotFoundError:
        return b""
    if not key:
        raise ArtefactError(
            f"The key of text identifiers, '{path}', is empty.",
            hint="Restore it from a backup; in a home without a log it can be removed.",
        )
    return key
