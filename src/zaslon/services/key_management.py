"""Making, revoking and checking keys of the service. Only hashes are kept; a secret is printed once.

A key is `zaslon_<id>_<secret>`. The secret has 256 random bits, so a plain SHA-256 protects it as
well as a slow hash would protect a password, and costs nothing per request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zaslon.domain.api_keys import ApiKey, Role
from zaslon.domain.errors import DataError, ZaslonError
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, parse_duration_seconds
from zaslon.ports import ApiKeys
from zaslon.system.periodic import Periodic

_KEY = re.compile(r"zaslon_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME_CHARACTERS_MAX = 100
_NO_HASH = "0" * 64
_LOOK_SECONDS = 1.0  # between two looks whether the keys have changed


@dataclass(frozen=True)
class CreatedKey:
    """A new key with its secret, which cannot be seen again."""

    key: ApiKey
    secret: str

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, with the key itself."""
        return {**self.key.to_json_dict(), "key": self.secret}


def create_key(keys: ApiKeys, role: str, name: str, lasts: str | None, now_seconds: float) -> CreatedKey:
    """Make a key and keep its hash.

    Raises:
        ZaslonError: the role is unknown, or the duration or name cannot be used.
    """
    if role not in list(Role):
        raise ZaslonError(f"'{role}' is not a role.", hint=f"Use {', '.join(Role)}.")
    if len(name) > _NAME_CHARACTERS_MAX or not name.isprintable():
        raise ZaslonError(f"A key's name has at most {_NAME_CHARACTERS_MAX} printable characters.")
    identifier, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    expires = None if lasts is None else _expiry(lasts, int(now_seconds))
    key = ApiKey(identifier, name, Role(role), _hash(secret), int(now_seconds), expires)
    keys.add(key)
    return CreatedKey(key, f"zaslon_{identifier}_{secret}")


def _expiry(lasts: str, now_seconds: int) -> int:
    expires = now_seconds + parse_duration_seconds(lasts)
    if not now_seconds < expires <= EVENT_TIME_SECONDS_MAX:
        raise ZaslonError(
            f"A key cannot last '{lasts}': it would have expired already, or expire after 2106.",
            hint="Leave --lasts out for a key that is valid until it is revoked.",
        )
    return expires


def revoke_key(keys: ApiKeys, identifier: str, now_seconds: float) -> ApiKey:
    """Close a key permanently; a running service knows within a second.

    Raises:
        DataError: there is no such key.
    """
    revoked = keys.revoke(identifier, int(now_seconds))
    if revoked is None:
        raise DataError(f"There is no key '{identifier}'.", hint="See `zaslon keys list`.")
    return revoked


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """The keys as a running service sees them: in memory, so that no call waits for the store.

    Args:
        keys: where they are kept.
        now_seconds: the time of day.

    Raises:
        ZaslonError: they cannot be read.
    """

    def __init__(self, keys: ApiKeys, now_seconds: Callable[[], float]) -> None:
        self._kept, self._now_seconds = keys, now_seconds
        self._version: object = None
        self._is_unreadable = False
        self._keys: dict[str, ApiKey] = {}
        self.refresh()

    def __len__(self) -> int:
        """How many keys are valid now."""
        return sum(key.is_valid(self._now_seconds()) for key in self._keys.values())

    def find(self, text: str) -> ApiKey | None:
        """The valid key that a caller shows, or None. Takes the same time for unknown ids."""
        parts = _KEY.fullmatch(text)
        identifier, secret = (parts[1], parts[2]) if parts else ("", "")
        key = self._keys.get(identifier)
        is_right = hmac.compare_digest(_hash(secret), key.hash if key else _NO_HASH)
        return key if key is not None and is_right and key.is_valid(self._now_seconds()) else None

    def refresh(self) -> None:
        """Read the keys again if they have changed.

        Raises:
            ZaslonError: they cannot be read; those read before stay.
        """
        version = self._kept.version
        if version != self._version:
            self._keys = {key.id: key for key in self._kept.all()}
            self._version = version

    def watched(self, warn: Callable[[str], None]) -> Periodic:
        """Refresh once a second, until it is closed.

        While the store cannot be read, the keys stay as they were, and people are warned once.
        """
        return Periodic(lambda: self._refresh_or_warn(warn), _LOOK_SECONDS, "keys")

    def _refresh_or_warn(self, warn: Callable[[str], None]) -> None:
        try:
            self.refresh()
        except ZaslonError as error:
            if not self._is_unreadable:
                warn(f"Keys that are created or revoked now are not noticed. {error}")
            self._is_unreadable = True
        else:
            if self._is_unreadable:
                warn("The keys can be read again.")
            self._is_unreadable = False
