"""The versions of the policy in the store, for people: all of them, or the text of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zaslon.domain.errors import ArtefactError, DataError, did_you_mean
from zaslon.domain.policy_version import PolicyVersion
from zaslon.services.context import Context
from zaslon.services.home import named_champion


@dataclass(frozen=True)
class PolicyList:
    """All versions, oldest first; `serving` is the hash of the policy that the home names, None without a champion."""

    versions: Sequence[PolicyVersion]
    serving: str | None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"policies": [_described(version, self.serving) for version in self.versions]}


@dataclass(frozen=True)
class PolicyShown:
    """One version with its text."""

    version: PolicyVersion
    serving: str | None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values: `text` is what people wrote, or else the meaning."""
        version = self.version
        return {
            **_described(version, self.serving), "text": version.content, "meaning": version.meaning,
        }  # fmt: skip


def list_policies(context: Context) -> PolicyList:
    """All versions of the policy."""
    return PolicyList(context.open_policies().all(), _serving(context))


def show_policy(context: Context, policy_hash: str) -> PolicyShown:
    """The newest version of a policy.

    Raises:
        DataError: the store has none.
    """
    policies = context.open_policies()
    found = policies.of(policy_hash)
    if not found:
        known = {version.policy for version in policies.all()}
        raise DataError(
            f"There is no policy '{policy_hash}' in the store.",
            hint=did_you_mean(policy_hash, known) or "See `zaslon policy list`.",
        )
    return PolicyShown(found[-1], _serving(context))


def _serving(context: Context) -> str | None:
    try:
        return named_champion(context).policy
    except ArtefactError:
        return None


def _described(version: PolicyVersion, serving: str | None) -> dict[str, Any]:
    return {**version.to_json_dict(), "serves": version.policy == serving}
