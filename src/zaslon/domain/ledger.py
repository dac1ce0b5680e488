"""The promotion ledger: which model, policy and catalogue served from when on, and who or what decided that.

Every entry carries the hash of the one before it, so that none can be changed, taken out or put in
without breaking the chain from there on. Entries cut off at the end leave a valid chain: whoever wants to
notice that keeps the newest hash in another place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from zaslon.domain.time import time_text

NO_HASH = "0" * 64  # what the first entry carries of the one before it
# What brought an entry about.
RUN, TRAIN, RETRAIN, PROMOTE, ROLLBACK, IMPORT = "run", "train", "retrain", "promote", "rollback", "import"
POLICY = "policy"
# Keys of an entry's evidence.
EDITED = "edited"  # of an IMPORT: the number of the change, of a policy that people edited
HOME = "home"  # which home of the store recorded it; entries of earlier versions do not say


@dataclass(frozen=True)
class Promotion:
    """What is recorded about a change of what serves.

    Attributes:
        recorded_seconds: when, in seconds since 1970.
        actor: who or what: the user of the process.
        action: RUN, TRAIN, RETRAIN, PROMOTE, ROLLBACK; POLICY for another policy with the same model; or IMPORT: a
            champion that the ledger did not have, as of a home from before it.
        model, policy, catalogue: what serves from then on.
        log, position: identity of the log, and its first record that it may decide; None where not known.
        verdict: why, in one word: `first`, `better`, `not_compared`, …
        evidence: JSON, as text: what the verdict is based on.
        approval: the second person who agreed, if one did.
    """

    recorded_seconds: int
    actor: str
    action: str
    model: str
    policy: str
    catalogue: str
    log: str | None
    position: int | None
    verdict: str
    evidence: str = "{}"
    approval: str | None = None

    @property
    def serving(self) -> tuple[str, str, str]:
        """Model, policy and catalogue."""
        return self.model, self.policy, self.catalogue


@dataclass(frozen=True)
class LedgerEntry:
    """A promotion at its place in the chain. Numbers count from 1."""

    number: int
    promotion: Promotion
    previous_hash: str
    hash: str

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, times as text."""
        fields = asdict(self.promotion)
        at = time_text(fields.pop("recorded_seconds"))
        return {"number": self.number, "at": at, **fields, "evidence": orjson.loads(self.promotion.evidence),
                "previous_hash": self.previous_hash, "hash": self.hash}  # fmt: skip


@dataclass(frozen=True)
class Broken:
    """The first entry that does not fit the chain, and why."""

    number: int
    reason: str


def next_entry(previous: LedgerEntry | None, promotion: Promotion) -> LedgerEntry:
    """The entry that follows another one; None begins the ledger.

    A clock that was set back does not reorder the ledger: no entry is older than the one before it.
    """
    number, previous_hash = (1, NO_HASH) if previous is None else (previous.number + 1, previous.hash)
    if previous is not None and promotion.recorded_seconds < previous.promotion.recorded_seconds:
        promotion = replace(promotion, recorded_seconds=previous.promotion.recorded_seconds)
    return LedgerEntry(number, promotion, previous_hash, entry_hash(number, promotion, previous_hash))


def entry_hash(number: int, promotion: Promotion, previous_hash: str) -> str:
    """SHA-256 of everything that an entry states, as JSON with sorted keys."""
    content = {**asdict(promotion), "number": number, "previous_hash": previous_hash}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def entries_that_served(entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """The entries that took effect: after a kill between ledger and home, the next one imports what served before."""
    served: list[LedgerEntry] = []
    for entry, later in zip(entries, [*entries[1:], None], strict=True):
        if later is None or not _is_undone(entry, later, served):
            served.append(entry)
    return served


def _is_undone(entry: LedgerEntry, later: LedgerEntry, served: Sequence[LedgerEntry]) -> bool:
    """Whether the entry behind another one shows that this one never took effect.

    An IMPORT names what the home named already, and an edit of the policy leaves the model.
    """
    if entry.promotion.action == IMPORT or later.promotion.action != IMPORT:
        return False
    if later.promotion.model != entry.promotion.model:
        return True
    before = served[-1].promotion.serving if served else None
    return later.promotion.serving == before and not orjson.loads(later.promotion.evidence).get(EDITED)


def first_broken(entries: Sequence[LedgerEntry]) -> Broken | None:
    """The first entry, in the order of their numbers, that breaks the chain; None for a valid one."""
    previous_hash = NO_HASH
    for number, entry in enumerate(entries, 1):
        if entry.number != number:
            return Broken(number, f"entry {number} is missing")
        if entry.previous_hash != previous_hash:
            return Broken(number, f"entry {number} does not follow the entry before it")
        if entry.hash != entry_hash(number, entry.promotion, previous_hash):
            return Broken(number, f"entry {number} was changed after it was written")
        previous_hash = entry.hash
    return None
