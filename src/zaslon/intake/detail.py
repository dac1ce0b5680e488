"""The sentence that goes with a rejection: the field, the value's problem, what was expected."""

from __future__ import annotations

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.rejections import Reason

_VALUE_CHARACTERS_MAX = 60


def shown(value: bytes) -> str:
    """A value as it can be printed: escaped, and cut where it is long."""
    text = value.decode("utf-8", "backslashreplace")
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(printable) > _VALUE_CHARACTERS_MAX:
        printable = printable[:_VALUE_CHARACTERS_MAX] + "…"
    return f"'{printable}'"


def detail_of(reason: Reason, field: SourceField | None, value: bytes, catalogue: Catalogue) -> str:
    """One sentence about one rejected record."""
    if field is None:
        return _of_record(reason, catalogue)
    return f"Field '{field.name}' {_problem(reason, field, value, catalogue)}"


def _of_record(reason: Reason, catalogue: Catalogue) -> str:
    columns = len(catalogue.record.columns)
    return {
        Reason.EMPTY: "The record is empty; expected a transaction.",
        Reason.TOO_LONG: "The record is longer than "
        f"{catalogue.record.max_record_bytes} bytes (max_record_bytes).",
        Reason.NOT_TEXT: "The record is not text: it has control bytes or is not UTF-8.",
        Reason.NOT_JSON: "The record is not a JSON object.",
        Reason.WRONG_FIELD_COUNT: f"The record does not have {columns} fields separated by "
        f"'{catalogue.record.separator}'.",
    }.get(reason, f"The record was rejected: {reason.code}.")


def _problem(reason: Reason, field: SourceField, value: bytes, catalogue: Catalogue) -> str:
    got = shown(value)
    if reason == Reason.OUT_OF_RANGE:
        return f"is {got}; expected {_range(field)}."
    return {
        Reason.MISSING_FIELD: "is missing; expected a value.",
        Reason.NOT_AN_INTEGER: f"is {got}; expected a whole number in plain digits.",
        Reason.NOT_A_NUMBER: f"is {got}; expected a plain decimal such as 12.34.",
        Reason.NOT_A_TIME: f"is {got}; expected YYYY-MM-DD HH:MM:SS.",
        Reason.TOO_PRECISE: f"is {got}; expected at most {catalogue.minor_digits} digits behind "
        f"the point ({catalogue.currency}).",
        Reason.UNKNOWN_ENTITY: f"is {got}, which stands for an unknown {field.entity or field.name}.",
        Reason.HOUR_24: f"is {got}; expected an hour from 00 to 23: 24:00:00 could mean either day.",
        Reason.IMPOSSIBLE_TIME: f"is {got}; expected a time that exists, from 1970 to 2106.",
        Reason.AFTER_ARRIVAL: f"is {got}, more than {catalogue.record.clock_skew} after the record "
        "arrived; expected a time that has passed.",
    }.get(reason, f"is {got}: {reason.code}.")


def _range(field: SourceField) -> str:
    if field.role == "is_fraud":
        return "0 or 1"
    if field.minimum is not None and field.maximum is not None:
        return f"{field.minimum:g} to {field.maximum:g}"
    if field.minimum is not None:
        return f"{field.minimum:g} or more, within 64 bits"
    if field.maximum is not None:
        return f"{field.maximum:g} or less, within 64 bits"
    return "a number within 64 bits"
