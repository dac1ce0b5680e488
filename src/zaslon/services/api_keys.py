"""Keys of the service: who may call what. Only hashes are kept; a key is shown once.

A key is `zaslon_<id>_<secret>`. The secret has 256 random bits, so a plain SHA-256 protects it as
well as a slow hash would protect a password, and costs nothing per request.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from zaslon.domain.errors import ArtefactError, DataError, ZaslonError
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, parse_duration_seconds, time_text
from zaslon.system.durable import make_directory, write_file

FILE = "keys.json"
_KEY = re.compile(r"zaslon_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME_CHARACTERS_MAX = 100
_NO_HASH = "0" * 64


class Role(StrEnum):
    """What a key may do; each may also do what those before it may."""

    SCORER = "scorer"  # decide transactions, read a decision by its id
    ANALYST = "analyst"  # also list decisions, send labels, read model and policy
    ADMIN = "admin"  # everything

    def may_act_as(self, other: Role) -> bool:
        """Whether this role includes another."""
        return _RANKS[self] >= _RANKS[other]


_RANKS = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True)
class Key:
    """What is kept of a key. Times are seconds since 1970, None for never."""

    id: str
    name: str
    role: Role
    hash: str
    created_seconds: int
    expires_seconds: int | None = None
    revoked_seconds: int | None = None

    def is_valid(self, now_seconds: float) -> bool:
        """Whether it opens anything at a moment."""
        is_expired = self.expires_seconds is not None and now_seconds >= self.expires_seconds
        return self.revoked_seconds is None and not is_expired

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values for people: without the hash."""
        shown = asdict(self)
        del shown["hash"]
        for name in ("created", "expires", "revoked"):
            seconds = shown.pop(f"{name}_seconds")
            shown[name] = None if seconds is None else time_text(seconds)
        return shown


@dataclass(frozen=True)
class CreatedKey:
    """A new key with its secret, which nobody can see again."""

    key: Key
    secret: str

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, with the key itself."""
        return {**self.key.to_json_dict(), "key": self.secret}


def create_key(home: Path, role: str, name: str, lasts: str | None, now_seconds: float) -> CreatedKey:
    """Make a key and keep its hash.

    Raises:
        ZaslonError: there is no such role, or the duration or name cannot be used.
    """
    if role not in list(Role):
        raise ZaslonError(f"'{role}' is no role.", hint=f"Use {', '.join(Role)}.")
    if len(name) > _NAME_CHARACTERS_MAX or not name.isprintable():
        raise ZaslonError(f"A key's name has at most {_NAME_CHARACTERS_MAX} printable characters.")
    identifier, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    expires = None if lasts is None else _expiry(lasts, int(now_seconds))
    key = Key(identifier, name, Role(role), _hash(secret), int(now_seconds), expires)
    make_directory(home)
    with _exclusive_keys(home):
        _write(home, [*list_keys(home), key])
    return CreatedKey(key, f"zaslon_{identifier}_{secret}")


def _expiry(lasts: str, now_seconds: int) -> int:
    expires = now_seconds + parse_duration_seconds(lasts)
    if not now_seconds < expires <= EVENT_TIME_SECONDS_MAX:
        raise ZaslonError(
            f"A key cannot last '{lasts}': it would have expired already, or expire after 2106.",
            hint="Leave --lasts out for a key that is valid until it is revoked.",
        )
    return expires


def revoke_key(home: Path, identifier: str, now_seconds: float) -> Key:
    """Close a key permanently; a running service knows within a second.

    Raises:
        DataError: there is no such key.
    """
    if all(key.id != identifier for key in list_keys(home)):
        raise DataError(f"There is no key '{identifier}'.", hint="See `zaslon keys list`.")
    with _exclusive_keys(home):
        keys = {key.id: key for key in list_keys(home)}
        key = keys[identifier]
        keys[identifier] = key if key.revoked_seconds else replace(key, revoked_seconds=int(now_seconds))
        _write(home, [*keys.values()])
    return keys[identifier]


def list_keys(home: Path) -> list[Key]:
    """All keys, also closed ones, oldest first.

    Raises:
        ArtefactError: the file is damaged.
    """
    path = home / FILE
    if not path.exists():
        return []
    try:
        kept = orjson.loads(path.read_bytes())
        return [Key(**{**key, "role": Role(key["role"])}) for key in kept["keys"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"'{path}' is damaged: {error}.", hint="Restore it from a backup.") from error


@contextmanager
def _exclusive_keys(home: Path) -> Iterator[None]:
    """One change at a time, or one of two would be lost. The home itself may be in use by a service."""
    directory = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _write(home: Path, keys: list[Key]) -> None:
    content = orjson.dumps({"format": 1, "keys": [asdict(key) for key in keys]}, option=orjson.OPT_INDENT_2)
    write_file(home / FILE, content, 0o600)  # the hashes are for their owner only


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """The keys as a running service sees them: read again when their file changes.

    Args:
        home: where they are kept.
        now_seconds: the time of day.
    """

    def __init__(self, home: Path, now_seconds: Callable[[], float]) -> None:
        self._home, self._now_seconds = home, now_seconds
        self._looked_seconds = -1.0
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}

    def __len__(self) -> int:
        """How many keys are valid now."""
        self._look()
        return sum(key.is_valid(self._now_seconds()) for key in self._keys.values())

    def find(self, text: str) -> Key | None:
        """The valid key that a caller shows, or None. Takes the same time for unknown ids."""
        self._look()
        parts = _KEY.fullmatch(text)
        identifier, secret = (parts[1], parts[2]) if parts else ("", "")
        key = self._keys.get(identifier)
        is_right = hmac.compare_digest(_hash(secret), key.hash if key else _NO_HASH)
        return key if key is not None and is_right and key.is_valid(self._now_seconds()) else None

    def _look(self) -> None:
        """Read the file if it changed; look at most once a second."""
        now = self._now_seconds()
        if 0 <= now - self._looked_seconds < 1:
            return
        self._looked_seconds = now
        try:
            found = (self._home / FILE).stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
            return
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._keys = {key.id: key for key in list_keys(self._home)}
            self._stamp = stamp
