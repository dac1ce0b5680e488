"""What homes kept in files before there was a store."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import orjson

from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.stored_api_keys import add_missing
from zaslon.adapters.relational.stored_ledger import StoredLedger
from zaslon.adapters.relational.stored_policies import StoredPolicies
from zaslon.domain.api_keys import ApiKey, Role
from zaslon.domain.errors import ArtefactError
from zaslon.domain.ledger import Promotion
from zaslon.domain.policy_version import PolicyVersion
from zaslon.system.durable import sync_directory


def take_files(store: Store, home: Path) -> tuple[int, int]:
    """Take in keys and policies; returns how many there were of each. Raises as the two do."""
    return take_key_file(store, home), take_policy_files(store, home)


def take_key_file(store: Store, home: Path) -> int:
    """Move the keys of a home's `keys.json` into the store; returns how many the file had.

    The file goes once they are durable there: after a crash they are moved again, which changes nothing.

    Raises:
        ArtefactError: the file is damaged. A part of the keys must not grant access.
        ZaslonError: the store cannot be used.
    """
    path = home / "keys.json"
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


def policies_of(store: Store, home: Path) -> StoredPolicies:
    """The policies in the store. Its first use takes in those that the home has from before."""
    kept = StoredPolicies(store)
    if (home / "policies").is_dir() and not kept.all():
        take_policy_files(store, home)
    return kept


def take_policy_files(store: Store, home: Path) -> int:
    """Copy the policies of a home that the ledger names into the store; returns how many were new.

    The files stay: what decides reads them. Damaged ones are left out.

    Raises:
        ZaslonError: the store cannot be used.
    """
    kept, taken = StoredPolicies(store), 0
    known = {version.policy for version in kept.all()}
    for entry in StoredLedger(store).entries():
        promotion = entry.promotion
        if promotion.policy not in known:
            known.add(promotion.policy)
            version = _policy_version(home / "policies", promotion)
            if version is not None:
                kept.add(version)
                taken += 1
    return taken


def _policy_version(directory: Path, promotion: Promotion) -> PolicyVersion | None:
    """A policy as its first promotion found it."""
    policy = promotion.policy
    meaning, written = directory / f"{policy}.toml", directory / "written" / f"{policy}.toml"
    try:
        text = written.read_bytes().decode() if written.exists() else None
        content = tomllib.loads(meaning.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    label = f"{content.get('name', 'default')}@{content.get('version', 1)} ({policy})"
    evidence: dict[str, Any] = orjson.loads(promotion.evidence)
    return PolicyVersion(
        policy, label, meaning.read_text("utf-8"), text, promotion.recorded_seconds, promotion.actor,
        evidence.get("why"),
    )  # fmt: skip
