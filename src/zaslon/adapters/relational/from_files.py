"""What homes kept in files before there was a store."""

from __future__ import annotations

from pathlib import Path

import orjson

from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.stored_api_keys import add_missing
from zaslon.domain.api_keys import ApiKey, Role
from zaslon.domain.errors import ArtefactError
from zaslon.system.durable import sync_directory


def take_key_file(store: Store, path: Path) -> int:
    """Move the keys of a `keys.json` into the store; returns how many the file had.

    The file goes once they are durable there: after a crash they are moved again, which changes nothing.

    Raises:
        ArtefactError: the file is damaged. A part of the keys must not grant access.
        ZaslonError: the store cannot be used.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return 0
    try:
        keys = [ApiKey(**{**key, "role": Role(key["role"])}) for key in orjson.loads(content)["keys"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"'{path}' is damaged: {error}.", hint="Restore it from a backup.") from error
    with store.writing() as connection:
        add_missing(connection, keys)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
    return len(keys)
