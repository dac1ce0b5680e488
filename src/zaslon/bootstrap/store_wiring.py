"""What is in the relational store; its library is slow to import, and few commands need it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zaslon.ports import Ledger
from zaslon.ports.policies import PolicyVersions

if TYPE_CHECKING:
    from zaslon.adapters.relational.store import Store


def ledger_of(store: Store) -> Ledger:
    """The promotion ledger."""
    from zaslon.adapters.relational.stored_ledger import StoredLedger  # noqa: PLC0415

    return StoredLedger(store)


def policies_of(store: Store, home: Path) -> PolicyVersions:
    """The versions of the policy; the first use takes in those of the home."""
    from zaslon.adapters.relational.from_files import policies_of  # noqa: PLC0415

    return policies_of(store, home)
