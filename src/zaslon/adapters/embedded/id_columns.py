"""Transaction ids in a column of integers: a number is stored as itself, a text as its digest.

The column only finds candidates; two texts with one digest are distinguished by their outcomes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from zaslon.domain.events import TransactionId
from zaslon.domain.recorded import Recorded

INTEGER_MAX = 2**63 - 1  # SQLite's


def column_value(transaction_id: TransactionId) -> int | None:
    """What the column holds for an id; None, which nothing is equal to, for a number beyond it."""
    if isinstance(transaction_id, str):
        digest = hashlib.blake2b(transaction_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)
    return transaction_id if -INTEGER_MAX <= transaction_id <= INTEGER_MAX else None


def first_of(transaction_id: TransactionId, rows: Iterable[tuple[int, bytes]]) -> Recorded | None:
    """The first of the (position, JSON) that the column found that names the id, or None."""
    return next(_naming(transaction_id, rows), None)


def only_of(transaction_id: TransactionId, rows: Iterable[tuple[int, bytes]]) -> list[Recorded]:
    """Of the (position, JSON) that the column found, those that name the id."""
    return list(_naming(transaction_id, rows))


def _naming(transaction_id: TransactionId, rows: Iterable[tuple[int, bytes]]) -> Iterator[Recorded]:
    is_sure = isinstance(transaction_id, int)
    for row in rows:
        recorded = Recorded(*row)
        if is_sure or recorded.outcome.transaction_id == transaction_id:
            yield recorded
