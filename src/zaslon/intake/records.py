"""Clean transactions and labels as records again: what a file's rows look like in the log.

A record made here and cleaned gives back the same transaction, flags and all, so decisions about
files take the one path that every other ingress takes. Text identifiers are written as their
pseudonyms with a proof: the log of a file never holds the originals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.events import Kind, Labels, Transactions, public_ids
from zaslon.domain.time import SECONDS_PER_DAY, parse_day
from zaslon.intake.pseudonyms import pseudonym_text

_ELAPSED_THAT_DISAGREES = "?"  # no number, so it agrees with no time


def transaction_records(
    transactions: Transactions, catalogue: Catalogue, key: bytes
) -> tuple[list[bytes], Kind]:
    """One record per transaction and their kind: lines where these can hold all fields, else JSON."""
    texts = _by_field(transactions, catalogue, key)
    columns = [catalogue.find_field(name) for name in catalogue.record.columns]
    if texts.keys() <= {field.name for field in columns if field is not None}:
        empty = [""] * len(transactions)
        texts = _with_written_ids(texts, catalogue, lambda text: _in_line(text, catalogue.record.separator))
        values = [empty if field is None else texts.get(field.name, empty) for field in columns]
        return _lines(values, catalogue), Kind.TRANSACTION_LINE
    return _objects(texts, catalogue), Kind.TRANSACTION_JSON


def json_records(transactions: Transactions, catalogue: Catalogue, key: bytes) -> list[bytes]:
    """One JSON object per transaction, all values as text."""
    return _objects(_by_field(transactions, catalogue, key), catalogue)


def _by_field(transactions: Transactions, catalogue: Catalogue, key: bytes) -> dict[str, list[Any]]:
    """Texts of the fields that say something, in the catalogue's order."""
    return {
        field.name: found
        for field in catalogue.fields
        if (found := _texts(field, transactions, catalogue, key)) is not None
    }


def _lines(values: list[list[Any]], catalogue: Catalogue) -> list[bytes]:
    template = catalogue.record.separator.join("{}" for _ in values)
    return [template.format(*row).encode() for row in zip(*values, strict=True)]


def _objects(texts: dict[str, list[Any]], catalogue: Catalogue) -> list[bytes]:
    texts = _with_written_ids(texts, catalogue, _in_json)
    parts = [(f'"{name}":"', values) for name, values in texts.items()]
    template = "{{" + ",".join(name + '{}"' for name, _ in parts) + "}}"
    return [template.format(*row).encode() for row in zip(*(texts for _, texts in parts), strict=True)]


def _with_written_ids(
    texts: dict[str, list[Any]], catalogue: Catalogue, write: Callable[[str], str]
) -> dict[str, list[Any]]:
    """Ids that are texts may hold anything, so they are written with care."""
    if not catalogue.has_text_ids:
        return texts
    field = catalogue.field_of("transaction_id")
    assert field is not None
    return {**texts, field.name: list(map(write, texts[field.name]))}


def _in_line(text: str, separator: str) -> str:
    return '"' + text.replace('"', '""') + '"' if separator in text or '"' in text else text


def _in_json(text: str) -> str:
    return orjson.dumps(text).decode()[1:-1]


def _texts(
    field: SourceField, transactions: Transactions, catalogue: Catalogue, key: bytes
) -> list[Any] | None:
    """The values of one field as plain text, or None where the field says nothing more."""
    if field.role == "transaction_id":
        return list(public_ids(transactions))
    if field.role == "amount":
        return _amounts(transactions, catalogue.minor_digits)
    if field.role == "event_time":
        return _times(field, transactions, catalogue)
    if field.entity is not None:
        keys: list[int] = transactions.entity_keys[field.entity].tolist()
        if field.type == "text":
            written = {value: pseudonym_text(value, key) for value in set(keys)}
            return [written[value] for value in keys]
        return keys
    if field.role == "number":
        return [_number(value) for value in transactions.numbers[field.name].tolist()]
    if field.role == "elapsed_seconds":
        return _elapsed(field, transactions, catalogue)
    return _answers(field, transactions)


def _elapsed(field: SourceField, transactions: Transactions, catalogue: Catalogue) -> list[Any] | None:
    """Only whether it disagreed is kept of a count of seconds, so any other count says the same."""
    disagrees = _flag(transactions, catalogue, "elapsed_disagrees")
    agreeing: list[Any] = [""] * len(transactions)
    if field.required:
        first = parse_day(field.counts_from[0]) * SECONDS_PER_DAY if field.counts_from else 0
        agreeing = (transactions.event_time_seconds - first).tolist()
    elif not disagrees.any():
        return None
    pairs = zip(disagrees.tolist(), agreeing, strict=True)
    return [_ELAPSED_THAT_DISAGREES if odd else seconds for odd, seconds in pairs]


def _answers(field: SourceField, transactions: Transactions) -> list[Any] | None:
    """Answers come back as labels, not with the transaction, unless no record is valid without."""
    if field.role not in ("is_fraud", "scenario") or not field.required:
        return None
    return list(getattr(transactions, field.role).tolist())


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
        b'{"transaction_id":%s,"is_fraud":%s}' % (orjson.dumps(i), b"true" if fraud else b"false")
        for i, fraud in zip(public_ids(labels), labels.is_fraud.tolist(), strict=True)
    ]
