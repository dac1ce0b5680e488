"""The port of the policies: their versions, for people."""

from __future__ import annotations

from typing import Protocol

from zaslon.domain.policy_version import PolicyVersion


class PolicyVersions(Protocol):
    """The versions of the policy: they are added, none is ever changed or removed.

    What decides never asks for them. Every method raises a ZaslonError where the store cannot be used: a ServerError
    where it is a server's.
    """

    def add(self, version: PolicyVersion) -> None:
        """Keep a version, durable on return; one with the policy and content of another changes nothing.

        Nor does one that nobody wrote, where there is a version of that policy.
        """

    def all(self) -> list[PolicyVersion]:
        """All versions, oldest first."""

    def of(self, policy: str) -> list[PolicyVersion]:
        """The versions of the policy with this hash, oldest first."""
