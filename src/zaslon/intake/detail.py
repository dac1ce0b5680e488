"""The sentence that goes with a rejection: the field, the value's problem, what was expected."""

from __future__ import annotations

import numpy as np

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.rejections import Reason
from zaslon.intake.fields import NO_STRING, Fields
from zaslon.intake.identifiers import EXPECTED

_VALUE_CHARACTERS_MAX = 60


def shown(value: bytes) -> str:
    """A value as it can be printed: escaped, and cut where it is long."""
    text = value.decode("utf-8", "backslashreplace")
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(printable) > _VALUE_CHARACTERS_MAX:
        printable = printable[:_VALUE_CHARACTERS_MAX] + "…"
    return f"'{printable}'"


def detail_of_field(reason: Reason, field: SourceField, value: bytes, catalogue: Catalogue) -> str:
    """One sentence about a record that is rejected for one of its fields."""
    if reason == Reason.MISSING_FIELD:
        return f"Field '{field.name}' is missing; expected a value."
    if field.is_text_id and value.endswith(NO_STRING.encode()):
        return f"Field '{field.name}' is {shown(value[:-1])} and no JSON string; expected {EXPECTED}."
    return f"Field '{field.name}' is {shown(value)}{_problem(reason, field, value, catalogue)}"


def detail_of_record(reason: Reason, fields: Fields, catalogue: Catalogue) -> str:
    """One sentence about a record whose fields cannot be told apart."""
    return {
        Reason.TOO_LONG: f"The record is longer than {catalogue.record.max_record_bytes} bytes "
        "(max_record_bytes).",
        Reason.EMPTY: "The record is empty; expected a transaction.",
        Reason.NOT_TEXT: "The record is not text: it has control bytes or is not UTF-8.",
        Reason.NOT_JSON: "The record is not a JSON object.",
        Reason.WRONG_FIELD_COUNT: _miscounted(fields),
    }[reason]


def _miscounted(fields: Fields) -> str:
    if not fields.columns:
        return "The record names a field twice."
    return (
        f"The record does not have {fields.columns} fields separated by {shown(fields.separator.encode())}, "
        "or it names a field twice."
    )


def _problem(reason: Reason, field: SourceField, value: bytes, catalogue: Catalogue) -> str:
    """What follows the value in the sentence."""
    if reason == Reason.OUT_OF_RANGE:
        return f"; expected {EXPECTED if field.is_text_id else _range(field)}."
    if reason == Reason.UNKNOWN_ENTITY:
        return _unknown(field, value)
    if reason == Reason.NOT_A_TIME and field.format == "epoch_seconds":
        return "; expected whole seconds since 1970."
    if reason == Reason.TOO_PRECISE:
        return f"; expected at most {catalogue.minor_digits} digits behind the point ({catalogue.currency})."
    if reason == Reason.AFTER_ARRIVAL:
        skew = catalogue.record.clock_skew
        return f", more than {skew} after the record arrived; expected a time that has passed."
    return _EXPECTED.get(reason, f": {reason.code}.")


_EXPECTED = {
    Reason.NOT_AN_INTEGER: "; expected a whole number in plain digits.",
    Reason.NOT_A_NUMBER: "; expected a plain decimal such as 12.34.",
    Reason.NOT_A_TIME: "; expected YYYY-MM-DD HH:MM:SS, in UTC.",
    Reason.HOUR_24: "; expected an hour from 00 to 23: 24:00:00 could mean either day.",
    Reason.IMPOSSIBLE_TIME: "; expected a time that exists, from 1970 to 2106.",
}


def _unknown(field: SourceField, value: bytes) -> str:
    entity = field.entity or field.name
    if value.decode("utf-8", "replace") in field.unknown:
        return f", which stands for an unknown {entity}."
    return f"; expected a {entity}, or a pseudonym that was made with this key."


def _range(field: SourceField) -> str:
    widest = "10^15 of the smallest unit" if field.role == "amount" else "64 bits"
    if field.role == "is_fraud":
        return "0 or 1"
    if field.minimum is not None and field.maximum is not None:
        return f"{_plain(field.minimum)} to {_plain(field.maximum)}"
    if field.minimum is not None:
        return f"{_plain(field.minimum)} or more, within {widest}"
    if field.maximum is not None:
        return f"{_plain(field.maximum)} or less, within {widest}"
    return f"a number within {widest}"


def _plain(bound: float) -> str:
    """A bound as a record would have to write it: no exponent."""
    return str(bound) if isinstance(bound, int) else np.format_float_positional(bound, trim="-")
