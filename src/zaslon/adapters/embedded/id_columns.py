"""Transaction ids in a column of integers: a number is stored as itself, a text as its digest.

The column only finds candidates; two texts with one digest are distinguished by their outcomes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import orjson

from zaslon.domain.events import TransactionId

INTEGER_MAX = 2**63 - 1  # SQLite's


def column_value(transaction_id: TransactionId) -> int | None:
    """What the column holds for an id; None, which nothing is equal to, for a number beyond it."""
    if isinstance(transaction_id, str):
        digest = hashlib.blake2b(transaction_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)
    return transaction_id if -INTEGER_MAX <= transaction_id <= INTEGER_MAX else None


def first_of(transaction_id: TransactionId, found: Iterable[tuple[int, bytes]]) -> tuple[int, bytes] | None:
    """The first of the (position, JSON) that the column found that names the id, or None."""
    if isinstance(transaction_id, int):
        return next(iter(found), None)
    return next((row for row in found if _names(transaction_id, row)), None)


def only_of(transaction_id: TransactionId, found: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Of the (position, JSON) that the column found, those that name the id."""
    if isinstance(transaction_id, int):
        return found
    return [row for row in found if _names(transaction_id, row)]


def _names(transaction_id: TransactionId, row: tuple[int, bytes]) -> bool:
    return bool(orjson.loads(row[1])["transaction_id"] == transaction_id)
