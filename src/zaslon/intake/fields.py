"""The place of each field of each record: views into bytes, whatever the record's form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.errors import CatalogueError
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.intake.characters import EXACT_INTEGER_LIMIT, display_text
from zaslon.intake.json_members import member_counts, names_twice
from zaslon.intake.splitting import TEXT_BEHIND_QUOTE, UNCLOSED_QUOTE, byte_classes, split_records

Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]

# A float this close to an amount is that amount (relative, from 1 on): some hundred roundings, and
# still less than a tenth of a minor unit at a billion.
BINARY_NOISE = 1e-13
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # JSON may break lines
# Follows a JSON value that should be a string and is not. No text ends with it, and no id has it.
NO_STRING = "\t"
_WHOLE_ROLES = ("transaction_id", "entity", "elapsed_seconds", "is_fraud", "scenario")


@dataclass
class Fields:
    """Text of n records by field of the catalogue.

    Attributes:
        buffer: the bytes.
        start, length: int64[fields, n]; a length of -1 is an absent field.
        reason: uint8[n], why a record has no fields, 0 where it has.
        problems: the same as a typed problem, by record.
    """

    buffer: UInt8
    start: Int64
    length: Int64
    reason: UInt8
    problems: dict[int, RecordProblem] = field(default_factory=dict)

    def text(self, field: int, record: int) -> bytes:
        """One field's value; empty where absent."""
        start, length = int(self.start[field, record]), int(self.length[field, record])
        return self.buffer[start : start + max(length, 0)].tobytes()

    def part(self, begin: int, end: int) -> Fields:
        """The fields of records [begin, end)."""
        rows = slice(begin, end)
        problems = {i - begin: found for i, found in self.problems.items() if begin <= i < end}
        return Fields(
            self.buffer, np.ascontiguousarray(self.start[:, rows]),
            np.ascontiguousarray(self.length[:, rows]), self.reason[rows], problems,
        )  # fmt: skip

    def reject(self, record: int, reason: Reason, problem: str, expected: str | None = None) -> None:
        """Note that the fields of a record cannot be separated."""
        self.reason[record] = reason
        self.problems[record] = RecordProblem(reason, None, problem, expected)


def fields_of_broken(count: int, catalogue: Catalogue, problem: RecordProblem) -> Fields:
    """The fields of records that break our own code: none."""
    shape = (len(catalogue.fields), count)
    reason = np.full(count, int(problem.reason), np.uint8)
    nothing = np.zeros(0, np.uint8), np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    return Fields(*nothing, reason, dict.fromkeys(range(count), problem))


@lru_cache(maxsize=64)
def line_columns(catalogue: Catalogue, columns: tuple[str, ...]) -> tuple[int, ...]:
    """Which field of the catalogue each column of a line is; -1 for a column that is not read."""
    names = [f.name for f in catalogue.fields]
    if not columns:
        raise CatalogueError(
            f"Catalogue {catalogue.label} names no record.columns, so lines cannot be read.",
            hint="Name the columns of a line in [record], or send JSON.",
        )
    found = (catalogue.find_field(column) for column in columns)
    return tuple(
        -1 if field is None or field.role == "ignored" else names.index(field.name) for field in found
    )


def fields_of_lines(
    buffer: UInt8, starts: Int64, lengths: Int64, catalogue: Catalogue,
    columns: tuple[str, ...] | None = None, separator: str | None = None,
) -> Fields:  # fmt: skip
    """Split text records; `columns` and `separator` are the catalogue's if not given."""
    columns, separator = columns or catalogue.record.columns, separator or catalogue.record.separator
    order = np.array(line_columns(catalogue, columns), np.int64)
    shape = (len(catalogue.fields), len(starts))
    fields = Fields(
        buffer, np.zeros(shape, np.int64), np.full(shape, -1, np.int64), np.zeros(len(starts), np.uint8)
    )
    doubled, found = np.zeros(shape, np.uint8), np.zeros(len(starts), np.int64)
    most = catalogue.record.max_record_bytes
    if split_records(
        buffer, starts, lengths, byte_classes(separator), most, order,
        fields.start, fields.length, doubled, fields.reason, found,
    ):  # fmt: skip
        _undouble(fields, doubled)
    for i in np.flatnonzero(fields.reason).tolist():
        reason = Reason(int(fields.reason[i]))
        fields.reject(i, reason, *_line_problem(reason, int(found[i]), len(columns), separator, most))
    fields.length[:, fields.reason != 0] = -1
    return fields


