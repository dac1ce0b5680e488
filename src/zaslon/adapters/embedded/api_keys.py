"""Keys of the service in one JSON file, for its owner only."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import orjson

from zaslon.adapters.embedded.lock import one_at_a_time_in
from zaslon.domain.api_keys import ApiKey, Role
from zaslon.domain.errors import ArtefactError
from zaslon.system.durable import make_directory, write_file

_FORMAT = 1


class FileApiKeys:
    """`zaslon.ports.ApiKeys` in a file; other processes may change it at the same time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def version(self) -> object:
        """Changes whenever the file does (see the port)."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino

    def all(self) -> list[ApiKey]:
        """All keys, oldest first (see the port)."""
        if not self._path.exists():
            return []
        try:
            kept = orjson.loads(self._path.read_bytes())
            return [ApiKey(**{**key, "role": Role(key["role"])}) for key in kept["keys"]]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ArtefactError(
                f"'{self._path}' is damaged: {error}.", hint="Restore it from a backup."
            ) from error

    def add(self, key: ApiKey) -> None:
        """Keep a new key (see the port)."""
        make_directory(self._path.parent)
        with one_at_a_time_in(self._path.parent):
            self._write([*self.all(), key])

    def revoke(self, identifier: str, now_seconds: int) -> ApiKey | None:
        """Close a key permanently (see the port)."""
        if not self._path.exists():
            return None
        with one_at_a_time_in(self._path.parent):
            keys = {key.id: key for key in self.all()}
            found = keys.get(identifier)
            if found is None or found.revoked_seconds is not None:
                return found
            keys[identifier] = replace(found, revoked_seconds=now_seconds)
            self._write([*keys.values()])
        return keys[identifier]

    def _write(self, keys: list[ApiKey]) -> None:
        content = {"format": _FORMAT, "keys": [asdict(key) for key in keys]}
        write_file(self._path, orjson.dumps(content, option=orjson.OPT_INDENT_2), 0o600)
