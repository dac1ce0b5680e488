"""Policies in the store: before they decide, for people, and for other homes.

What decides reads a policy from `policies/` of the home and never waits for the store.
"""

from __future__ import annotations

from contextlib import suppress

from zaslon.decisions.policy import Policy
from zaslon.domain.errors import ArtefactError, PolicyError
from zaslon.domain.events import Change
from zaslon.domain.policy_version import PolicyVersion
from zaslon.features.plan import plan_features
from zaslon.services.context import Context
from zaslon.services.home import keep_policy, kept_text, load_kept_policy, put_policy


def keep_version(
    context: Context, policy: Policy, content: bytes | None = None, *, by: str = "", note: str | None = None
) -> None:
    """Keep a policy in the home, for what decides, and in the store.

    Args:
        content: the file that it was made from; for None `policy.toml`, if that gives this policy.
        by: who brought it; the user of this process if not given.
        note: why, in words.

    Raises:
        ServerError: the store does not answer.
    """
    keep_policy(context, policy, content)
    text = kept_text(context, policy.hash)
    now = int(context.adapters.clock.now_seconds())
    actor = by or context.adapters.actor
    version = PolicyVersion(policy.hash, policy.label, policy.to_toml(), text, now, actor, note)
    context.open_policies().add(version)


def keep_serving_version(context: Context, named: Change) -> None:
    """The same for what the home names, which may be an edited `policy.toml` or older than the store."""
    with suppress(ArtefactError, PolicyError):  # what is damaged is replaced by what is promoted now
        policy = load_kept_policy(context, plan_features(context.catalogue), named.policy)
        keep_version(context, policy, by=named.by, note=named.reason or None)


def fetch_policy(context: Context, policy_hash: str) -> None:
    """Bring a policy from the store into the home, as people wrote it, if the store has it."""
    for version in context.open_policies().of(policy_hash)[-1:]:
        put_policy(context, version)