def _undouble(fields: Fields, doubled: UInt8) -> None:
    """Give fields with doubled quotes their own text, after the buffer's end."""
    pieces, at = [], len(fields.buffer)
    for number, i in np.argwhere(doubled).tolist():
        piece = fields.text(number, i).replace(b'""', b'"')
        fields.start[number, i], fields.length[number, i] = at, len(piece)
        pieces.append(piece)
        at += len(piece)
    fields.buffer = np.concatenate([fields.buffer, np.frombuffer(b"".join(pieces), np.uint8)])


def _line_problem(
    reason: Reason, found: int, columns: int, separator: str, bytes_max: int
) -> tuple[str, str | None]:
    """What is wrong with a record whose fields cannot be separated, and what was expected."""
    if reason != Reason.WRONG_FIELD_COUNT:
        return problem_of_reason(reason, bytes_max)
    if found == UNCLOSED_QUOTE:
        return "A quote is opened and not closed", "a field that begins with a quote to end with one"
    if found == TEXT_BEHIND_QUOTE:
        return "Text follows a closing quote", "quotes inside a quoted field to be doubled"
    count = "1 field" if found == 1 else f"{found} fields"
    return f"The record has {count} separated by {separator!r}", str(columns)


def problem_of_reason(reason: Reason, bytes_max: int) -> tuple[str, str | None]:
    """What is wrong with a record as a whole, and what was expected."""
    return {
        Reason.TOO_LONG: (f"The record is longer than {bytes_max} bytes (max_record_bytes)", None),
        Reason.EMPTY: ("The record is empty", "a transaction"),
        Reason.NOT_TEXT: ("The record is not text: it has control bytes or is not UTF-8", None),
        Reason.NOT_JSON: ("The record is not a JSON object", None),
    }[reason]


def fields_of_json(records: list[bytes], catalogue: Catalogue) -> Fields:
    """Parse JSON objects one by one and write their values as text into one buffer."""
    texts = _JsonTexts(len(records), catalogue)
    for i, (record, members) in enumerate(zip(records, member_counts(records), strict=True)):
        texts.add(i, record, members)
    return texts.fields()


class _JsonTexts:
    """The values of JSON records as texts behind each other, while the records are parsed."""

    def __init__(self, count: int, catalogue: Catalogue) -> None:
        shape = (len(catalogue.fields), count)
        self._fields = Fields(
            np.zeros(0, np.uint8), np.zeros(shape, np.int64), np.full(shape, -1, np.int64),
            np.zeros(count, np.uint8),
        )  # fmt: skip
        self._catalogue, self._keys = catalogue, _Keys(catalogue)
        self._bytes_max = catalogue.record.max_record_bytes
        self._texts: list[bytes] = []
        self._end = 0

    def add(self, record_index: int, record: bytes, members: int) -> None:
        """Parse a record that has so many members, those named twice counted twice, or reject it."""
        content, reason = _object(record, self._bytes_max)
        twice = None
        if not reason:
            twice = self._keys.problem_of_twice(names_twice(record)) if members != len(content) else None
            two_names, reason = self._add_members(record_index, content)
            twice = two_names or twice
        if reason:
            self._fields.reject(record_index, reason, *problem_of_reason(reason, self._bytes_max))
        elif twice is not None:
            self._fields.reject(record_index, Reason.WRONG_FIELD_COUNT, *twice)

    def _add_members(
        self, record_index: int, content: dict[str, Any]
    ) -> tuple[tuple[str, str | None] | None, Reason]:
        """What is wrong where two members mean one field, and why the whole record is rejected, if it is."""
        two_names = None
        spelt: dict[int, str] = {}  # by field
        for key, value in content.items():
            number, field = self._keys.find(key)
            if field is None:
                continue
            if number in spelt:  # which one counts?
                two_names = _two_names(spelt[number], key, field)
            spelt[number] = key
            text = _as_text(value, field, self._catalogue)
            if text is None:
                continue
            if _CONTROL.search(text):
                return two_names, Reason.NOT_TEXT
            self._add_text(number, record_index, text.encode())
        return two_names, Reason.ACCEPTED

    def _add_text(self, number: int, record_index: int, text: bytes) -> None:
        self._fields.start[number, record_index] = self._end
        self._fields.length[number, record_index] = len(text)
        self._texts.append(text)
        self._end += len(text)

    def fields(self) -> Fields:
        """The fields of all records; those of rejected ones are absent."""
        self._fields.length[:, self._fields.reason != 0] = -1
        self._fields.buffer = np.frombuffer(b"".join(self._texts), np.uint8)
        return self._fields


