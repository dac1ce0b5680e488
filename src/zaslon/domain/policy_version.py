"""A version of the policy, as the store keeps it: what people wrote, and what it means."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from zaslon.domain.time import time_text


@dataclass(frozen=True)
class PolicyVersion:
    """A policy with the text that it was made from. Equal content is one version, whoever brings it again.

    Attributes:
        policy: the hash of its meaning, by which the ledger and decisions name it.
        label: `name@version (hash)`, for people.
        meaning: TOML of everything that it means, thresholds too.
        text: what people wrote, which may leave thresholds to training; None where nobody wrote this policy.
        recorded_seconds: when it came, in seconds since 1970.
        actor: who or what brought it.
        note: why, in words.
    """

    policy: str
    label: str
    meaning: str
    text: str | None
    recorded_seconds: int
    actor: str
    note: str | None = None

    @property
    def content(self) -> str:
        """What people read: their own text where there is one."""
        return self.meaning if self.text is None else self.text

    @property
    def content_hash(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content.encode()).hexdigest()

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, times as text; without the content."""
        return {
            "policy": self.policy, "label": self.label, "at": time_text(self.recorded_seconds),
            "actor": self.actor, "note": self.note, "written": self.text is not None,
            "content_hash": self.content_hash,
        }  # fmt: skip
