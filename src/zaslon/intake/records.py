"""Clean transactions and labels as records again: what a file's rows look like in the log.

A record made here and cleaned gives back the same transaction, flags and all, so decisions about
files take the one path that every other door takes. Text identifiers are written as their
pseudonyms, `key:` and sixteen hex digits: the log of a file never holds the originals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.events import Kind, Labels, Transactions

PSEUDONYM_PREFIX = "key:"
_ELAPSED_THAT_DISAGREES = "-1"


def transaction_records(transactions: Transactions, catalogue: Catalogue) -> tuple[list[bytes], Kind]:
    """One record per transaction and their kind: lines where the catalogue has them, else JSON."""
    if catalogue.record.columns:
        return _lines(transactions, catalogue), Kind.TRANSACTION_LINE
    return _objects(transactions, catalogue), Kind.TRANSACTION_JSON


def _lines(transactions: Transactions, catalogue: Catalogue) -> list[bytes]:
    empty = [""] * len(transactions)
    columns = []
    for name in catalogue.record.columns:
        field = catalogue.find_field(name)
        columns.append((field and _texts(field, transactions, catalogue)) or empty)
    template = catalogue.record.separator.join("{}" for _ in columns)
    return [template.format(*row).encode() for row in zip(*columns, strict=True)]


def _objects(transactions: Transactions, catalogue: Catalogue) -> list[bytes]:
    parts = [
        (f'"{field.name}":"', texts)
        for field in catalogue.fields
        if (texts := _texts(field, transactions, catalogue)) is not None
    ]
    template = "{{" + ",".join(name + '{}"' for name, _ in parts) + "}}"
    return [template.format(*row).encode() for row in zip(*(texts for _, texts in parts), strict=True)]


def _texts(field: SourceField, transactions: Transactions, catalogue: Catalogue) -> list[Any] | None:
    """The values of one field as plain text, or None where the field says nothing more."""
    if field.role == "transaction_id":
        return list(transactions.transaction_id.tolist())
    if field.role == "amount":
        return _amounts(transactions, catalogue.minor_digits)
    if field.role == "event_time":
        return _times(field, transactions, catalogue)
    if field.entity is not None:
        keys: list[int] = transactions.entity_keys[field.entity].tolist()
        if field.type == "text":
            return [f"{PSEUDONYM_PREFIX}{key & 0xFFFFFFFFFFFFFFFF:016x}" for key in keys]
        return keys
    if field.role == "number":
        return [_number(value) for value in transactions.numbers[field.name].tolist()]
    if field.role == "elapsed_seconds":
        disagrees = _flag(transactions, catalogue, "elapsed_disagrees")
        if disagrees.any():
            return [_ELAPSED_THAT_DISAGREES if bad else "" for bad in disagrees.tolist()]
    return None  # answers come back as labels, not with the transaction


def _number(value: float) -> str:
    return "" if np.isnan(value) else np.format_float_positional(value, trim="-")


def _amounts(transactions: Transactions, minor_digits: int) -> list[str]:
    signs = np.where(transactions.amount_minor < 0, "-", "").tolist()
    whole, part = np.divmod(np.abs(transactions.amount_minor), 10**minor_digits)
    if minor_digits == 0:
        return [f"{s}{w}" for s, w in zip(signs, whole.tolist(), strict=True)]
    rows = zip(signs, whole.tolist(), part.tolist(), strict=True)
    return [f"{s}{w}.{p:0{minor_digits}d}" for s, w, p in rows]


def _times(field: SourceField, transactions: Transactions, catalogue: Catalogue) -> list[str]:
    if field.format == "epoch_seconds":
        return [str(t) for t in transactions.event_time_seconds.tolist()]
    moments: list[str] = np.datetime_as_string(
        transactions.event_time_seconds.astype("datetime64[s]")
    ).tolist()
    dropped = _flag(transactions, catalogue, "fraction_of_second_dropped")
    if not dropped.any():
        return moments
    return [m + (".5" if d else "") for m, d in zip(moments, dropped.tolist(), strict=True)]


def _flag(transactions: Transactions, catalogue: Catalogue, name: str) -> NDArray[np.bool_]:
    bit = np.uint32(catalogue.flag_names.index(name))
    return (transactions.flags >> bit & np.uint32(1)).astype(np.bool_)


def label_records(labels: Labels) -> list[bytes]:
    """One JSON object per label."""
    return [
        b'{"transaction_id":%d,"is_fraud":%s}' % (i, b"true" if fraud else b"false")
        for i, fraud in zip(labels.transaction_id.tolist(), labels.is_fraud.tolist(), strict=True)
    ]