class _Keys:
    """The catalogue's fields by key as it is spelt: few spellings, many records."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._numbers = {f.name: i for i, f in enumerate(catalogue.fields)}
        self._found: dict[str, tuple[int, SourceField | None]] = {}

    def find(self, key: str) -> tuple[int, SourceField | None]:
        """The field's number and the field; None for a key that is not read."""
        if key not in self._found:
            field = self._catalogue.find_field(key)
            is_read = field is not None and field.role != "ignored"
            self._found[key] = (self._numbers[field.name], field) if is_read and field else (-1, None)
        return self._found[key]

    def problem_of_twice(self, keys: Sequence[str]) -> tuple[str, str | None]:
        """What is wrong and what was expected, about one of the keys, all named twice: the first that is read."""
        for key in keys:
            field = self.find(key)[1]
            if field is not None:
                return _two_names(key, key, field)
        return f"The record names {display_text(keys[0].encode())} twice", None


def _two_names(first: str, second: str, field: SourceField) -> tuple[str, str | None]:
    """What is wrong and what was expected, where two names in a record mean one field.

    Neither their case matters nor what is around them, which may be any blanks.
    """
    first, second = first.strip(), second.strip()
    if first.lower() == second.lower():
        name = field.name if first.lower() == field.name.lower() else first
        return f"The record names '{name}' twice", None
    problem = f"The record has '{first}' and '{second}', two names of one field"
    return problem, f"one of them, as '{field.name}'"


def _object(record: bytes, bytes_max: int) -> tuple[dict[str, Any], Reason]:
    if len(record) > bytes_max:
        return {}, Reason.TOO_LONG
    if not record.strip(b" \t\r\n"):
        return {}, Reason.EMPTY
    try:
        content = orjson.loads(record)
    except orjson.JSONDecodeError:
        return {}, Reason.NOT_JSON if _is_json_text(record) else Reason.NOT_TEXT
    return (content, Reason.ACCEPTED) if isinstance(content, dict) else ({}, Reason.NOT_JSON)


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
        return value.strip(" \t")
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
    value = _without_noise(value, minor_digits) if field.role == "amount" else value + 0.0  # no -0.0
    is_out_of_range = abs(value) >= 2.0**63 and field.type == "integer"
    is_exact = abs(value) < EXACT_INTEGER_LIMIT or is_out_of_range
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
    firsts = np.cumsum([0] + [len(p.reason) for p in parts]).tolist()
    return Fields(
        np.concatenate([p.buffer for p in parts]),
        np.concatenate([p.start + o for p, o in zip(parts, offsets, strict=False)], axis=1),
        np.concatenate([p.length for p in parts], axis=1),
        np.concatenate([p.reason for p in parts]),
        {
            first + i: found
            for p, first in zip(parts, firsts, strict=False)
            for i, found in p.problems.items()
        },
    )


def in_order(fields: Fields, order: Int64) -> Fields:
    """The records in another order."""
    new = np.argsort(order).tolist()
    return replace(
        fields, start=fields.start[:, order], length=fields.length[:, order], reason=fields.reason[order],
        problems={new[i]: problem for i, problem in fields.problems.items()},
    )  # fmt: skip
