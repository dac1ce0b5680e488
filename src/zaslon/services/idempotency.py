"""Repeats: what of a group the log has already, so that the same call again changes nothing.

The engine knows the ids of the last weeks; the log knows all of them, and the answer that was
given. A repeat with the same content is answered from the log and not recorded again; one with
other content is recorded as a rejection.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from zaslon.domain.events import Kind, RecordBatch, TransactionId, Transactions, public_ids
from zaslon.engine import Engine
from zaslon.intake import Cleaned
from zaslon.ports import Journal, Outcomes

_DECISION = b'{"outcome":"decision"'


@dataclass
class Idempotency:
    """By record of a group, what is known of it.

    Attributes:
        recorded: its outcome, which stands in the log.
        earlier: the record of the same group that it repeats.
        conflicts: the log has its id with other content, longer ago than the engine remembers.
    """

    recorded: dict[int, bytes] = field(default_factory=dict)
    earlier: dict[int, int] = field(default_factory=dict)
    conflicts: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.recorded or self.earlier or self.conflicts)


def find_repeats(engine: Engine, journal: Journal, cleaned: Cleaned) -> Idempotency:
    """Look up every transaction of a cleaned group, in the log and in the group itself."""
    repeats = Idempotency()
    transactions = cleaned.transactions
    contents = _contents(transactions)
    shown = public_ids(transactions)
    in_log = journal.possibly_known(shown)
    first: dict[int, int] = {}
    for row, index in enumerate(cleaned.transaction_index.tolist()):
        identifier, moment, _ = contents[row]
        if identifier in first:
            if contents[first[identifier]] == contents[row]:
                repeats.earlier[index] = int(cleaned.transaction_index[first[identifier]])
            continue
        known = recorded_decision(journal, shown[row]) if shown[row] in in_log else None
        if known is None:
            first[identifier] = row
        elif _content_at(engine, journal, known[0]) == contents[row]:
            repeats.recorded[index] = known[1]
        elif not engine.history.remembered.certainly_knows(identifier, _newest(cleaned, moment)):
            repeats.conflicts.append(index)
    return repeats


def recorded_decision(outcomes: Outcomes, transaction_id: TransactionId) -> tuple[int, bytes] | None:
    """(position, JSON) of the decision about a transaction, or None."""
    return next((found for found in outcomes.find(transaction_id) if found[1].startswith(_DECISION)), None)


def _newest(cleaned: Cleaned, moment: int) -> int:
    return max(moment, int(cleaned.transactions.event_time_seconds.max()))


def _contents(transactions: Transactions) -> list[tuple[int, int, bytes]]:
    """Id, time and digest of each transaction."""
    digests = [digest.tobytes() for digest in transactions.digest]
    columns = (transactions.transaction_id.tolist(), transactions.event_time_seconds.tolist(), digests)
    return list(zip(*columns, strict=True))


def _content_at(engine: Engine, journal: Journal, position: int) -> tuple[int, int, bytes] | None:
    """Id, time and digest of the transaction at a log position."""
    (batch,) = journal.read(position, position + 1)
    return next(iter(_contents(engine.clean(batch).transactions)), None)


def without_repeats(batch: RecordBatch, repeats: Idempotency) -> tuple[RecordBatch, list[int]]:
    """The group's records that go into the log, and which of the group each of them is."""
    kept = [i for i in range(len(batch)) if i not in repeats.recorded and i not in repeats.earlier]
    kinds = batch.kinds.copy()
    kinds[repeats.conflicts] = Kind.CONFLICT_JSON
    chosen = np.array(kept, np.int64)
    part = RecordBatch(
        batch.first_position, kinds[chosen], batch.arrival_time_seconds[chosen], batch.buffer,
        batch.starts[chosen], batch.lengths[chosen],
    )  # fmt: skip
    return part, kept
