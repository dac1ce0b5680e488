"""Where each field of each record stands: views into bytes, whatever the record's form."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.errors import CatalogueError
from zaslon.domain.rejections import Reason
from zaslon.intake.text import LOOK_AT_UTF8, LOOK_AT_UTF8_MISCOUNTED, split_lines

Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]

# A float this close to an amount is that amount (relative, from 1 on): some hundred roundings, and
# still less than a tenth of a minor unit at a billion.
BINARY_NOISE = 1e-13
# From here on a float stands for several integers.
EXACT_INTEGER_LIMIT = 2.0**53
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # JSON may break lines
# Stands behind a JSON value that is no string and should be one. No text ends with it, and no id has it.
NO_STRING = "\t"
_WHOLE_ROLES = ("transaction_id", "entity", "elapsed_seconds", "is_fraud", "scenario")


@dataclass
class Fields:
    """Text of n records by field of the catalogue.

    Attributes:
        buffer: the bytes; a quote inside a value is doubled.
        start, length: int64[fields, n]; a length of -1 is an absent field.
        reason: uint8[n], why a record has no fields, 0 where it has.
        columns, separator: how many fields a line must have (0: there are no lines), parted by what.
    """

    buffer: UInt8
    start: Int64
    length: Int64
    reason: UInt8
    columns: int
    separator: str

    def text(self, field: int, record: int) -> bytes:
        """One field's value; empty where absent."""
        start, length = int(self.start[field, record]), int(self.length[field, record])
        return self.buffer[start : start + max(length, 0)].tobytes().replace(b'""', b'"')


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
    columns, separator = columns or catalogue.record.columns, separator or catalogue.record.separator
    order = np.array(line_columns(catalogue, columns), np.int64)
    shape = (len(catalogue.fields), len(starts))
    start, length = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    reason = np.zeros(len(starts), np.uint8)
    split_lines(
        buffer, starts, lengths, ord(separator), catalogue.record.max_record_bytes,
        order, start, length, reason,
    )  # fmt: skip
    for i in np.flatnonzero(reason >= LOOK_AT_UTF8_MISCOUNTED).tolist():
        line = buffer[int(starts[i]) : int(starts[i] + lengths[i])].tobytes().removesuffix(b"\n")
        if not _is_text(line.removesuffix(b"\r")):
            reason[i] = Reason.NOT_TEXT
        else:
            reason[i] = 0 if reason[i] == LOOK_AT_UTF8 else Reason.WRONG_FIELD_COUNT
    length[:, reason != 0] = -1
    return Fields(buffer, start, length, reason, len(columns), separator)


def _is_text(line: bytes) -> bool:
    try:
        return _CONTROL.search(line.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False


def fields_of_json(records: list[bytes], catalogue: Catalogue) -> Fields:
    """Parse JSON objects one by one and write their values as text into one buffer."""
    shape = (len(catalogue.fields), len(records))
    places = {f.name: i for i, f in enumerate(catalogue.fields)}
    start, length = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    reason = np.zeros(len(records), np.uint8)
    fields: dict[str, SourceField | None] = {}  # by key as it is spelt: few spellings, many records
    pieces: list[bytes] = []
    at = 0
    for i, record in enumerate(records):
        content, reason[i] = _object(record, catalogue.record.max_record_bytes)
        for key, value in content.items():
            if key not in fields:
                found = catalogue.find_field(key)
                fields[key] = None if found is None or found.role == "ignored" else found
            field = fields[key]
            text = None if field is None else _as_text(value, field, catalogue)
            if field is None or text is None:
                continue
            place = places[field.name]
            if length[place, i] >= 0:
                reason[i] = Reason.WRONG_FIELD_COUNT  # two spellings of one field: which one counts?
            if _CONTROL.search(text):
                reason[i] = Reason.NOT_TEXT
                break
            piece = text.encode()
            start[place, i], length[place, i] = at, len(piece)
            pieces.append(piece)
            at += len(piece)
    length[:, reason != 0] = -1
    buffer, layout = np.frombuffer(b"".join(pieces), np.uint8), catalogue.record
    # As lines have them: what a record is told must not depend on what stands beside it in a batch.
    return Fields(buffer, start, length, reason, len(layout.columns), layout.separator)


def _object(record: bytes, most_bytes: int) -> tuple[dict[str, Any], int]:
    if len(record) > most_bytes:
        return {}, Reason.TOO_LONG
    if not record.strip(b" \t\r\n"):
        return {}, Reason.EMPTY
    try:
        content = orjson.loads(record)
    except orjson.JSONDecodeError:
        return {}, Reason.NOT_JSON if _is_json_text(record) else Reason.NOT_TEXT
    return (content, 0) if isinstance(content, dict) else ({}, Reason.NOT_JSON)


def _is_json_text(record: bytes) -> bool:
    try:
        record.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return _CONTROL_BYTES.search(record) is None


def _without_noise(value: float, digits: int) -> float:
    """17.13 · 5 is 85.64999999999999 in binary: that noise is the type's, not the amount's."""
    exact = round(value, digits)
    return exact if abs(value - exact) <= BINARY_NOISE * max(1.0, abs(value)) else value


def _as_text(value: Any, field: SourceField, catalogue: Catalogue) -> str | None:
    """A JSON value as a line would hold it; None for null."""
    if isinstance(value, str):
        return value.strip(" \t").replace('"', '""')
    if field.is_text_id and value is not None:
        return _no_string(value)
    if isinstance(value, float):
        return _float_text(value, field, catalogue.minor_digits)
    if isinstance(value, bool):
        return str(int(value)) if field.role == "is_fraud" else str(value).lower()
    if isinstance(value, int):
        return str(value)
    if value is None:
        return None
    # A list or an object: never a number, and no text either (a control byte, so NOT_TEXT).
    return "\0" if field.type == "text" else ("[…]" if isinstance(value, list) else "{…}")


def _no_string(value: Any) -> str:
    """A number where an id is a text: digits get lost on the way, and 7 and "7" and 7.0 would be one."""
    if isinstance(value, list | dict):
        return ("[…]" if isinstance(value, list) else "{…}") + NO_STRING
    return str(value).lower() + NO_STRING


def _float_text(value: float, field: SourceField, minor_digits: int) -> str:
    if field.role == "amount":
        value = _without_noise(value, minor_digits)
    is_exact = abs(value) < EXACT_INTEGER_LIMIT or abs(value) >= 2.0**63  # those are out of range
    trim = "0" if field.role in _WHOLE_ROLES and not is_exact else "-"
    text = repr(value)
    if trim == "-" and text[-1].isdecimal() and "e" not in text:
        return text.removesuffix(".0")
    # Without an exponent, as a person would write it: 1e-7 has too many digits, not no form.
    return np.format_float_positional(value, trim=trim)  # type: ignore[arg-type]


def concatenated(parts: list[Fields]) -> Fields:
    """The records of several parts behind each other."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0] + [len(p.buffer) for p in parts])
    return replace(
        parts[0],
        buffer=np.concatenate([p.buffer for p in parts]),
        start=np.concatenate([p.start + o for p, o in zip(parts, offsets, strict=False)], axis=1),
        length=np.concatenate([p.length for p in parts], axis=1),
        reason=np.concatenate([p.reason for p in parts]),
    )


def in_order(fields: Fields, order: Int64) -> Fields:
    """The records in another order."""
    return replace(
        fields, start=fields.start[:, order], length=fields.length[:, order], reason=fields.reason[order]
    )
