"""Where each field of each record stands: views into bytes, whatever the record's form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.errors import CatalogueError
from zaslon.domain.rejections import Reason
from zaslon.intake.text import split_lines

Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]

# A float that is this close to an amount (relative, from 1 on) is that amount: see docs/reference.
BINARY_NOISE = 1e-9
_LOOK_AT_UTF8 = 255  # `split_lines` asks for a look where it saw a byte beyond ASCII


@dataclass
class Fields:
    """Text of n records by field of the catalogue.

    Attributes:
        buffer: the bytes.
        start, length: int64[fields, n]; a length of -1 is an absent field.
        reason: uint8[n], why a record has no fields, 0 where it has.
    """

    buffer: UInt8
    start: Int64
    length: Int64
    reason: UInt8

    def text(self, field: int, record: int) -> bytes:
        """One field's bytes; empty where absent."""
        start, length = int(self.start[field, record]), int(self.length[field, record])
        return self.buffer[start : start + max(length, 0)].tobytes()


@lru_cache(maxsize=64)
def line_columns(catalogue: Catalogue, columns: tuple[str, ...]) -> tuple[int, ...]:
    """Which field of the catalogue each column of a line is; -1 for a column it does not know."""
    names = [f.name for f in catalogue.fields]
    if not columns:
        raise CatalogueError(
            f"Catalogue {catalogue.label} names no record.columns, so lines cannot be read.",
            hint="Name the columns of a line in [record], or send JSON.",
        )
    found = (catalogue.find_field(column) for column in columns)
    return tuple(-1 if field is None else names.index(field.name) for field in found)


def fields_of_lines(
    buffer: UInt8, starts: Int64, lengths: Int64, catalogue: Catalogue,
    columns: tuple[str, ...] | None = None, separator: str | None = None,
) -> Fields:  # fmt: skip
    """Split text lines; `columns` and `separator` are the catalogue's if not given."""
    order = line_columns(catalogue, columns or catalogue.record.columns)
    n = len(starts)
    start, length = np.zeros((n, len(order)), np.int64), np.full((n, len(order)), -1, np.int64)
    reason = np.zeros(n, np.uint8)
    split_lines(
        buffer, starts, lengths, ord(separator or catalogue.record.separator),
        catalogue.record.max_record_bytes, start, length, reason,
    )  # fmt: skip
    for i in np.flatnonzero(reason == _LOOK_AT_UTF8).tolist():
        reason[i] = _utf8_reason(buffer[int(starts[i]) : int(starts[i] + lengths[i])].tobytes(), length[i])
    by_field = np.full((len(catalogue.fields), n), -1, np.int64)
    starts_by_field = np.zeros((len(catalogue.fields), n), np.int64)
    for column, field in enumerate(order):
        if field >= 0:
            starts_by_field[field], by_field[field] = start[:, column], length[:, column]
    by_field[:, reason != 0] = -1
    return Fields(buffer, starts_by_field, by_field, reason)


def _utf8_reason(line: bytes, lengths: Int64) -> int:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return Reason.NOT_TEXT
    if any(ord(c) in range(127, 160) for c in text):
        return Reason.NOT_TEXT
    return Reason.WRONG_FIELD_COUNT if (lengths < 0).any() else 0


def fields_of_json(records: list[bytes], catalogue: Catalogue) -> Fields:
    """Parse JSON objects one by one and write their values as text into one buffer."""
    count, n = len(catalogue.fields), len(records)
    places = {f.name: i for i, f in enumerate(catalogue.fields)}
    start, length = np.zeros((count, n), np.int64), np.full((count, n), -1, np.int64)
    reason = np.zeros(n, np.uint8)
    pieces: list[bytes] = []
    at = 0
    for i, record in enumerate(records):
        content, reason[i] = _object(record, catalogue.record.max_record_bytes)
        for key, value in content.items():
            field = catalogue.find_field(key)
            text = None if field is None else _value_text(value, field, catalogue)
            if field is None or text is None:
                continue
            place = places[field.name]
            start[place, i], length[place, i] = at, len(text)
            pieces.append(text)
            at += len(text)
    return Fields(np.frombuffer(b"".join(pieces), np.uint8), start, length, reason)


def _object(record: bytes, most_bytes: int) -> tuple[dict[str, Any], int]:
    if len(record) > most_bytes:
        return {}, Reason.TOO_LONG
    if not record.strip():
        return {}, Reason.EMPTY
    try:
        content = orjson.loads(record)
    except orjson.JSONDecodeError:
        try:
            record.decode("utf-8")
        except UnicodeDecodeError:
            return {}, Reason.NOT_TEXT
        return {}, Reason.NOT_JSON
    return (content, 0) if isinstance(content, dict) else ({}, Reason.NOT_JSON)


def _without_noise(value: float, digits: int) -> float:
    """17.13 · 5 is 85.64999999999999 in binary: that noise is the type's, not the amount's."""
    exact = round(value, digits)
    return exact if abs(value - exact) <= BINARY_NOISE * max(1.0, abs(value)) else value


def _value_text(value: Any, field: SourceField, catalogue: Catalogue) -> bytes | None:
    if field.role == "amount" and isinstance(value, float):
        value = _without_noise(value, catalogue.minor_digits)
    return _as_text(value)


def _as_text(value: Any) -> bytes | None:
    """A JSON value as the text that a line would hold; None for null."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip(" \t").encode("utf-8", "surrogatepass")
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, float):
        # Without an exponent, as a person would write it: 1e-7 has too many digits, not no form.
        return np.format_float_positional(value, trim="-").encode()
    return orjson.dumps(value)


def concatenated(parts: list[Fields]) -> Fields:
    """The records of several parts behind each other."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0] + [len(p.buffer) for p in parts])
    return Fields(
        np.concatenate([p.buffer for p in parts]),
        np.concatenate([p.start + o for p, o in zip(parts, offsets, strict=False)], axis=1),
        np.concatenate([p.length for p in parts], axis=1),
        np.concatenate([p.reason for p in parts]),
    )


def in_order(fields: Fields, order: Int64) -> Fields:
    """The records in another order."""
    return Fields(fields.buffer, fields.start[:, order], fields.length[:, order], fields.reason[order])
