"""Keys of the service: who may call what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from zaslon.domain.time import time_text


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
class ApiKey:
    """What is kept of a key: the hash of its secret. Times are seconds since 1970, None for never."""

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
        fields = asdict(self)
        del fields["hash"]
        for name in ("created", "expires", "revoked"):
            seconds = fields.pop(f"{name}_seconds")
            fields[name] = None if seconds is None else time_text(seconds)
        return fields
