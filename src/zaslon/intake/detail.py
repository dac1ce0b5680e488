"""What goes with a rejection: the field, the value's problem, what was expected."""

from __future__ import annotations

import re

import numpy as np

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.rejections import Reason, RecordProblem
from zaslon.intake.characters import display_text
from zaslon.intake.fields import NO_STRING
from zaslon.intake.identifiers import EXPECTED

_IN_ANOTHER_FORM = re.compile(rb"[+-]?[0-9]+(?:\.0+)?")
_HIDDEN = "has a value that is not shown because the field is pseudonymised"


def problem_of_field(reason: Reason, field: SourceField, value: bytes, catalogue: Catalogue) -> RecordProblem:
    """The problem of a record that is rejected for one of its fields."""
    if reason == Reason.MISSING_FIELD:
        problem = f"is {display_text(value)}, which means that there is no value" if value else "is missing"
        return RecordProblem(reason, field.name, problem, "a value")
    if field.is_text_id and value.endswith(NO_STRING.encode()):
        return RecordProblem(
            reason, field.name, f"is {display_text(value[:-1])} and not a JSON string", EXPECTED
        )
    if field.is_pseudonymised and reason != Reason.UNKNOWN_ENTITY:  # a word for "unknown" names nobody
        return RecordProblem(reason, field.name, _HIDDEN, _problem(reason, field, value, catalogue)[1])
    more, expected = _problem(reason, field, value, catalogue)
    return RecordProblem(reason, field.name, f"is {display_text(value)}{more}", expected)


def _problem(
    reason: Reason, field: SourceField, value: bytes, catalogue: Catalogue
) -> tuple[str, str | None]:
    """What follows the value in the sentence, and what was expected."""
    if form := _form(reason, field, value):
        return "", form
    if reason == Reason.OUT_OF_RANGE:
        return "", EXPECTED if field.is_text_id else _range(field)
    if reason == Reason.UNKNOWN_ENTITY:
        return f", which means an unknown {field.entity or field.name}", None
    if reason == Reason.NOT_A_TIME and field.format == "epoch_seconds":
        return "", "whole seconds since 1970"
    if reason == Reason.TOO_PRECISE:
        return "", f"at most {catalogue.minor_digits} digits behind the point ({catalogue.currency})"
    if reason == Reason.AFTER_ARRIVAL:
        skew = catalogue.record.clock_skew
        return f", more than {skew} after the record arrived", "a time that has passed"
    return "", _EXPECTED[reason]


def _form(reason: Reason, field: SourceField, value: bytes) -> str | None:
    """What was expected where the value is a number that could mean several."""
    if reason == Reason.NOT_AN_INTEGER and field.is_text_key:
        return "all digits of the number: a float or a spreadsheet has rounded it"
    if reason == Reason.NOT_AN_INTEGER and field.is_integer_id and _IN_ANOTHER_FORM.fullmatch(value):
        return "a number without a leading 0 or +: as text they would count"
    if reason == Reason.TOO_PRECISE and value.endswith(b"0"):
        return "no point between thousands, and no third digit behind a decimal point (thousandths)"
    return None


_EXPECTED = {
    Reason.NOT_AN_INTEGER: "a whole number in plain digits",
    Reason.NOT_A_NUMBER: "a plain decimal such as 12.34",
    Reason.NOT_A_TIME: "YYYY-MM-DD HH:MM:SS, in UTC",
    Reason.HOUR_24: "an hour from 00 to 23: 24:00:00 could mean either day",
    Reason.IMPOSSIBLE_TIME: "a time that exists, from 1970 to 2106",
}


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
